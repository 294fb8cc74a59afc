package training

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// AppendEvents makes the entity rows from the features: one for each distinct entity and event time of the views' rows, from the first up to but without the
// second, in the order of time and then of the keys. Start is called here.
//
// Where there are more events than fit the memory for entity rows, they are found in several windows of time.
func (e *EntityRows) AppendEvents(ctx context.Context, start, end feature.EventTime) error {
	if start >= end {
		return fault.InvalidField("header.entityless", "no time is in its range: the start is not before the end, which is left out")
	}
	finder, err := newEventFinder(e)
	if err != nil {
		return err
	}
	if err := e.Start(finder.schema); err != nil {
		return err
	}
	within := feature.TimeRange{Min: start, Max: end - 1}
	err = finder.window(ctx, within)
	if !errors.Is(err, errManyEvents) {
		return err
	}
	windows, err := finder.windows(ctx, within)
	if err != nil {
		return err
	}
	finder.most = 0 // one instant may have more than there is room for; it cannot be divided
	for _, w := range windows {
		if err := finder.window(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// errManyEvents says that a window has more events than there is room for.
var errManyEvents = errors.New("more events than fit the memory")

// eventFinder finds the events of some views.
type eventFinder struct {
	rows   *EntityRows
	views  []pit.ViewJoin
	schema *arrow.Schema
	types  []feature.Type
	// most is how many events are held at once; 0 for any number.
	most int
}

func newEventFinder(e *EntityRows) (*eventFinder, error) {
	selection := e.spec.Selection
	f := &eventFinder{rows: e}
	var fields []arrow.Field
	rowBytes := int64(8)
	for _, key := range selection.KeyNames {
		fields = append(fields, arrowwire.Field(key.Name, key.Type))
		f.types = append(f.types, key.Type)
		rowBytes += 32
	}
	for v, view := range selection.Views {
		if err := checkHasAllKeys(selection, view); err != nil {
			return nil, err
		}
		f.views = append(f.views, pit.ViewJoin{View: view.View, Keys: view.Keys, TTL: e.spec.TTL(v), Source: e.spec.Sources[v]})
	}
	fields = append(fields, arrowwire.Field(e.spec.TimeColumn, feature.Timestamp))
	f.types = append(f.types, feature.Timestamp)
	f.schema = arrow.NewSchema(fields, nil)
	f.most = int(max(1<<16, e.budget.spoolBytes()/rowBytes))
	return f, nil
}

// checkHasAllKeys refuses a view that lacks a key of another: nobody says which of their entities belong together.
func checkHasAllKeys(selection *feature.Selection, view feature.SelectedView) error {
	for k, key := range selection.KeyNames {
		if slices.Contains(view.Keys, k) {
			continue
		}
		other := slices.IndexFunc(selection.Views, func(v feature.SelectedView) bool { return slices.Contains(v.Keys, k) })
		return fault.InvalidField("header.entityless", "feature view %q does not have the entity key %q of feature view %q; ask for views of the same entity, or give entity rows that say which belong together",
			view.View.Name, key.Name, selection.Views[other].View.Name)
	}
	return nil
}

// window finds the events of a range of times and appends them.
func (f *eventFinder) window(ctx context.Context, within feature.TimeRange) error {
	columns := make([]*feature.Column, len(f.types))
	for i, t := range f.types {
		columns[i] = feature.NewColumn(t, 0)
	}
	times := columns[len(columns)-1]
	err := pit.Events(ctx, f.views, within, func(keys []*feature.Column, at *feature.Column, rows []int32) error {
		if f.most > 0 && times.Len()+len(rows) > f.most {
			return errManyEvents
		}
		for _, row := range rows {
			for k, key := range keys {
				columns[k].AppendFrom(key, int(row))
			}
			times.AppendFrom(at, int(row))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f.append(ctx, columns, sortedEvents(columns))
}

// append appends the given rows of the columns.
func (f *eventFinder) append(ctx context.Context, columns []*feature.Column, rows []int) error {
	for from := 0; from < len(rows); from += segmentRows {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := rows[from:min(from+segmentRows, len(rows))]
		arrays := make([]arrow.Array, len(columns))
		for i, c := range columns {
			taken := feature.NewColumn(c.Type, len(part))
			taken.Take(c, part, feature.Null)
			var err error
			if arrays[i], err = arrowwire.ToArray(taken, 0, len(part)); err != nil {
				return err
			}
		}
		record := array.NewRecordBatch(f.schema, arrays, int64(len(part)))
		if err := f.rows.Append(record); err != nil {
			return err
		}
	}
	return nil
}

// sortedEvents returns the distinct rows of columns, the last of which is the time, by time and then by the keys.
func sortedEvents(columns []*feature.Column) []int {
	rows := make([]int, columns[0].Len())
	for i := range rows {
		rows[i] = i
	}
	times, keys := columns[len(columns)-1], columns[:len(columns)-1]
	compare := func(a, b int) int {
		order := cmp.Compare(times.Int64s[a], times.Int64s[b])
		for k := 0; order == 0 && k < len(keys); k++ {
			order = compareKeys(keys[k], a, b)
		}
		return order
	}
	slices.SortFunc(rows, compare)
	return slices.CompactFunc(rows, func(a, b int) bool { return compare(a, b) == 0 })
}

// compareKeys orders two values of a key column.
func compareKeys(c *feature.Column, a, b int) int {
	switch c.Type {
	case feature.Int32:
		return cmp.Compare(c.Int32s[a], c.Int32s[b])
	case feature.Int64:
		return cmp.Compare(c.Int64s[a], c.Int64s[b])
	default:
		return bytes.Compare(c.BytesAt(a), c.BytesAt(b))
	}
}

// histogramSlots is how finely the events of a range are counted.
const histogramSlots = 1 << 16

// windows divides a range of times so that each part has about as many events as there is room for, or is one microsecond. Parts without events are left out.
func (f *eventFinder) windows(ctx context.Context, within feature.TimeRange) ([]feature.TimeRange, error) {
	width := (uint64(within.Max)-uint64(within.Min))/histogramSlots + 1
	counts := make([]int, histogramSlots)
	err := pit.Events(ctx, f.views, within, func(_ []*feature.Column, at *feature.Column, rows []int32) error {
		for _, row := range rows {
			counts[(uint64(at.Int64s[row])-uint64(within.Min))/width]++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []feature.TimeRange
	// held is the number of events in the open part, the last that may still grow.
	held, open := 0, false
	for slot, count := range counts {
		if count == 0 {
			continue
		}
		at := slotRange(within, slot, width)
		if open = open && held+count <= f.most; open {
			out[len(out)-1].Max = at.Max
			held += count
			continue
		}
		if open = count <= f.most || width == 1; open {
			out, held = append(out, at), count
			continue
		}
		// The slot is wide and full: a range of centuries, and all events of one of its years.
		finer, err := f.windows(ctx, at)
		if err != nil {
			return nil, err
		}
		out = append(out, finer...)
	}
	return out, nil
}

// slotRange is the part of a range that one slot of a histogram counts.
func slotRange(within feature.TimeRange, slot int, width uint64) feature.TimeRange {
	// Differences are computed without sign: they fit where the range is half of all time or more.
	first := uint64(slot) * width
	last := min(first+width-1, uint64(within.Max)-uint64(within.Min))
	return feature.TimeRange{Min: within.Min + feature.EventTime(first), Max: within.Min + feature.EventTime(last)}
}
