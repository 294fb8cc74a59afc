package offline

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"slices"
	"sort"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/twofold-ml/twofold/internal/fault"
)

// A row group that is written is in memory until it is complete: it ends after so many rows, or once its pages have so many bytes.
const (
	writtenGroupRows  = 1 << 20
	writtenGroupBytes = 64 << 20
)

// ParquetWriter writes Arrow records to a Parquet file that any reader takes: zstd, standard lists, times as microseconds in UTC. The same records make the
// same bytes.
type ParquetWriter struct {
	w    *pqarrow.FileWriter
	sink *footerSink
}

// NewParquetWriter starts a file. Timestamp fields of the schema should be arrow.Timestamp_us with the time zone "UTC"; other units
// are converted to microseconds, nanoseconds rounded down as everywhere. w is not closed.
func NewParquetWriter(w io.Writer, schema *arrow.Schema) (*ParquetWriter, error) {
	properties := parquet.NewWriterProperties(
		parquet.WithCompression(compress.Codecs.Zstd),
		parquet.WithMaxRowGroupLength(writtenGroupRows),
		parquet.WithVersion(parquet.V2_LATEST),
		parquet.WithCreatedBy("twofold"),
	)
	arrowProperties := pqarrow.NewArrowWriterProperties(
		pqarrow.WithCoerceTimestamps(arrow.Microsecond), pqarrow.WithTruncatedTimestamps(true), pqarrow.WithStoreSchema())
	sink := &footerSink{w: w}
	fw, err := pqarrow.NewFileWriter(schema, sink, properties, arrowProperties)
	if err != nil {
		return nil, err
	}
	return &ParquetWriter{fw, sink}, nil
}

// Write appends the rows of a record of the schema. The record may be released afterwards.
func (w *ParquetWriter) Write(record arrow.RecordBatch) error {
	if w.w.RowGroupTotalCompressedBytes() >= writtenGroupBytes {
		if err := w.w.NewBufferedRowGroupChecked(); err != nil {
			return err
		}
	}
	record = withoutNanos(record)
	defer record.Release()
	return w.w.WriteBuffered(record)
}

// withoutNanos returns a record, which is the caller's to release, with the nanoseconds of its timestamps rounded down to whole microseconds: what the library cuts off to write
// microseconds is rounded up before 1970. Timestamps in lists and structs stay as they are.
func withoutNanos(record arrow.RecordBatch) arrow.RecordBatch {
	columns := slices.Clone(record.Columns())
	for i, column := range columns {
		column.Retain()
		if times, ok := column.(*array.Timestamp); ok && times.DataType().(*arrow.TimestampType).Unit == arrow.Nanosecond {
			b := array.NewTimestampBuilder(memory.DefaultAllocator, times.DataType().(*arrow.TimestampType))
			b.Reserve(times.Len())
			for row, v := range times.TimestampValues() {
				if times.IsNull(row) {
					b.AppendNull()
				} else {
					b.Append(min(v, arrow.Timestamp(floorDiv(int64(v), 1000)*1000))) // the least there is has no whole one below it
				}
			}
			column.Release()
			columns[i] = b.NewArray()
			b.Release()
		}
	}
	defer func() {
		for _, column := range columns {
			column.Release()
		}
	}()
	return array.NewRecordBatch(record.Schema(), columns, record.NumRows())
}

// Close writes the end of the file. Without it the file is not readable.
func (w *ParquetWriter) Close() error {
	w.sink.hold = true
	if err := w.w.Close(); err != nil {
		return err
	}
	footer, err := w.w.FileMetadata()
	if err != nil {
		return err
	}
	return w.sink.writeFooter(footer)
}

// footerSink passes on what a Parquet writer writes, but for the footer, which is written by writeFooter instead: the library lists the encodings of a
// column in another order each time, where there are several, and so would never make the same file twice. It does not close w.
type footerSink struct {
	w    io.Writer
	hold bool
	// held are the last writes: the footer, its length and the magic bytes, once the writer is closed.
	held [][]byte
}

const footerWrites = 3

func (s *footerSink) Write(data []byte) (int, error) {
	if !s.hold {
		return s.w.Write(data)
	}
	s.held = append(s.held, bytes.Clone(data))
	if len(s.held) > footerWrites {
		if _, err := s.w.Write(s.held[0]); err != nil {
			return 0, err
		}
		s.held = s.held[1:]
	}
	return len(data), nil
}

// writeFooter writes the footer whose writing was held back, in an order of its own.
func (s *footerSink) writeFooter(footer *metadata.FileMetaData) error {
	for _, group := range footer.RowGroups {
		for _, column := range group.Columns {
			// Their type is internal to the library, which is why this is not slices.SortFunc.
			stats := column.MetaData.EncodingStats
			sort.Slice(stats, func(i, k int) bool {
				return cmp.Or(cmp.Compare(stats[i].PageType, stats[k].PageType), cmp.Compare(stats[i].Encoding, stats[k].Encoding)) < 0
			})
		}
	}
	var sorted bytes.Buffer
	if _, err := footer.WriteTo(&sorted, nil); err != nil {
		return err
	}
	length := binary.LittleEndian.AppendUint32(nil, uint32(sorted.Len()))
	if len(s.held) != footerWrites || len(s.held[0]) != sorted.Len() || !bytes.Equal(s.held[1], length) || string(s.held[2]) != magic {
		return fault.New(fault.Internal, "the Parquet library writes its footer otherwise than expected")
	}
	s.held[0] = sorted.Bytes()
	for _, data := range s.held {
		if _, err := s.w.Write(data); err != nil {
			return err
		}
	}
	return nil
}
