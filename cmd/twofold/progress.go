package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// trainingLine shows on one line of a terminal how far a training set is; anywhere else it shows nothing.
type trainingLine struct {
	*progressLine
	text progressText
}

// trainingProgress returns a line for a training set of these entity rows, nil where they are not read here.
func (a *app) trainingProgress(rows *entityRows) *trainingLine {
	p := &trainingLine{a.progress(), progressText{entityRows: -1}}
	if rows != nil {
		p.text.entityRows = rows.NumRows()
	}
	return p
}

// update shows another moment.
func (p *trainingLine) update(at client.Progress) {
	if p.isShown() {
		p.show(p.text.at(time.Now(), at))
	}
}

// progressLine is one line of a terminal; where there is none it shows nothing.
type progressLine struct {
	bar      *progressbar.ProgressBar // nil where nothing is shown
	terminal *os.File
}

// progress returns a line on standard error.
func (a *app) progress() *progressLine {
	file, ok := asFile(a.err)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return &progressLine{}
	}
	p := &progressLine{terminal: file}
	p.bar = progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(file),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetSpinnerChangeInterval(0), // with each text, not by a goroutine
		progressbar.OptionSpinnerType(14),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionClearOnFinish(),
	)
	return p
}

func (p *progressLine) isShown() bool { return p.bar != nil }

// show replaces what the line says, in ASCII.
func (p *progressLine) show(text string) {
	if !p.isShown() {
		return
	}
	// A line that is wider than the terminal could not be taken back.
	const spinner = 5
	if width, _, err := term.GetSize(int(p.terminal.Fd())); err == nil && width > spinner && len(text) > width-spinner {
		text = text[:width-spinner]
	}
	p.bar.Describe(text)
}

// finish takes the line away.
func (p *progressLine) finish() {
	if p.bar != nil {
		_ = p.bar.Finish() // a courtesy
	}
}

// progressText puts into words how far a training set is. Its texts are ASCII.
type progressText struct {
	// entityRows is how many will be sent; −1 where that is not known.
	entityRows int64

	step, whole rateMeter
}

// at returns the text of a moment.
func (t *progressText) at(now time.Time, p client.Progress) string {
	s := p.Server
	done := max(p.RowsReceived, s.GetRowsDone())
	phase := s.GetPhase()
	if done > s.GetRowsDone() {
		phase = twofoldv1.HistoricalProgress_PHASE_SENDING // rows say more than what the server last said
	}
	var step, rate string
	matched := shortCount(s.GetRowsMatched()) + " matched"
	switch phase {
	case twofoldv1.HistoricalProgress_PHASE_WAITING_FOR_MEMORY:
		return "waiting for memory that other training sets use"
	case twofoldv1.HistoricalProgress_PHASE_SCANNING:
		step = sentence("scanning "+shortOf(s.GetRowsScanned(), s.GetFeatureRows())+" feature rows", matched)
		rate = t.step.rate(now, fmt.Sprint("scanning", s.GetPart()), s.GetRowsScanned(), s.GetFeatureRows())
	case twofoldv1.HistoricalProgress_PHASE_GATHERING:
		step = sentence("reading values", shortCount(s.GetRowGroupsLeft())+" row groups left", matched)
	case twofoldv1.HistoricalProgress_PHASE_SENDING:
		step = "writing"
		if s.GetParts() <= 1 {
			step += " " + shortOf(done, s.GetEntityRows()) + " rows"
		}
		rate = t.step.rate(now, "writing", done, s.GetEntityRows())
	default:
		return t.reading(now, p)
	}
	if s.GetParts() <= 1 {
		return sentence(step, rate)
	}
	// Steps of parts come and go; what tells is how far the whole is, as soon as rows have come of it.
	if whole := t.whole.rate(now, "whole", done, s.GetEntityRows()); whole != "" {
		rate = whole
	}
	return sentence(fmt.Sprintf("part %d of %d", s.GetPart(), s.GetParts()), shortOf(done, s.GetEntityRows())+" rows done", rate, step)
}

// reading is the text while entity rows are read.
func (t *progressText) reading(now time.Time, p client.Progress) string {
	came, total := p.Server.GetEntityRows(), uint64(max(0, t.entityRows)) //nolint:gosec // not negative
	sent := ""
	if p.BytesSent > 0 {
		sent = fmt.Sprintf("%d MiB sent", p.BytesSent>>20)
	}
	return sentence("reading "+shortOf(came, total)+" entity rows", sent, t.step.rate(now, "reading", came, total))
}

// minMeasured is how long a stage must have lasted for its rate to mean something.
const minMeasured = 500 * time.Millisecond

// rateMeter measures how fast a stage goes.
type rateMeter struct {
	// The stage, when it began, and its count then.
	stage string
	since time.Time
	from  uint64
}

// rate returns the rate of a stage since it began and the time that it will still take at that rate, in words; empty where neither is known. total is 0
// where it is not known.
func (m *rateMeter) rate(now time.Time, stage string, done, total uint64) string {
	if m.stage != stage || done < m.from {
		m.stage, m.since, m.from = stage, now, done
	}
	took := now.Sub(m.since)
	if took < minMeasured || done == m.from {
		return ""
	}
	perSecond := float64(done-m.from) / took.Seconds()
	text := shortCount(uint64(perSecond)) + " rows/s"
	if total > done {
		left := time.Duration(float64(total-done) / perSecond * float64(time.Second))
		text += ", " + left.Round(time.Second).String() + " left"
	}
	return text
}

// sentence joins what there is to say.
func sentence(parts ...string) string {
	var said []string
	for _, part := range parts {
		if part != "" {
			said = append(said, part)
		}
	}
	return strings.Join(said, ", ")
}

// shortOf is "done of total", or done where the total is not known.
func shortOf(done, total uint64) string {
	if total == 0 {
		return shortCount(done)
	}
	return shortCount(done) + " of " + shortCount(total)
}

// shortCount is a number in few characters: 9999, 12.3k, 1.23M, 4.56G.
func shortCount(n uint64) string {
	if n < 10_000 {
		return strconv.FormatUint(n, 10)
	}
	x, unit := float64(n)/1e3, "k"
	for _, larger := range []string{"M", "G", "T"} {
		if x < 999.5 {
			break
		}
		x, unit = x/1e3, larger
	}
	digits := 2
	switch {
	case x >= 99.95:
		digits = 0
	case x >= 9.995:
		digits = 1
	}
	return strconv.FormatFloat(x, 'f', digits, 64) + unit
}
