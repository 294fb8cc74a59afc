package offline

import (
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/twofold-ml/twofold/internal/feature"
)

// mayHold reports whether a row group may hold rows whose event time is in the range. Where nothing is known, it may.
func (t *Table) mayHold(s boundSource, group int, within feature.TimeRange) bool {
	if eventTime := s.bindings[t.keys]; eventTime.constant != nil && !eventTime.constant.IsPresent(0) {
		return t.keepsBad // rows without an event time are never joined
	}
	times, ok := t.timesOf(s, group)
	return !ok || within.Overlaps(times)
}

// timesOf gives the least and the greatest event time of a row group, if that is known and there are any.
func (t *Table) timesOf(s boundSource, group int) (feature.TimeRange, bool) {
	eventTime := s.bindings[t.keys]
	switch {
	case s.footer.groups[group].rows == 0:
		return feature.TimeRange{}, false
	case eventTime.constant == nil:
		return s.footer.groups[group].timesOf(eventTime.stored)
	case eventTime.constant.IsPresent(0):
		at := feature.EventTime(eventTime.constant.Int64s[0])
		return feature.TimeRange{Min: at, Max: at}, true
	}
	return feature.TimeRange{}, false
}

// timesOf gives the least and the greatest time of a column, if that is known.
func (g rowGroup) timesOf(c column) (feature.TimeRange, bool) {
	for _, known := range g.times {
		if known.leaf == c.leaf {
			return known.times, true
		}
	}
	return feature.TimeRange{}, false
}

// timesOf gives the least and the greatest time of a column by its statistics, if there are sound ones.
func timesOf(meta *metadata.FileMetaData, group int, c column) (_ feature.TimeRange, ok bool) {
	defer func() {
		if recover() != nil { // statistics of the wrong length
			ok = false
		}
	}()
	m, err := meta.RowGroup(group).ColumnChunk(c.leaf)
	if err != nil || !hasBothBounds(meta, group, c) {
		return feature.TimeRange{}, false
	}
	stats, err := m.Statistics() // none for INT96, nor from writers known to write wrong ones
	if err != nil || stats == nil || !stats.HasMinMax() {
		return feature.TimeRange{}, false
	}
	switch stats := stats.(type) {
	case *metadata.Int64Statistics:
		return timesBetween(c, stats.Min(), stats.Max())
	case *metadata.Int32Statistics:
		return timesBetween(c, int64(stats.Min()), int64(stats.Max()))
	}
	return feature.TimeRange{}, false
}

// hasBothBounds reports whether statistics have a least and a greatest value. The format allows either to be left out, and arrow-go takes what is not there for 0.
func hasBothBounds(meta *metadata.FileMetaData, group int, c column) bool {
	stats := meta.RowGroups[group].Columns[c.leaf].MetaData.Statistics
	switch {
	case stats == nil:
		return false
	case meta.Schema.Column(c.leaf).ColumnOrder() == parquet.ColumnOrders.TypeDefinedOrder: // which arrow-go looks at too, to choose between the old bounds and the new
		return stats.IsSetMinValue() && stats.IsSetMaxValue()
	default:
		return stats.IsSetMin() && stats.IsSetMax()
	}
}

// timesBetween gives the times between two stored values of a column; false where it is none of times, or they are out of order.
func timesBetween(c column, least, most int64) (feature.TimeRange, bool) {
	var from, to int64
	var fromOK, toOK bool
	if unit, isTime := timeUnit(c.descr); isTime {
		from, fromOK = toMicros(least, unit)
		to, toOK = toMicros(most, unit)
	} else if _, isDate := c.descr.LogicalType().(schema.DateLogicalType); isDate {
		from, fromOK = dateMicros(int32(least))
		to, toOK = dateMicros(int32(most))
	}
	if !fromOK || !toOK || from > to {
		return feature.TimeRange{}, false
	}
	return feature.TimeRange{Min: feature.EventTime(from), Max: feature.EventTime(to)}, true
}
