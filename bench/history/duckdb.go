package main

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/duckdb/duckdb-go-bindings"
	"github.com/duckdb/duckdb-go/v2/mapping"
	"github.com/spf13/cobra"
)

// duck is an open in-memory DuckDB. It is used through the functions of its C API that duckdb-go itself stands on, since duckdb-go collects
// a whole result before it hands out the first row, and here rows are to be consumed as they come.
type duck struct {
	database   mapping.Database
	connection mapping.Connection
}

func openDuck(settings ...string) (*duck, error) {
	d := &duck{}
	if mapping.Open(":memory:", &d.database) == mapping.StateError {
		return nil, errors.New("open DuckDB")
	}
	if mapping.Connect(d.database, &d.connection) == mapping.StateError {
		mapping.Close(&d.database)
		return nil, errors.New("connect to DuckDB")
	}
	for _, s := range settings {
		if err := d.exec(s); err != nil {
			d.close()
			return nil, err
		}
	}
	return d, nil
}

func (d *duck) close() {
	mapping.Disconnect(&d.connection)
	mapping.Close(&d.database)
}

// exec runs a statement whose result does not matter.
func (d *duck) exec(sql string) error {
	var result mapping.Result
	defer mapping.DestroyResult(&result)
	if duckdb_go_bindings.Query(d.connection, sql, &result) == mapping.StateError {
		return fmt.Errorf("DuckDB: %s: %s", sql, mapping.ResultError(&result))
	}
	return nil
}

// consume runs a query and reads its result to the last value, as a stream: DuckDB goes on while rows are read, and holds no more of
// them than its streaming_buffer_size.
func (d *duck) consume(sql string) (_ *tally, err error) {
	var statement mapping.PreparedStatement
	defer mapping.DestroyPrepare(&statement)
	if mapping.Prepare(d.connection, sql, &statement) == mapping.StateError {
		return nil, fmt.Errorf("DuckDB: %s", mapping.PrepareError(statement))
	}
	var pending mapping.PendingResult
	defer mapping.DestroyPending(&pending)
	if duckdb_go_bindings.PendingPreparedStreaming(statement, &pending) == mapping.StateError {
		return nil, fmt.Errorf("DuckDB: %s", mapping.PendingError(pending))
	}
	var result mapping.Result
	defer mapping.DestroyResult(&result)
	if mapping.ExecutePending(pending, &result) == mapping.StateError {
		return nil, fmt.Errorf("DuckDB: %s", mapping.ResultError(&result))
	}
	if !duckdb_go_bindings.ResultIsStreaming(result) {
		return nil, errors.New("DuckDB has materialized the result")
	}
	t := &tally{}
	var types []mapping.Type
	for c := range mapping.ColumnCount(&result) {
		t.Columns = append(t.Columns, columnTally{Name: mapping.ColumnName(&result, c)})
		types = append(types, mapping.ColumnType(&result, c))
	}
	for {
		chunk := mapping.FetchChunk(result)
		if chunk.Ptr == nil {
			break
		}
		err := addChunk(t, types, chunk)
		mapping.DestroyDataChunk(&chunk)
		if err != nil {
			return nil, err
		}
	}
	if message := mapping.ResultError(&result); message != "" {
		return nil, fmt.Errorf("DuckDB: %s", message)
	}
	return t, nil
}

// addChunk reads all values of a chunk where DuckDB has them.
func addChunk(t *tally, types []mapping.Type, chunk mapping.DataChunk) error {
	rows := int(mapping.DataChunkGetSize(chunk))
	t.start(rows)
	for c, kind := range types {
		vector := mapping.DataChunkGetVector(chunk, mapping.IdxT(c))
		data := mapping.VectorGetData(vector)
		var valid validity
		if mask := mapping.VectorGetValidity(vector); mask != nil {
			valid.bits = unsafe.Slice((*byte)(mask), (rows+63)/64*8)
		}
		switch kind {
		case mapping.TypeBigInt, mapping.TypeTimestamp:
			t.int64s(c, unsafe.Slice((*int64)(data), rows), valid)
		case mapping.TypeDouble:
			t.doubles(c, unsafe.Slice((*float64)(data), rows), valid)
		case mapping.TypeVarchar:
			values := unsafe.Slice((*duckString)(data), rows)
			t.strings(c, func(i int) string { return values[i].text() }, valid)
		default:
			return fmt.Errorf("column %s of DuckDB's result has type %d, which is not expected", t.Columns[c].Name, kind)
		}
	}
	t.finish()
	return nil
}

// duckString is duckdb_string_t: up to 12 bytes stand in it, of longer strings it has a prefix and a pointer.
type duckString struct {
	length uint32
	prefix [4]byte
	rest   unsafe.Pointer
}

const inlineBytes = 12

func (s *duckString) text() string {
	if s.length <= inlineBytes {
		return unsafe.String(&s.prefix[0], s.length)
	}
	return unsafe.String((*byte)(s.rest), s.length)
}

func duckCommand() *cobra.Command {
	return childCommand(duckUse, "Run a query in DuckDB and read its result to the last value", func(_ context.Context, o order) (func() (*tally, error), func(), error) {
		d, err := openDuck(o.Settings...)
		if err != nil {
			return nil, nil, err
		}
		return func() (*tally, error) { return d.consume(o.SQL) }, d.close, nil
	})
}

// version returns DuckDB's own version.
func (*duck) version() string { return duckdb_go_bindings.LibraryVersion() }
