package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// versionSize is the length of what follows a history's prefix in the key of a version: its event time, so that the newest comes first.
const versionSize = 8

// mark follows a history's prefix in the key that says that older versions were dropped. It comes after those of all versions.
var mark = bytes.Repeat([]byte{0xff}, versionSize+1)

// appendHistoryPrefix appends what the keys of an entity and view's versions begin with. No other entity and view share it, and none begins
// with another's.
func appendHistoryPrefix(dst []byte, e driver.Entity, view string) []byte {
	dst = append(dst, historyPrefix)
	dst = binary.AppendUvarint(dst, uint64(len(e.Name)))
	dst = append(dst, e.Name...)
	dst = binary.AppendUvarint(dst, uint64(len(e.Key)))
	dst = append(dst, e.Key...)
	dst = binary.AppendUvarint(dst, uint64(len(view)))
	return append(dst, view...)
}

// appendVersion appends an event time so that later ones come first in byte order.
func appendVersion(dst []byte, event feature.EventTime) []byte {
	return binary.BigEndian.AppendUint64(dst, ^(uint64(event) ^ 1<<63))
}

// cutHistoryKey divides the key of a version or a mark into the history's prefix and what follows it. It reports false for a key that is
// neither.
func cutHistoryKey(key []byte) (prefix, suffix []byte, ok bool) {
	rest := key[1:]
	for range 3 {
		if _, rest, ok = cutField(rest); !ok {
			return nil, nil, false
		}
	}
	if len(rest) != versionSize && !bytes.Equal(rest, mark) {
		return nil, nil, false
	}
	return key[:len(key)-len(rest)], rest, true
}

// cutField takes a field off that stands behind its length.
func cutField(b []byte) (field, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	return b[size : size+int(n)], b[size+int(n):], true
}

func eventOf(suffix []byte) feature.EventTime {
	return feature.EventTime(^binary.BigEndian.Uint64(suffix) ^ 1<<63)
}

// historyReader reads versions.
type historyReader struct {
	versions *pebble.Iterator
	now      int64
	key      []byte
}

func (s *Store) newHistoryReader(now int64) (*historyReader, error) {
	versions, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{historyPrefix}, UpperBound: []byte{historyPrefix + 1}})
	if err != nil {
		return nil, err
	}
	return &historyReader{versions: versions, now: now}, nil
}

// appendRow appends the newest version that is not later than the moment of the read. It reports false where there is none, and whether
// that is because older ones than the kept ones were dropped.
func (h *historyReader) appendRow(dst []byte, r *driver.Read, view string) (_ []byte, ok, dropped bool, err error) {
	h.key = appendHistoryPrefix(h.key[:0], r.Entity, view)
	prefix := len(h.key)
	h.key = appendVersion(h.key, feature.EventTime(r.AsOfMicros))
	if !h.versions.SeekGE(h.key) || !bytes.HasPrefix(h.versions.Key(), h.key[:prefix]) {
		return dst, false, false, h.versions.Error()
	}
	dropped = bytes.Equal(h.versions.Key()[prefix:], mark)
	expire := int64(past) // a mark does not keep its history
	start := len(dst)
	if !dropped {
		value, err := h.versions.ValueAndErr()
		if err != nil {
			return dst, false, false, err
		}
		var row []byte
		if expire, row, err = splitValue(value); err != nil {
			return dst, false, false, err
		}
		dst = append(dst, row...)
	}
	if isPast(expire, h.now) {
		if alive, err := h.newerIsAlive(prefix); err != nil || !alive {
			return dst[:start], false, false, err
		}
	}
	return dst, !dropped, dropped, nil
}

// past is an expiry before every clock.
const past = -1 << 63

// newerIsAlive reports whether any version before the present one may not be dropped yet.
func (h *historyReader) newerIsAlive(prefix int) (bool, error) {
	for h.versions.Prev() && bytes.HasPrefix(h.versions.Key(), h.key[:prefix]) {
		value, err := h.versions.ValueAndErr()
		if err != nil {
			return false, err
		}
		if expire, _, err := splitValue(value); err != nil || !isPast(expire, h.now) {
			return err == nil, err
		}
	}
	return false, h.versions.Error()
}

// history is what a turn knows of the versions of one entity and view, those of its batch included.
type history struct {
	prefix   []byte
	versions []version // newest first
	dropped  bool      // older ones were
}

// version is one of them.
type version struct {
	header storedrow.Header
	expire int64
	row    []byte // nil where it is not of this batch
	broken bool   // what is stored is no row
}

// history returns the versions of an entity and view. All of them go where all may be dropped.
func (t *turn) history(r *driver.Row) (*history, error) {
	t.key = appendHistoryPrefix(t.key[:0], r.Entity, r.View)
	if h, ok := t.histories[string(t.key)]; ok {
		return h, t.forget(h)
	}
	h := &history{prefix: slices.Clone(t.key)}
	if err := t.s.eachVersion(h.prefix, func(suffix, value []byte) error {
		if bytes.Equal(suffix, mark) {
			h.dropped = true
			return nil
		}
		h.versions = append(h.versions, parseVersion(eventOf(suffix), value))
		return nil
	}); err != nil {
		return nil, err
	}
	if t.histories == nil {
		t.histories = map[string]*history{}
	}
	t.histories[string(h.prefix)] = h
	return h, t.forget(h)
}

