package entityfile

import (
	"context"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// openParquetPath opens a Parquet file, a folder or a pattern of them.
func openParquetPath(ctx context.Context, store *offline.Store, path string, o Options) (*Reader, error) {
	rows, err := store.OpenRows(ctx, path)
	if err != nil {
		return nil, err
	}
	r, err := openParquet(rows, o)
	if err != nil {
		return nil, err
	}
	r.files = rows.Files()
	return r, nil
}

// openParquetBytes opens a Parquet file that is no store's.
func openParquetBytes(ctx context.Context, name string, from source, o Options) (*Reader, error) {
	data, err := io.ReadAll(from.Bytes(ctx))
	if err != nil {
		return nil, err
	}
	rows, err := offline.RowsIn(ctx, name, data)
	if err != nil {
		return nil, err
	}
	return openParquet(rows, o)
}

// openParquet makes records of Parquet rows. Columns that cannot be read are left out, with a warning, where somebody takes it.
func openParquet(rows *offline.Rows, o Options) (*Reader, error) {
	var columns []offline.RowColumn
	var fields []arrow.Field
	for _, c := range rows.Schema().Columns {
		t, named := o.Types[c.Name]
		switch {
		case named:
			if err := c.CanRead(t); err != nil {
				return nil, err
			}
		case c.Type == 0:
			if o.Warn == nil {
				return nil, fault.New(fault.Invalid, "column %q cannot be read: %s; leave it out of the file, or cast it there", c.Name, c.Reason)
			}
			o.Warn(fmt.Sprintf("column %q is left out: it cannot be read: %s", c.Name, c.Reason))
			continue
		default:
			t = c.Type
		}
		columns = append(columns, offline.RowColumn{Name: c.Name, Type: t})
		fields = append(fields, arrowwire.Field(c.Name, t))
	}
	schema := arrow.NewSchema(fields, nil)
	each := func(ctx context.Context, yield func(arrow.RecordBatch) error) error {
		return rows.Read(ctx, columns, func(batch []*feature.Column) error {
			r, err := newRecord(schema, batch)
			if err != nil {
				return err
			}
			defer r.Release()
			return yield(r)
		})
	}
	return &Reader{schema: schema, rows: rows.NumRows(), each: each, close: func() error { return nil }}, nil
}
