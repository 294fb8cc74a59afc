// Package workload is what the online benchmarks ask for: feature views of some shape, rows whose values can be worked out from
// a seed, requests for them, and the check that an answer holds the values that were written.
package workload

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Shape is the size of a request: every feature of Views feature views with Features features each, for Rows entities.
type Shape struct {
	Views, Features, Rows int
}

// ParseShape reads "5x10x100": views, features a view, rows.
func ParseShape(text string) (Shape, error) {
	parts := strings.Split(text, "x")
	if len(parts) != 3 {
		return Shape{}, fmt.Errorf("%q is no shape; it has the form views x features x rows, for example 5x10x100", text)
	}
	var numbers [3]int
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 {
			return Shape{}, fmt.Errorf("%q is no shape: %q is not a number from 1 on", text, part)
		}
		numbers[i] = n
	}
	return Shape{numbers[0], numbers[1], numbers[2]}, nil
}

// String returns "5x10x100".
func (s Shape) String() string { return fmt.Sprintf("%dx%dx%d", s.Views, s.Features, s.Rows) }

// Layout returns the views that the shape reads.
func (s Shape) Layout() Layout { return Layout{s.Views, s.Features} }

// Layout is a kind of entity of its own, with Views feature views of Features features each, all DOUBLE.
type Layout struct {
	Views, Features int
}

// String returns "5x10".
func (l Layout) String() string { return fmt.Sprintf("%dx%d", l.Views, l.Features) }

// Entity returns the entity's name.
func (l Layout) Entity() string { return "user" + l.String() }

// View returns the name of a view.
func (l Layout) View(v int) string { return fmt.Sprintf("view%s_%02d", l, v) }

// ViewNames returns the names of all views in order.
func (l Layout) ViewNames() []string {
	names := make([]string, l.Views)
	for v := range names {
		names[v] = l.View(v)
	}
	return names
}

// Feature returns the name of a feature in its view.
func (l Layout) Feature(f int) string { return fmt.Sprintf("feature_%02d", f) }

// Service returns the name of the feature service that has all features of the layout.
func (l Layout) Service() string { return "service" + l.String() }

// Layouts returns the layouts of the shapes, each once, in order.
func Layouts(shapes []Shape) []Layout {
	var layouts []Layout
	seen := map[Layout]bool{}
	for _, s := range shapes {
		if l := s.Layout(); !seen[l] {
			seen[l] = true
			layouts = append(layouts, l)
		}
	}
	return layouts
}

// KeyName is the name of every entity's key, an INT64.
const KeyName = "user_id"

// TTL of every view: long enough that no row expires while a benchmark runs.
const TTL = 30 * 24 * time.Hour

// Definitions returns the YAML that defines the layouts. The source paths need not exist: a server that only answers online requests
// does not read them.
func Definitions(layouts []Layout) []byte {
	var b strings.Builder
	b.WriteString("entities:\n")
	for _, l := range layouts {
		fmt.Fprintf(&b, "  - {name: %s, keys: [{name: %s, type: INT64}]}\n", l.Entity(), KeyName)
	}
	b.WriteString("feature_views:\n")
	for _, l := range layouts {
		for v := range l.Views {
			fmt.Fprintf(&b, "  - name: %s\n    entity: %s\n    source: {path: %s.parquet, event_time_column: event_timestamp}\n    ttl: %ds\n    features:\n",
				l.View(v), l.Entity(), l.View(v), int(TTL.Seconds()))
			for f := range l.Features {
				fmt.Fprintf(&b, "      - {name: %s, type: DOUBLE}\n", l.Feature(f))
			}
		}
	}
	b.WriteString("feature_services:\n")
	for _, l := range layouts {
		fmt.Fprintf(&b, "  - name: %s\n    features:\n", l.Service())
		for v := range l.Views {
			fmt.Fprintf(&b, "      - %s:*\n", l.View(v))
		}
	}
	return []byte(b.String())
}

// RedisPrefix begins every key in Redis; it is Twofold's default.
const RedisPrefix = "tf"

// StoredKeyPrefix is what the Redis keys of a layout's entities begin with.
func StoredKeyPrefix(l Layout) string { return RedisPrefix + ":" + l.Entity() + ":" }

// StoredKey is the Redis key of an entity.
func StoredKey(l Layout, entity int) string { return StoredKeyPrefix(l) + strconv.Itoa(entity) }
