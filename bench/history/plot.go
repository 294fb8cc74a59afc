package main

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/twofold-ml/twofold/bench/internal/stats"
)

// series is one line of the plot.
type series struct {
	name, colour string
	points       []point
}

// point is a mark of a line: million feature rows and megabytes.
type point struct{ x, y float64 }

// plotted are the contenders that the plot shows, by key.
var plotted = []struct{ key, name, colour string }{
	{exactKey, "DuckDB, exact ASOF join", "#b4531f"},
	{asofKey, "DuckDB, plain ASOF join", "#d9a441"},
	{hashKey, "DuckDB, hash join", "#5b8c5a"},
	{"", "twofold serve", "#2457a6"},
}

// plot writes the memory curve, where it was asked for.
func (b *bench) plot() error {
	if b.o.plot == "" {
		return nil
	}
	lines := curve(b.results)
	if len(lines) == 0 {
		return fmt.Errorf("--plot %s: no cases differ in feature rows only; measure some: --cases 10Mx1M,25Mx1M, or --full", b.o.plot)
	}
	if err := os.WriteFile(b.o.plot, svg(lines), 0o644); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	return nil
}

// curve returns the peaks of the cases with one view in time order and as many entity rows as the first of them; nothing where that is one.
func curve(results []*result) []series {
	var entities int64
	var cases []*result
	for _, r := range results {
		if !sizes.MatchString(r.name) || entities != 0 && r.entities.rows != entities {
			continue
		}
		entities = r.entities.rows
		cases = append(cases, r)
	}
	if len(cases) < 2 {
		return nil
	}
	slices.SortFunc(cases, func(a, b *result) int { return cmp.Compare(a.featureRows(), b.featureRows()) })
	var lines []series
	for _, p := range plotted {
		line := series{name: p.name, colour: p.colour}
		for _, r := range cases {
			if who, ok := r.find(p.key); ok {
				line.points = append(line.points, point{float64(r.featureRows()) / million, stats.Median(r.of(who, peakColumn))})
			}
		}
		if len(line.points) > 0 {
			lines = append(lines, line)
		}
	}
	return lines
}

// Sizes of the picture, in pixels.
const (
	plotWidth, plotHeight                    = 760, 420
	plotLeft, plotTop, plotRight, plotBottom = 80, 40, 200, 50
)

// scale turns values into places. The horizontal axis is linear and begins at 0; the vertical one doubles with every line, since the
// lines are too far apart to be told from the axis otherwise.
type scale struct{ maxX, low, high float64 }

func scaleOf(lines []series) scale {
	s := scale{low: math.Inf(1), high: math.Inf(-1)}
	for _, l := range lines {
		for _, p := range l.points {
			s.maxX = max(s.maxX, p.x)
			s.low, s.high = min(s.low, math.Floor(math.Log2(p.y/1000))), max(s.high, math.Ceil(math.Log2(p.y/1000)))
		}
	}
	s.high = max(s.high, s.low+1)
	return s
}

func (s scale) x(v float64) float64 {
	return plotLeft + v/s.maxX*(plotWidth-plotLeft-plotRight)
}

// y takes megabytes.
func (s scale) y(v float64) float64 { return s.line(math.Log2(v / 1000)) }

// line is the height of 2^power gigabytes.
func (s scale) line(power float64) float64 {
	return plotHeight - plotBottom - (power-s.low)/(s.high-s.low)*(plotHeight-plotTop-plotBottom)
}

// svg draws the lines.
func svg(lines []series) []byte {
	s := scaleOf(lines)
	b := &strings.Builder{}
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, plotHeight)
	text(b, plotLeft, plotTop-18, "start", "#222", "Peak memory by feature rows, with the same entity rows (each line doubles)")
	for power := s.low; power <= s.high; power++ {
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>`+"\n", plotLeft, s.line(power), plotWidth-plotRight, s.line(power))
		text(b, plotLeft-8, s.line(power)+4, "end", "#444", memoryLabel(power))
	}
	for _, p := range lines[0].points {
		text(b, s.x(p.x), plotHeight-plotBottom+20, "middle", "#444", fmt.Sprintf("%.4gM", p.x))
	}
	text(b, (plotLeft+plotWidth-plotRight)/2, plotHeight-12, "middle", "#444", "feature rows")
	labels := labelPlaces(s, lines)
	for i, l := range lines {
		var places []string
		for _, p := range l.points {
			places = append(places, fmt.Sprintf("%.1f,%.1f", s.x(p.x), s.y(p.y)))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", s.x(p.x), s.y(p.y), l.colour)
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(places, " "), l.colour)
		text(b, plotWidth-plotRight+10, labels[i], "start", l.colour, l.name)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// lineHeight keeps the names of lines apart that end at about the same height.
const lineHeight = 16

// labelPlaces returns the height of each line's name: that of its last point, or lower where another name is in the way.
func labelPlaces(s scale, lines []series) []float64 {
	places := make([]float64, len(lines))
	for i, l := range lines {
		places[i] = s.y(l.points[len(l.points)-1].y) + 4
	}
	for range lines { // each pass settles one more of them
		for i := range places {
			for k := range places {
				if k != i && math.Abs(places[i]-places[k]) < lineHeight && (places[i] > places[k] || places[i] == places[k] && i > k) {
					places[i] = places[k] + lineHeight
				}
			}
		}
	}
	return places
}

// memoryLabel writes 2^power gigabytes.
func memoryLabel(power float64) string {
	if power < 0 {
		return fmt.Sprintf("%.4g MB", 1000*math.Exp2(power))
	}
	return fmt.Sprintf("%.4g GB", math.Exp2(power))
}

func text(b *strings.Builder, x, y float64, anchor, colour, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">`, x, y, anchor, colour)
	_ = xml.EscapeText(b, []byte(s)) // a strings.Builder takes everything
	b.WriteString("</text>\n")
}
