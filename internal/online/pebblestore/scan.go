package pebblestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

const (
	// scanStep is how many rows a step of a scan yields, about: the versions of one entity are never divided.
	scanStep = 1000
	// scanKeys is how many keys a step looks at, about, whatever views they are of.
	scanKeys = 1 << 14
)

// Scan implements driver.Driver. Each step looks at the database as it is then, from the key on at which the step before ended, so that a slow caller does
// not keep the memory and the files of what was replaced meanwhile.
func (s *Store) Scan(ctx context.Context, scan driver.Scan, yield func([]driver.ScannedRow) error) error {
	prefix := []byte{rowPrefix}
	if scan.History {
		prefix[0] = historyPrefix
	}
	prefix = append(binary.AppendUvarint(prefix, uint64(len(scan.Entity))), scan.Entity...)
	for from := prefix; from != nil; {
		if ctx.Err() != nil {
			return s.stopped(ctx, "read")
		}
		step := scanned{scan: scan, prefix: prefix, now: s.o.Now().UnixMilli()}
		var err error
		if from, err = step.run(s.db, from); err != nil {
			return s.fail("read", err)
		}
		if len(step.rows) == 0 {
			continue
		}
		if err := yield(step.rows); err != nil {
			return err
		}
	}
	return nil
}

// scanned is what one step of a scan finds.
type scanned struct {
	scan   driver.Scan
	prefix []byte // of the keys of all entities of the kind
	now    int64
	rows   []driver.ScannedRow

	history []byte // the prefix of the history at hand, where it is one of the view; nil is none
	first   int    // of its versions in rows
	alive   bool   // it is not to be dropped yet
}

// run takes down the rows from a key on, and returns the key to go on from, nil at the end.
func (c *scanned) run(db *pebble.DB, from []byte) (next []byte, err error) {
	keys, err := db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: after(c.prefix)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	seen := 0
	for ok := keys.First(); ok; ok = keys.Next() {
		seen++
		if (len(c.rows) >= scanStep || seen > scanKeys) && !c.divides(keys.Key()) {
			c.end()
			return slices.Clone(keys.Key()), nil
		}
		if err := c.add(keys.Key(), keys.ValueAndErr); err != nil {
			return nil, err
		}
	}
	c.end()
	return nil, keys.Error()
}

// after returns the first key behind all that begin with prefix, nil where there can be none.
func after(prefix []byte) []byte {
	end := slices.Clone(prefix)
	for len(end) > 0 && end[len(end)-1] == 0xff {
		end = end[:len(end)-1]
	}
	if len(end) == 0 {
		return nil
	}
	end[len(end)-1]++
	return end
}

// divides reports whether a step that ends before this key would divide a history.
func (c *scanned) divides(key []byte) bool {
	return c.history != nil && bytes.HasPrefix(key, c.history)
}

// add takes down what is stored under a key, where it is of the view. A key that is none of ours is an error, because nobody can tell whose row
// it was.
func (c *scanned) add(key []byte, value func() ([]byte, error)) error {
	e, view, suffix, ok := c.cut(key)
	if !ok {
		return fault.New(fault.Corrupt, "a stored key of %d bytes is that of no row", len(key))
	}
	if string(view) != c.scan.View {
		return nil
	}
	if c.scan.History && !c.divides(key) {
		c.end()
		c.history, c.first, c.alive = slices.Clone(key[:len(key)-len(suffix)]), len(c.rows), false
	}
	if bytes.Equal(suffix, mark) {
		return nil
	}
	stored, err := value()
	if err != nil {
		return err
	}
	expire, row, err := splitValue(stored)
	if err != nil {
		expire, row = 0, nil // damaged, which its reader is told too
	}
	alive := !isPast(expire, c.now)
	if c.scan.History {
		c.alive = c.alive || alive
	} else if !alive {
		return nil
	}
	c.rows = append(c.rows, driver.ScannedRow{Key: slices.Clone(e), Value: slices.Clone(row), ExpireAtMillis: expire})
	return nil
}

// cut divides a key into that of its entity, its view, and what makes it one of several versions.
func (c *scanned) cut(key []byte) (e, view, suffix []byte, ok bool) {
	e, rest, ok := cutField(key[len(c.prefix):])
	if !ok || !c.scan.History {
		return e, rest, nil, ok
	}
	if view, suffix, ok = cutField(rest); ok {
		ok = len(suffix) == versionSize || bytes.Equal(suffix, mark)
	}
	return e, view, suffix, ok
}

// end ends the history at hand: it is left out where it may be dropped, else all of it lives as long as the version that lives longest.
func (c *scanned) end() {
	if c.history == nil {
		return
	}
	c.history = nil
	if !c.alive {
		c.rows = c.rows[:c.first]
		return
	}
	latest := int64(1)
	for _, r := range c.rows[c.first:] {
		if r.ExpireAtMillis == 0 {
			latest = 0
			break
		}
		latest = max(latest, r.ExpireAtMillis)
	}
	for i := range c.rows[c.first:] {
		c.rows[c.first+i].ExpireAtMillis = latest
	}
}
