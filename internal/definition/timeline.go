package definition

import (
	"math"
	"strings"
	"time"
)

// timelineWidth is how many marks a timeline has.
const timelineWidth = 60

// The marks of a timeline.
const (
	markServed = '='
	markAbsent = '.'
	markRun    = '^'
	markMissed = 'x'
)

// axis is a representative time of a plan, in microseconds after its beginning.
type axis struct {
	length int64
	// gaps in order. They may overlap and reach beyond the axis.
	gaps []stretch
	runs []plannedRun
	// ends are what is written at both ends; empty is nothing.
	ends [2]string
}

// plannedRun is the start of a run.
type plannedRun struct {
	at    int64
	label string
	// missed is whether it is one of those that may fail.
	missed bool
}

// timeline draws when features are there and when they are absent, in three lines: marks, runs, legend.
func (p plan) timeline() []string {
	var a axis
	if p.timetable != nil {
		a = p.timetableAxis()
	} else {
		a = p.intervalAxis()
	}
	legend := string(markServed) + " served   " + string(markAbsent) + " absent   " + string(markRun) + " a run starts"
	if p.missed > 0 {
		legend += "   " + string(markMissed) + " a run is missed"
	}
	return []string{a.marks(), a.ticks(), legend}
}

// shownIntervals is how many intervals are drawn where no run may fail.
const shownIntervals = 3

// intervalAxis begins with a run. The runs that may fail come next; where a run takes longer than the interval they are so much earlier that
// what they lead to is drawn.
func (p plan) intervalAxis() axis {
	shown := p.missed + 2
	if p.missed == 0 {
		shown = shownIntervals
	}
	good := -p.runTime / p.interval // the run before those that fail
	missed := func(run int64) bool { return run > good && run <= good+p.missed }
	a := axis{length: shown * p.interval}
	for run := range shown {
		a.runs = append(a.runs, plannedRun{at: run * p.interval, label: formatOffset(run * p.interval), missed: missed(run)})
	}
	if p.never() {
		a.gaps = []stretch{{0, a.length}}
		return a
	}
	for run := good - 1; ; run++ {
		g := stretch{run*p.interval - p.delay + p.ttl, (run+1)*p.interval + p.runTime}
		switch {
		case g.from >= a.length:
			return a
		case run == good:
			g.until += p.missed * p.interval
		case missed(run):
			continue
		}
		if g.until > g.from {
			a.gaps = append(a.gaps, g)
		}
	}
}

// formatOffset writes a time after the beginning of a timeline.
func formatOffset(micros int64) string {
	if micros == 0 {
		return "0"
	}
	return formatMicros(micros)
}

// maxDrawnGaps is how many gaps of a day or week are drawn: more would not be told apart.
const maxDrawnGaps = 12

// timetableAxis is a usual day or week or, where there are no gaps in it, the longest time between two runs that succeed.
func (p plan) timetableAxis() axis {
	begin, gaps := p.usualGaps()
	if p.missed > 0 || len(gaps) == 0 || len(gaps) > maxDrawnGaps {
		return p.longestAxis()
	}
	period := p.timetable.schedule.Period()
	a, clock := axis{length: micros64(period), ends: [2]string{"00:00", "24:00"}}, formatClock
	if period > 24*time.Hour {
		a.ends, clock = [2]string{"Mon 00:00", ""}, formatWeekClock
	}
	for run := p.timetable.schedule.Next(begin.Add(-time.Second)); run.Before(begin.Add(period)); run = p.timetable.schedule.Next(run) {
		a.runs = append(a.runs, plannedRun{at: micros64(run.Sub(begin)), label: clock(run)})
	}
	if p.never() {
		gaps = []stretch{{0, a.length}}
	}
	for _, g := range gaps {
		back := g.from / a.length * a.length
		for _, shift := range []int64{back + a.length, back} { // the day before's reaches into this one
			a.gaps = append(a.gaps, stretch{g.from - shift, g.until - shift})
		}
	}
	return a
}

// maxDrawnRuns bounds the runs that are looked at for a timeline.
const maxDrawnRuns = 5000

// longestAxis is the longest time between two runs that succeed, with what follows.
func (p plan) longestAxis() axis {
	a := axis{length: p.stretch + p.runTime + p.stretch/6}
	a.gaps = []stretch{{p.ttl - p.delay, p.stretch + p.runTime}}
	if p.never() {
		a.length = min(a.length, 2*p.stretch+p.stretch/6)
		a.gaps = []stretch{{0, a.length}}
	}
	at, before := p.start, int64(0)
	for i := range int64(maxDrawnRuns) {
		since := at.UnixMicro() - p.start.UnixMicro()
		if i > p.missed+1 && since+p.runTime > before-p.delay+p.ttl {
			a.gaps = append(a.gaps, stretch{before - p.delay + p.ttl, since + p.runTime})
		}
		if since >= a.length {
			break
		}
		a.runs = append(a.runs, plannedRun{at: since, label: at.Format("2 Jan 15:04"), missed: i > 0 && i <= p.missed})
		at, before = p.timetable.schedule.Next(at), since
	}
	return a
}

// marks draws a mark for each part of the axis: what most of it is, but no gap is left out, however short.
func (a axis) marks() string {
	var absent [timelineWidth]float64
	for _, g := range a.gaps {
		from, until := a.cell(g.from), a.cell(g.until)
		for i := range absent {
			absent[i] += max(0, min(until, float64(i+1))-max(from, float64(i)))
		}
	}
	marks := []byte(strings.Repeat(string(markServed), timelineWidth))
	for i := range marks {
		if absent[i] > 0.5 {
			marks[i] = markAbsent
		}
	}
	for _, g := range a.gaps {
		from, until := max(0, a.cell(g.from)), min(timelineWidth, a.cell(g.until))
		if until <= from {
			continue
		}
		first, end := int(from), int(math.Ceil(until))
		if !strings.ContainsRune(string(marks[first:end]), markAbsent) {
			marks[min(int((from+until)/2), timelineWidth-1)] = markAbsent
		}
	}
	return string(marks)
}

// cell is where on the line a moment is.
func (a axis) cell(at int64) float64 { return float64(at) / float64(a.length) * timelineWidth }

// ticks draws the starts of the runs, each with its time where there is room.
func (a axis) ticks() string {
	line := []byte(strings.Repeat(" ", timelineWidth+len("24:00")))
	for _, run := range a.runs {
		i := min(int(a.cell(run.at)), timelineWidth-1)
		switch {
		case run.missed && line[i] == ' ':
			line[i] = markMissed
		case !run.missed:
			line[i] = markRun
		}
	}
	write := func(at int, text string) {
		end := at + len(text)
		if end <= len(line) && strings.TrimSpace(string(line[at:min(end+1, len(line))])) == "" {
			copy(line[at:], text)
		}
	}
	write(0, a.ends[0])
	if line[timelineWidth-1] == ' ' {
		write(timelineWidth, a.ends[1])
	}
	for _, run := range a.runs {
		write(min(int(a.cell(run.at)), timelineWidth-1)+1, run.label)
	}
	return strings.TrimRight(string(line), " ")
}
