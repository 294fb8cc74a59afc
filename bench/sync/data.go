package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"golang.org/x/sync/errgroup"

	"github.com/twofold-ml/twofold/bench/internal/parquetfile"
	"github.com/twofold-ml/twofold/bench/internal/s3gateway"
	"github.com/twofold-ml/twofold/bench/internal/workload"
)

const (
	// fileRows is the number of rows of a file, which is one row group.
	fileRows = 1_000_000
	// leastFiles of a history, however few rows it has.
	leastFiles = 4
	// changedOneIn is how many rows of the history there are to one of a file that is added to it, and how many entities to one of the second such file.
	changedOneIn = 100
	// The rows of a history are spread over spanDays.
	spanDays = 100
)

// loaded is the shape of the view that is synced; its values are those of workload.Data, the number of a row standing for the entity.
var loaded = workload.Layout{Views: 1, Features: 10}

// history is what the source of the synced view holds. Everything follows from its fields, so that any process can tell what a sync must have stored.
type history struct {
	seed           uint64
	rows, entities int64
}

// startMicros is the first event time. It is fixed, so that data may be kept for long.
var startMicros = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// The files that are added later, one after the other: rows of any entities, and rows of few, both newer than all before.
const (
	ofAny = iota
	ofFew
	addedFiles
)

// changed is the number of rows of a file that is added later; their numbers follow those of what is there.
func (h history) changed() int64 { return h.rows / changedOneIn }

// until is the number of rows up to the end of an added file.
func (h history) until(added int) int64 { return h.rows + int64(added+1)*h.changed() }

// entity returns whose row it is: any, so that an entity's rows are spread over all files, but one of a few in the second file that is added.
func (h history) entity(row int64) int64 {
	entities := h.entities
	if row >= h.until(ofAny) {
		entities = max(1, entities/changedOneIn)
	}
	return rand.New(rand.NewPCG(h.seed, uint64(row))).Int64N(entities)
}

// eventMicros returns the event time of a row. Rows are in the order of time, no two at the same.
func (h history) eventMicros(row int64) int64 {
	return startMicros + row*(spanDays*24*time.Hour.Microseconds()/h.until(ofFew))
}

// createdMicros returns the created time of a row.
func (h history) createdMicros(row int64) int64 {
	return h.eventMicros(row) + time.Second.Microseconds()
}

// value returns a feature of a row, or that it is null.
func (h history) value(row int64, feature int) (value float64, null bool) {
	return workload.Data{Seed: h.seed}.Value(loaded, 0, feature, int(row))
}

// newest returns the number of the newest row of each entity among the first so many rows, -1 for those that have none.
func (h history) newest(rows int64) []int64 {
	newest := make([]int64, h.entities)
	for i := range newest {
		newest[i] = -1
	}
	for row := range rows {
		newest[h.entity(row)] = row
	}
	return newest
}

const (
	keyColumn     = "customer_id"
	timeColumn    = "event_timestamp"
	createdColumn = "created"
)

func (h history) schema() *arrow.Schema {
	micros := &arrow.TimestampType{Unit: arrow.Microsecond} // without a zone, as pyarrow and pandas write it by default
	fields := []arrow.Field{
		{Name: keyColumn, Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: timeColumn, Type: micros, Nullable: true},
		{Name: createdColumn, Type: micros, Nullable: true},
	}
	for f := range loaded.Features {
		fields = append(fields, arrow.Field{Name: loaded.Feature(f), Type: arrow.PrimitiveTypes.Float64, Nullable: true})
	}
	return arrow.NewSchema(fields, nil)
}

// append appends the rows [from, to).
func (h history) append(b *array.RecordBuilder, from, to int64) {
	b.Reserve(int(to - from))
	for row := from; row < to; row++ {
		b.Field(0).(*array.Int64Builder).UnsafeAppend(h.entity(row))
		b.Field(1).(*array.TimestampBuilder).UnsafeAppend(arrow.Timestamp(h.eventMicros(row)))
		b.Field(2).(*array.TimestampBuilder).UnsafeAppend(arrow.Timestamp(h.createdMicros(row)))
		for f := range loaded.Features {
			values := b.Field(3 + f).(*array.Float64Builder)
			if v, null := h.value(row, f); null {
				values.AppendNull()
			} else {
				values.UnsafeAppend(v)
			}
		}
	}
}

// name is a name that says all that the history follows from.
func (h history) name() string {
	return fmt.Sprintf("history-%d-of-%d-%d", h.rows, h.entities, h.seed)
}

// addedKey is where a file that is added later is put into S3; by its name it is the last one.
func (h history) addedKey(added int) string {
	return fmt.Sprintf("%s/zz-added-%d.parquet", h.name(), added)
}

// bucket holds histories in S3.
const bucket = "sync"

// folders of a history.
type folders struct{ root string }

// gateway is where the S3 service keeps its objects.
func (f folders) gateway() string { return filepath.Join(f.root, "s3") }

// added is a file that is added later.
func (f folders) added(h history, added int) string {
	return filepath.Join(f.root, fmt.Sprintf("%s-added-%d.parquet", h.name(), added))
}

// complete exists once all of a history is in S3.
func (f folders) complete(h history) string { return filepath.Join(f.root, h.name()+"-complete") }

// put makes a history and puts it into S3, unless it is there from an earlier run.
func (h history) put(ctx context.Context, g *s3gateway.Gateway, f folders) error {
	if _, err := os.Stat(f.complete(h)); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	files := max(leastFiles, (h.rows+fileRows-1)/fileRows)
	for file := range files {
		group.Go(func() error {
			path := filepath.Join(f.root, fmt.Sprintf("%s-%05d.part", h.name(), file))
			defer os.Remove(path)
			if err := parquetfile.Write(within, path, h.schema(), h.rows*file/files, h.rows*(file+1)/files, h.append); err != nil {
				return err
			}
			return g.Put(within, path, fmt.Sprintf("%s/part-%05d.parquet", h.name(), file))
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for added := range addedFiles {
		if err := parquetfile.Write(ctx, f.added(h, added), h.schema(), h.until(added)-h.changed(), h.until(added), h.append); err != nil {
			return err
		}
	}
	return os.WriteFile(f.complete(h), nil, 0o600)
}
