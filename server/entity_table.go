package server

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// entityTable holds the entity rows of one stream and gives them back, untouched, in any range of rows.
type entityTable interface {
	// add takes a chunk and gives its keys and times to the call's join.
	add(chunk *twofoldv1.EntityRows) error
	// finish is called after the last chunk.
	finish() error
	// close is called last, once, however the call ended.
	close()
	// schema returns the columns; a type without a name in this contract is an error.
	schema() (names []string, types []feature.Type, err error)
	// arrowFields returns the columns as Arrow fields.
	arrowFields() []arrow.Field
	// columns returns rows as typed columns.
	columns(from, to int) ([]*twofoldv1.Column, error)
	// bytesPerRow is the average size of a row as Arrow arrays.
	bytesPerRow() int
	// arrays returns rows as Arrow arrays, which the caller releases.
	arrays(mem memory.Allocator, from, to int) ([]arrow.Array, error)
}

// columnTable holds entity rows that came as typed columns.
type columnTable struct {
	call   *historicalCall
	names  []string
	values []*feature.Column
}

func (t *columnTable) add(chunk *twofoldv1.EntityRows) error {
	if chunk.GetColumns() == nil {
		return fault.InvalidField("entity_rows.rows", "the first chunk was columns, this one is not; all chunks of a stream use the same field")
	}
	columns, err := wire.ColumnsFromProto("entity_rows.columns", chunk.GetColumns().GetColumns())
	if err != nil {
		return err
	}
	if t.names == nil {
		if err := t.call.checkNames(columns.Names); err != nil {
			return err
		}
		t.names = columns.Names
		for _, c := range columns.Columns {
			t.values = append(t.values, feature.NewColumn(c.Type, 0))
		}
	}
	if err := t.append(columns); err != nil {
		return err
	}
	return t.call.feed(columns)
}

func (t *columnTable) append(columns wire.Columns) error {
	if !slices.Equal(columns.Names, t.names) {
		return fault.InvalidField("entity_rows.columns", "this chunk has the columns %q, the first had %q; all chunks need the same, in the same order", columns.Names, t.names)
	}
	for i, c := range columns.Columns {
		if c.Type != t.values[i].Type {
			return fault.InvalidField(fmt.Sprintf("entity_rows.columns[%d]", i), "column %q is %v, in the first chunk it was %v", t.names[i], c.Type, t.values[i].Type)
		}
		t.values[i].AppendColumn(c)
	}
	return nil
}

func (t *columnTable) finish() error { return nil }

func (t *columnTable) close() {}

func (t *columnTable) schema() ([]string, []feature.Type, error) {
	types := make([]feature.Type, len(t.values))
	for i, c := range t.values {
		types[i] = c.Type
	}
	return t.names, types, nil
}

func (t *columnTable) arrowFields() []arrow.Field {
	fields := make([]arrow.Field, len(t.values))
	for i, c := range t.values {
		fields[i] = arrowwire.Field(t.names[i], c.Type)
	}
	return fields
}

func (t *columnTable) columns(from, to int) ([]*twofoldv1.Column, error) {
	return wire.ColumnsToProto(t.names, t.values, from, to)
}

func (t *columnTable) arrays(mem memory.Allocator, from, to int) ([]arrow.Array, error) {
	arrays := make([]arrow.Array, 0, len(t.values))
	for _, c := range t.values {
		a, err := arrowwire.ToArray(c, from, to)
		if err != nil {
			releaseAll(arrays)
			return nil, err
		}
		arrays = append(arrays, a)
	}
	return arrays, nil
}

func (t *columnTable) bytesPerRow() int {
	bytes, rows := 0, 0
	for _, c := range t.values {
		rows = c.Len()
		bytes += c.SizeBytes()
	}
	return bytes / max(1, rows)
}

func releaseAll(arrays []arrow.Array) {
	for _, a := range arrays {
		a.Release()
	}
}
