package training

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// Limits bound what one training set may ask for.
type Limits struct {
	// EntityRows is the most entity rows, those left out by their time included.
	EntityRows int64
	// Exceeded makes the error of a set with more.
	Exceeded func() error
	// TempDir is the folder for entity rows that are not kept in memory. Defaults to the system's.
	TempDir string
}

// EntityRows are the rows of one training set, checked as they come and kept as they are. One goroutine appends.
type EntityRows struct {
	spec   *Spec
	limits Limits
	budget *Budget

	spool *spool
	hash  *tableHash
	// came is the number of rows that came, those left out by their time included.
	came     int64
	filtered int64
}

// NewEntityRows returns no rows yet.
func NewEntityRows(spec *Spec, budget *Budget, limits Limits) (*EntityRows, error) {
	if err := spec.checkOwn(); err != nil {
		return nil, err
	}
	return &EntityRows{spec: spec, budget: budget, limits: limits}, nil
}

// Start says what columns the rows have. Names that clash are refused here, before any row.
func (e *EntityRows) Start(schema *arrow.Schema) error {
	if err := e.spec.checkNames(fieldNames(schema)); err != nil {
		return err
	}
	e.spool = newSpool(wideSchema(schema), e.budget.spoolBytes(), e.limits.TempDir)
	e.hash = newTableHash(schema)
	return nil
}

// Started reports whether Start was called.
func (e *EntityRows) Started() bool { return e.spool != nil }

// Schema is the columns of the rows, as they are kept and handed on: those of Start, but dictionaries with indices of 32 bits at least.
func (e *EntityRows) Schema() *arrow.Schema { return e.spool.schema }

// Len is the number of rows that are joined.
func (e *EntityRows) Len() int64 {
	if e.spool == nil {
		return 0
	}
	return e.spool.rows + e.spool.pendingRows
}

// Filtered is the number of rows left out by their time.
func (e *EntityRows) Filtered() int64 { return e.filtered }

// Hash identifies the rows that are joined; see HashOf. Call it after Finish.
func (e *EntityRows) Hash() string { return e.hash.sum() }

// Append adds a record of the schema, which it retains. An error is of kind Invalid and names the row or column, or of kind
// Exhausted past the limit; nothing is added then.
func (e *EntityRows) Append(record arrow.RecordBatch) error {
	_, times, err := e.spec.keysAndTimes(record)
	if err != nil {
		return err
	}
	if e.came+record.NumRows() > e.limits.EntityRows {
		return e.limits.Exceeded()
	}
	for i, status := range times.Status {
		if status != feature.Present {
			return fault.New(fault.Invalid, "entity row %d (counted from 0): the time is null; give every entity row the time as of which it wants its features", e.came+int64(i))
		}
	}
	e.came += record.NumRows()
	return e.eachKept(record, times, func(kept arrow.RecordBatch) error {
		if err := e.hash.add(kept.Columns()); err != nil {
			return fault.InvalidField("entity_rows", "%w", err)
		}
		wide := wideRecord(e.spool.schema, kept)
		defer wide.Release()
		return e.spool.append(wide)
	})
}

// eachKept calls yield with the rows of a record whose time is in the range.
func (e *EntityRows) eachKept(record arrow.RecordBatch, times *feature.Column, yield func(arrow.RecordBatch) error) error {
	if e.spec.Times == nil {
		return yield(record)
	}
	inside := func(i int) bool {
		t := feature.AsOf(times.Int64s[i])
		return t >= e.spec.Times.Start && t < e.spec.Times.End
	}
	var runs []arrow.RecordBatch
	defer func() { releaseRecords(runs) }()
	kept := int64(0)
	for from := 0; from < times.Len(); {
		to := from
		for to < times.Len() && inside(to) == inside(from) {
			to++
		}
		if inside(from) {
			runs = append(runs, record.NewSlice(int64(from), int64(to)))
			kept += int64(to - from)
		}
		from = to
	}
	e.filtered += record.NumRows() - kept
	switch {
	case kept == 0:
		return nil
	case kept == record.NumRows():
		return yield(record)
	}
	// A copy, also of a single run: a slice would keep the rows alive that are left out.
	one, err := copied(record.Schema(), runs)
	if err != nil {
		return err
	}
	defer one.Release()
	return yield(one)
}

// Finish is called after the last row.
func (e *EntityRows) Finish() error {
	if !e.Started() {
		return fault.InvalidField("entity_rows", "there are no entity rows; send at least one chunk, which may have no rows")
	}
	return e.spool.finish()
}

// Close frees what the rows hold.
func (e *EntityRows) Close() error {
	if e.spool == nil {
		return nil
	}
	return e.spool.close()
}

// bytesPerRow is the average size of a row.
func (e *EntityRows) bytesPerRow() int64 { return e.spool.bytes / max(1, e.spool.rows) }

// load gives the join the keys and times of a range of rows.
func (e *EntityRows) load(ctx context.Context, from, to int64) (*pit.EntityRows, error) {
	rows := pit.NewEntityRows(e.spec.Selection.KeyNames)
	rows.Grow(int(to - from))
	err := e.spool.each(ctx, from, to, func(record arrow.RecordBatch) error {
		keys, times, err := e.spec.keysAndTimes(record)
		if err != nil {
			return err
		}
		return rows.Append(keys, times)
	})
	if err != nil {
		return nil, fmt.Errorf("entity rows %d to %d: %w", from, to, err)
	}
	return rows, nil
}
