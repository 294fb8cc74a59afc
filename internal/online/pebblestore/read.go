package pebblestore

import (
	"context"
	"errors"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// Read implements driver.Driver.
func (s *Store) Read(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	views := 0
	for i := range reads {
		views += len(reads[i].Views)
	}
	r := reading{s: s, now: s.o.Now().UnixMilli(), ends: make([]int, 0, views)}
	defer r.close()
	for i := range reads {
		if i%checkEvery == 0 && ctx.Err() != nil {
			return nil, s.stopped(ctx, "read")
		}
		if err := r.read(i, reads); err != nil {
			return nil, s.fail("read", err)
		}
	}
	if r.errs == nil {
		return r.rows(), nil
	}
	err := driver.Partly(r.errs)
	if _, ok := errors.AsType[*driver.PartialError](err); !ok {
		return nil, err
	}
	return r.rows(), err
}

// reading is one Read.
type reading struct {
	s       *Store
	now     int64
	all     []byte // every row
	ends    []int  // of each row in all; negative where there is none
	key     []byte
	history *historyReader // nil until it is needed
	errs    []error        // nil, or one for each read
}

// read reads the rows of reads[i], or notes why it fails alone.
func (r *reading) read(i int, reads []driver.Read) error {
	read := &reads[i]
	firstRow, firstByte := len(r.ends), len(r.all)
	for _, view := range read.Views {
		if !read.History {
			if err := r.latest(read.Entity, view); err != nil {
				return err
			}
			continue
		}
		dropped, err := r.version(read, view)
		if err != nil {
			return err
		}
		if !dropped {
			continue
		}
		if r.errs == nil {
			r.errs = make([]error, len(reads))
		}
		r.errs[i] = r.s.notKept(read, view)
		r.ends, r.all = r.ends[:firstRow], r.all[:firstByte]
		for range read.Views {
			r.ends = append(r.ends, -1)
		}
		return nil
	}
	return nil
}

// latest reads a row of layout LATEST.
func (r *reading) latest(e driver.Entity, view string) error {
	r.key = appendRowKey(r.key[:0], e, view)
	end := -1
	err := r.s.view(r.key, func(value []byte) error {
		expire, row, err := splitValue(value)
		if err == nil && !isPast(expire, r.now) {
			r.all = append(r.all, row...)
			end = len(r.all)
		}
		return err
	})
	r.ends = append(r.ends, end)
	return err
}

// version reads a row of layout HISTORY, and reports whether what it would be was dropped.
func (r *reading) version(read *driver.Read, view string) (dropped bool, err error) {
	if r.history == nil {
		if r.history, err = r.s.newHistoryReader(r.now); err != nil {
			return false, err
		}
	}
	var ok bool
	if r.all, ok, dropped, err = r.history.appendRow(r.all, read, view); err != nil {
		return false, err
	}
	end := -1
	if ok {
		end = len(r.all)
	}
	r.ends = append(r.ends, end)
	return dropped, nil
}

// rows returns what was read.
func (r *reading) rows() [][]byte {
	rows := make([][]byte, 0, len(r.ends))
	start := 0
	for _, end := range r.ends {
		if end < 0 {
			rows = append(rows, nil)
			continue
		}
		rows = append(rows, r.all[start:end:end])
		start = end
	}
	return rows
}

func (r *reading) close() {
	if r.history != nil {
		_ = r.history.versions.Close() // its error was that of a read
	}
}

func (s *Store) notKept(r *driver.Read, view string) error {
	return fault.New(fault.Precondition, "read the %s: %w", s.name, driver.NotKept(r, view))
}
