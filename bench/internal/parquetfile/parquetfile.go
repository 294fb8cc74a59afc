// Package parquetfile writes the Parquet files that benchmarks read.
package parquetfile

import (
	"bufio"
	"context"
	"fmt"
	"os"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/twofold-ml/twofold/internal/offline"
)

// chunkRows are made at once.
const chunkRows = 1 << 15

// Write writes the rows [from, to) to a new file, in one row group where they are no more than a million, as pyarrow writes them by default. fill appends
// the rows [from, to) to the builder, some at a time.
func Write(ctx context.Context, path string, schema *arrow.Schema, from, to int64, fill func(b *array.RecordBuilder, from, to int64)) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write data: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	buffered := bufio.NewWriterSize(file, 1<<20)
	writer, err := offline.NewParquetWriter(buffered, schema)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	for ; from < to && ctx.Err() == nil; from += chunkRows {
		fill(builder, from, min(from+chunkRows, to))
		record := builder.NewRecordBatch()
		err := writer.Write(record)
		record.Release()
		if err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return buffered.Flush()
}
