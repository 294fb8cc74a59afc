package main

import (
	"fmt"
	"time"

	"github.com/twofold-ml/twofold/syncer"
)

// progressInterval is the time between two lines about a run that takes long, and lineInterval between two changes of a terminal's one line.
const (
	progressInterval = 10 * time.Second
	lineInterval     = 200 * time.Millisecond
)

// syncProgress puts into words how far runs are.
type syncProgress struct {
	meter rateMeter
}

// at returns the text of a moment.
func (s *syncProgress) at(now time.Time, p syncer.Progress) string {
	stage, done, total := "read", p.RowsRead, p.RowsToRead
	if p.RowsToWrite > 0 {
		stage, done, total = "written", p.RowsWritten, p.RowsToWrite
	}
	rows, all := uint64(max(0, done)), uint64(max(0, total)) //nolint:gosec // not negative
	return sentence(shortOf(rows, all)+" rows "+stage, s.meter.rate(now, p.View+stage, rows, all))
}

// onceProgress tells how far a run once is: on a terminal's one line or, where there is no terminal, in a line now and then. The caller finishes the line.
func (a *app) onceProgress() (o syncer.Options, line *progressLine) {
	line = a.progress()
	var words syncProgress
	o.ProgressInterval = progressInterval
	if line.isShown() {
		o.ProgressInterval = lineInterval
	}
	o.OnProgress = func(p syncer.Progress) {
		text := p.View + ": " + words.at(time.Now(), p)
		if line.isShown() {
			line.show(text)
		} else {
			fmt.Fprintln(a.err, text)
		}
	}
	return o, line
}

// loggedProgress tells in the log how far runs are that take long.
func (p *process) loggedProgress() syncer.Options {
	var words syncProgress
	return syncer.Options{ProgressInterval: progressInterval, OnProgress: func(at syncer.Progress) {
		p.log.Info("sync under way", "feature_view", at.View, "progress", words.at(time.Now(), at))
	}}
}