// eachVersion calls look for every stored key and value that begins with a history's prefix: its versions, the newest first, and its mark.
func (s *Store) eachVersion(prefix []byte, look func(suffix, value []byte) error) (err error) {
	versions, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: append(slices.Clone(prefix), bytes.Repeat([]byte{0xff}, versionSize+2)...)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, versions.Close()) }()
	for ok := versions.First(); ok; ok = versions.Next() {
		value, err := versions.ValueAndErr()
		if err != nil {
			return err
		}
		if err := look(versions.Key()[len(prefix):], value); err != nil {
			return err
		}
	}
	return versions.Error()
}

// parseVersion reads what a version is compared by. A damaged one is as good as none: it is replaced.
func parseVersion(event feature.EventTime, value []byte) version {
	expire, row, err := splitValue(value)
	var h storedrow.Header
	if err == nil {
		h, err = storedrow.ParseHeader(row)
	}
	broken := err != nil || h.EventTime != event
	h.EventTime = event
	return version{header: h, expire: expire, broken: broken}
}

// forget removes a history whose versions are all past.
func (t *turn) forget(h *history) error {
	for i := range h.versions {
		if v := &h.versions[i]; !isPast(v.expire, t.now) {
			return nil
		}
	}
	return t.drop(h, 0, false)
}

// drop removes all versions but the newest keep, and says so with a mark, or removes the mark too.
func (t *turn) drop(h *history, keep int, marked bool) error {
	for _, v := range h.versions[keep:] {
		if err := t.batch.Delete(appendVersion(slices.Clone(h.prefix), v.header.EventTime), nil); err != nil {
			return err
		}
	}
	h.versions = h.versions[:keep]
	if h.dropped == marked {
		return nil
	}
	h.dropped = marked
	key := append(slices.Clone(h.prefix), mark...)
	if marked {
		return t.batch.Set(key, nil, nil)
	}
	return t.batch.Delete(key, nil)
}

// trim removes all versions but the newest n.
func (t *turn) trim(h *history, n int) error {
	if len(h.versions) <= n {
		return nil
	}
	return t.drop(h, n, true)
}

// applyVersion decides about one row of layout HISTORY and adds it to the batch where it is to be stored.
func (t *turn) applyVersion(r *driver.Row, header storedrow.Header) (driver.Outcome, error) {
	h, err := t.history(r)
	if err != nil {
		return 0, err
	}
	if err := t.trim(h, r.Versions); err != nil {
		return 0, err
	}
	at, found := slices.BinarySearchFunc(h.versions, header.EventTime, func(v version, event feature.EventTime) int {
		switch {
		case v.header.EventTime > event:
			return -1
		case v.header.EventTime < event:
			return 1
		default:
			return 0
		}
	})
	fresh := version{header: header, expire: r.ExpireAtMillis, row: r.Value}
	if found {
		return t.replace(h, &h.versions[at], fresh)
	}
	oldest := at == len(h.versions)
	if oldest && (at == r.Versions || at > 0 && isPast(r.ExpireAtMillis, t.now)) {
		return driver.Older, t.drop(h, at, true)
	}
	h.versions = slices.Insert(h.versions, at, fresh)
	if err := t.store(h, fresh); err != nil {
		return 0, err
	}
	return driver.Written, t.trim(h, r.Versions)
}

// replace puts a row in the place of the version of its event time, unless that is newer.
func (t *turn) replace(h *history, old *version, fresh version) (driver.Outcome, error) {
	if old.broken {
		*old = fresh
		return driver.Written, t.store(h, fresh)
	}
	same, err := t.isSame(h, old, fresh.row)
	switch {
	case err != nil:
		return 0, err
	case same && old.expire == fresh.expire:
		return driver.Unchanged, nil
	case same:
		*old = fresh
		return driver.Unchanged, t.store(h, fresh)
	case !fresh.header.Newer(old.header):
		return driver.Older, nil
	}
	*old = fresh
	return driver.Written, t.store(h, fresh)
}

// isSame reports whether the version is that row, byte for byte.
func (t *turn) isSame(h *history, v *version, row []byte) (same bool, err error) {
	if v.row != nil {
		return bytes.Equal(v.row, row), nil
	}
	err = t.s.view(appendVersion(slices.Clone(h.prefix), v.header.EventTime), func(value []byte) error {
		_, stored, err := splitValue(value)
		same = err == nil && bytes.Equal(stored, row)
		return err
	})
	return same, err
}

// store adds a version to the batch.
func (t *turn) store(h *history, v version) error {
	t.value = append(binary.BigEndian.AppendUint64(t.value[:0], uint64(v.expire)), v.row...)
	return t.batch.Set(appendVersion(slices.Clone(h.prefix), v.header.EventTime), t.value, nil)
}
