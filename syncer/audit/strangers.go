package audit

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
)

// stranger is a stored row that is not expected.
type stranger struct {
	key   []byte
	event feature.EventTime
	// err says why it cannot be read, nil where it can; hasEvent, whether its event time can be told.
	err      error
	hasEvent bool
}

// scan goes through all that is stored of the view and returns what is not expected, sorted.
func (a *auditor) scan(ctx context.Context) ([]stranger, error) {
	found := map[uint64]stranger{} // a scan may come by a row twice
	progress := Progress{Step: "looking for rows that should not be there"}
	meet := func(s stranger) {
		if number, ok := a.isStrange(s); ok {
			s.key = bytes.Clone(s.key)
			found[number] = s
		}
	}
	err := a.Online.Scan(ctx, a.View, a.Generation, func(rows *online.Scanned) error {
		var key []byte
		for row, event := range rows.EventTimes.Int64s {
			key, _ = feature.AppendKey(key[:0], rows.Keys, row)
			meet(stranger{key: key, event: feature.EventTime(event), hasEvent: true})
		}
		for _, row := range rows.Unreadable {
			meet(stranger{key: row.Key, event: row.EventTime, err: row.Err, hasEvent: row.HasEventTime})
		}
		progress.Done += int64(rows.EventTimes.Len() + len(rows.Unreadable))
		a.Progress(progress)
		return nil
	})
	if err != nil {
		return nil, err
	}
	strangers := make([]stranger, 0, len(found))
	for _, s := range found {
		strangers = append(strangers, s)
	}
	slices.SortFunc(strangers, func(a, b stranger) int {
		return cmp.Or(bytes.Compare(a.key, b.key), cmp.Compare(a.event, b.event))
	})
	return strangers, nil
}

// isStrange reports whether a stored row is not expected, and gives a number by which it is known.
func (a *auditor) isStrange(s stranger) (number uint64, ok bool) {
	if !a.sample.has(s.key) {
		return 0, false
	}
	number = a.index.row(s.key, s.event)
	if !a.keepsVersions() {
		return number, !a.index.has(number) && !(s.hasEvent && a.isLapsed(s.event))
	}
	if !s.hasEvent {
		// It may be the version in place of which a row was found that cannot be read.
		return number, !a.unreadable[a.index.entity(s.key)]
	}
	_, known := a.index.of(s.key)
	return number, !a.index.has(number) && (known || !a.isLapsed(s.event))
}

// settleStrangers looks once more at rows that are not expected, and counts those that are still stored.
func (a *auditor) settleStrangers(ctx context.Context, strangers []stranger) error {
	for some := range slices.Chunk(strangers, lookupRows) {
		keys := a.newKeys(len(some))
		var known []stranger
		var events []feature.EventTime
		for _, s := range some {
			if feature.DecodeKey(keys, s.key) != nil {
				for _, c := range keys {
					c.Truncate(len(known))
				}
				a.addStranger(Unreadable, Finding{Entity: strconv.Quote(string(s.key)), Reason: s.err.Error()})
				continue
			}
			known = append(known, s)
			event := s.event
			if !s.hasEvent {
				event = math.MaxInt64
			}
			events = append(events, event)
		}
		stored, err := a.lookup(ctx, keys, events)
		if err != nil {
			return err
		}
		for i, s := range known {
			a.settleStranger(s, keys, stored, i)
		}
	}
	return nil
}

// settleStranger counts a row that was found before, where row i of what is stored now is still that row.
func (a *auditor) settleStranger(s stranger, keys []*feature.Column, stored *online.Found, i int) {
	finding := Finding{Entity: entityText(a.View, keys, i)}
	event := feature.EventTime(stored.EventTimes.Int64s[i])
	versions, known := versions{}, false
	if a.keepsVersions() {
		if !s.hasEvent {
			// Which version it is cannot be told, so it cannot be looked up.
			finding.Reason = s.err.Error()
			a.addStranger(classOfErr(s.err), finding)
			return
		}
		if versions, known = a.index.of(s.key); !stored.EventTimes.IsPresent(i) || event != s.event || versions.left > 0 {
			return
		}
	}
	switch err := stored.Errs[i]; {
	case err != nil:
		finding.Reason = err.Error()
		a.addStranger(classOfErr(err), finding)
	case !stored.Stored[i] || (!known && a.isLapsed(event)):
	case known && event > versions.newest:
		finding.Stored = storedRow(stored, i)
		a.addStranger(Newer, finding)
	default:
		finding.Stored = storedRow(stored, i)
		a.addStranger(Extra, finding)
	}
}

func (a *auditor) addStranger(class Class, finding Finding) {
	a.report.Unexpected++
	a.report.add(class, func() Finding { return finding })
}

// newKeys returns columns for keys of the view's entity.
func (a *auditor) newKeys(rows int) []*feature.Column {
	columns := make([]*feature.Column, len(a.View.Entity.Keys))
	for i, key := range a.View.Entity.Keys {
		columns[i] = feature.NewColumn(key.Type, rows)
	}
	return columns
}
