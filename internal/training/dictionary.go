package training

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Records may come with a dictionary each. Kept as one column they share one, which may have more values than indices of 8 or 16 bits name; such columns
// are kept, and handed on, with indices of 32 bits.

// wideType is the type as which a column is kept.
func wideType(t arrow.DataType) arrow.DataType {
	d, ok := t.(*arrow.DictionaryType)
	if !ok || d.IndexType.(arrow.FixedWidthDataType).BitWidth() >= 32 {
		return t
	}
	return &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: d.ValueType, Ordered: d.Ordered}
}

// wideSchema is the schema as which records are kept.
func wideSchema(schema *arrow.Schema) *arrow.Schema {
	fields := schema.Fields()
	for i := range fields {
		fields[i].Type = wideType(fields[i].Type)
	}
	metadata := schema.Metadata()
	return arrow.NewSchema(fields, &metadata)
}

// wideRecord returns a record in a schema of wideSchema; the caller releases it.
func wideRecord(schema *arrow.Schema, record arrow.RecordBatch) arrow.RecordBatch {
	columns := make([]arrow.Array, record.NumCols())
	defer func() { releaseArrays(columns) }()
	for i, column := range record.Columns() {
		if d, ok := column.(*array.Dictionary); ok && !arrow.TypeEqual(d.DataType(), schema.Field(i).Type) {
			columns[i] = wideIndices(d, schema.Field(i).Type)
		} else {
			column.Retain()
			columns[i] = column
		}
	}
	return array.NewRecordBatch(schema, columns, record.NumRows())
}

func wideIndices(d *array.Dictionary, t arrow.DataType) arrow.Array {
	b := array.NewInt32Builder(memory.DefaultAllocator)
	defer b.Release()
	b.Reserve(d.Len())
	for i := range d.Len() {
		if d.IsNull(i) {
			b.AppendNull()
		} else {
			b.Append(int32(d.GetValueIndex(i)))
		}
	}
	indices := b.NewArray()
	defer indices.Release()
	return array.NewDictionaryArray(t, indices, d.Dictionary())
}
