package offline

import (
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// A row group that is written is in memory until it is complete: it ends after so many rows, or once its pages have so many bytes.
const (
	writtenGroupRows  = 1 << 20
	writtenGroupBytes = 64 << 20
)

// ParquetWriter writes Arrow records to a Parquet file that any reader takes: zstd, standard lists, times as microseconds in UTC.
type ParquetWriter struct{ w *pqarrow.FileWriter }

// NewParquetWriter starts a file. Timestamp fields of the schema should be arrow.Timestamp_us with the time zone "UTC"; other units
// are converted to microseconds. w is not closed.
func NewParquetWriter(w io.Writer, schema *arrow.Schema) (*ParquetWriter, error) {
	properties := parquet.NewWriterProperties(
		parquet.WithCompression(compress.Codecs.Zstd),
		parquet.WithMaxRowGroupLength(writtenGroupRows),
		parquet.WithVersion(parquet.V2_LATEST),
		parquet.WithCreatedBy("twofold"),
	)
	arrowProperties := pqarrow.NewArrowWriterProperties(
		pqarrow.WithCoerceTimestamps(arrow.Microsecond), pqarrow.WithTruncatedTimestamps(true), pqarrow.WithStoreSchema())
	// The writer would close w with itself if it could.
	fw, err := pqarrow.NewFileWriter(schema, struct{ io.Writer }{w}, properties, arrowProperties)
	if err != nil {
		return nil, err
	}
	return &ParquetWriter{fw}, nil
}

// Write appends the rows of a record of the schema. The record may be released afterwards.
func (w *ParquetWriter) Write(record arrow.RecordBatch) error {
	if w.w.RowGroupTotalCompressedBytes() >= writtenGroupBytes {
		if err := w.w.NewBufferedRowGroupChecked(); err != nil {
			return err
		}
	}
	return w.w.WriteBuffered(record)
}

// Close writes the end of the file. Without it the file is not readable.
func (w *ParquetWriter) Close() error { return w.w.Close() }
