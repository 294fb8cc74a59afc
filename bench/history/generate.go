package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"golang.org/x/sync/errgroup"

	"github.com/twofold-ml/twofold/bench/internal/parquetfile"
	"github.com/twofold-ml/twofold/bench/internal/s3gateway"
)

// Names of columns.
const (
	keyColumn     = "customer_id"
	timeColumn    = "event_timestamp"
	createdColumn = "created"
	labelColumn   = "label"
	stringColumn  = "segment"
)

// doubleColumn returns the name of a double feature.
func doubleColumn(feature int) string { return fmt.Sprintf("f%d", feature+1) }

const (
	// fileRows is the number of rows of a file, which is one row group: pyarrow's write_table cuts row groups at 1,048,576 rows.
	fileRows = 1_000_000
	// leastFiles of a table, however few rows it has.
	leastFiles = 4
)

// A time without a zone, as pyarrow and pandas write it by default; both engines take it as UTC.
var timeType = &arrow.TimestampType{Unit: arrow.Microsecond}

func featureSchema() *arrow.Schema {
	fields := []arrow.Field{
		{Name: keyColumn, Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: timeColumn, Type: timeType, Nullable: true},
		{Name: createdColumn, Type: timeType, Nullable: true},
	}
	for f := range featureDoubles {
		fields = append(fields, arrow.Field{Name: doubleColumn(f), Type: arrow.PrimitiveTypes.Float64, Nullable: true})
	}
	return arrow.NewSchema(append(fields, arrow.Field{Name: stringColumn, Type: arrow.BinaryTypes.String, Nullable: true}), nil)
}

func entitySchema() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: keyColumn, Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: timeColumn, Type: timeType, Nullable: true},
		{Name: labelColumn, Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
}

func (t table) files() int64 { return max(leastFiles, (t.rows+fileRows-1)/fileRows) }

// name is a folder's name that says all that the table follows from.
func (t table) name() string {
	layout := "time"
	if t.shuffled {
		layout = "shuffled"
	}
	return fmt.Sprintf("features-%d-%s-%d", t.rows, layout, t.seed)
}

func (e entityTable) name() string {
	when := "all"
	if e.recent {
		when = "recent"
	}
	return fmt.Sprintf("entities-%d-%s-of-%s", e.rows, when, e.of.name())
}

// generate writes a table's files into a folder below root, unless they are there already.
func (t table) generate(ctx context.Context, root string) error {
	return once(filepath.Join(root, t.name()), func(folder string) error {
		names := segmentNames()
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(runtime.GOMAXPROCS(0))
		files := t.files()
		for file := range files {
			group.Go(func() error {
				path := filepath.Join(folder, fmt.Sprintf("part-%05d.parquet", file))
				return parquetfile.Write(ctx, path, featureSchema(), t.rows*file/files, t.rows*(file+1)/files, func(b *array.RecordBuilder, from, to int64) {
					t.append(b, names, from, to)
				})
			})
		}
		return group.Wait()
	})
}

// generate writes the one file of the entity rows, unless it is there already.
func (e entityTable) generate(ctx context.Context, root string) error {
	return once(filepath.Join(root, e.name()), func(folder string) error {
		return parquetfile.Write(ctx, filepath.Join(folder, "entities.parquet"), entitySchema(), 0, e.rows, e.append)
	})
}

// bucket holds the tables in S3.
const bucket = "history"

// upload puts a table's files into S3, under the names that they have below root.
func (t table) upload(ctx context.Context, g *s3gateway.Gateway, root string) error {
	paths, err := filepath.Glob(filepath.Join(root, t.name(), "*.parquet"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := g.Put(ctx, path, t.name()+"/"+filepath.Base(path)); err != nil {
			return err
		}
	}
	return nil
}

// once has a folder filled. It appears under its name when it is complete, so that one that is there is.
func once(folder string, fill func(folder string) error) error {
	if _, err := os.Stat(folder); err == nil {
		return nil
	}
	part := folder + ".part"
	if err := os.RemoveAll(part); err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	if err := os.MkdirAll(part, 0o755); err != nil {
		return fmt.Errorf("make a folder for data: %w", err)
	}
	if err := fill(part); err != nil {
		return err
	}
	return os.Rename(part, folder)
}

// append appends the rows that stand at [from, to).
func (t table) append(b *array.RecordBuilder, names []string, from, to int64) {
	b.Reserve(int(to - from))
	keys, events, created := b.Field(0).(*array.Int64Builder), b.Field(1).(*array.TimestampBuilder), b.Field(2).(*array.TimestampBuilder)
	strings := b.Field(3 + featureDoubles).(*array.StringBuilder)
	for place := from; place < to; place++ {
		i := t.place(place)
		e := t.event(i)
		keys.UnsafeAppend(e.key)
		events.UnsafeAppend(arrow.Timestamp(e.eventMicros))
		created.UnsafeAppend(arrow.Timestamp(e.createdMicros))
		for f := range featureDoubles {
			doubles := b.Field(3 + f).(*array.Float64Builder)
			if v, ok := t.double(i, f); ok {
				doubles.UnsafeAppend(v)
			} else {
				doubles.AppendNull()
			}
		}
		if number, ok := t.segment(i); ok {
			strings.Append(names[number])
		} else {
			strings.AppendNull()
		}
	}
}

// append appends entity rows.
func (e entityTable) append(b *array.RecordBuilder, from, to int64) {
	for i := from; i < to; i++ {
		key, micros := e.row(i)
		b.Field(0).(*array.Int64Builder).Append(key)
		b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(micros))
		b.Field(2).(*array.Int64Builder).Append(i)
	}
}
