package offline

import (
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/twofold-ml/twofold/internal/feature"
)

// mayHold reports whether a row group may hold rows whose event time is in the range. Where nothing is known, it may.
func (s *source) mayHold(group int, eventTime binding, within feature.TimeRange) bool {
	if eventTime.constant != nil {
		if !eventTime.constant.IsPresent(0) {
			return false // rows without an event time are never joined
		}
		at := feature.EventTime(eventTime.constant.Int64s[0])
		return within.Min <= at && at <= within.Max
	}
	times, ok := s.timesOf(group, eventTime.stored)
	return !ok || within.Overlaps(times)
}

// timesOf gives the least and the greatest time of a column by its statistics, if there are sound ones.
func (s *source) timesOf(group int, c column) (_ feature.TimeRange, ok bool) {
	defer func() {
		if recover() != nil { // statistics of the wrong length
			ok = false
		}
	}()
	m, err := s.footer.meta.RowGroup(group).ColumnChunk(c.leaf)
	if err != nil {
		return feature.TimeRange{}, false
	}
	stats, err := m.Statistics() // none for INT96, nor from writers known to write wrong ones
	if err != nil || stats == nil || !stats.HasMinMax() {
		return feature.TimeRange{}, false
	}
	var least, most int64
	leastOK, mostOK := false, false
	switch stats := stats.(type) {
	case *metadata.Int64Statistics:
		unit, isTime := timeUnit(c.descr)
		if !isTime {
			return feature.TimeRange{}, false
		}
		least, leastOK = toMicros(stats.Min(), unit)
		most, mostOK = toMicros(stats.Max(), unit)
	case *metadata.Int32Statistics:
		if _, isDate := c.descr.LogicalType().(schema.DateLogicalType); !isDate {
			return feature.TimeRange{}, false
		}
		least, leastOK = dateMicros(stats.Min())
		most, mostOK = dateMicros(stats.Max())
	}
	if !leastOK || !mostOK || least > most {
		return feature.TimeRange{}, false
	}
	return feature.TimeRange{Min: feature.EventTime(least), Max: feature.EventTime(most)}, true
}
