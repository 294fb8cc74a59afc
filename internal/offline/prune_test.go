package offline

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
)

// withOneBound is a file whose statistics of the second column lack the least or the greatest value.
func withOneBound(t *testing.T, data []byte, lacksLeast bool) []byte {
	r, err := file.NewParquetReader(bytes.NewReader(data))
	require.NoError(t, err)
	meta := r.MetaData()
	for _, group := range meta.RowGroups {
		stats := group.Columns[1].MetaData.Statistics
		if lacksLeast {
			stats.Min, stats.MinValue = nil, nil
		} else {
			stats.Max, stats.MaxValue = nil, nil
		}
	}
	length := int(binary.LittleEndian.Uint32(data[len(data)-8:]))
	out := bytes.NewBuffer(bytes.Clone(data[:len(data)-8-length]))
	n, err := meta.WriteTo(out, nil)
	require.NoError(t, err)
	out.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
	out.WriteString(magic)
	return out.Bytes()
}

// TestOneBoundPrunesNothing: where statistics state only the least or only the greatest time, the other one is not known; it is not 1970.
func TestOneBoundPrunesNothing(t *testing.T) {
	p := filePlace(t)
	data := writeArrow(t, 3, []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), field("x", arrow.PrimitiveTypes.Float64)},
		[]arrow.Array{int64s(1, 2, 3), times(-1000, 5, 1000), doubles(1, 2, 3)})
	for _, lacksLeast := range []bool{true, false} {
		p.put(t, "x.parquet", withOneBound(t, data, lacksLeast))
		for _, within := range []feature.TimeRange{{Min: -2000, Max: -500}, {Min: 500, Max: 2000}} {
			fragments, pruned, err := p.store.Table(view("x.parquet", feature.Int64, xFeature)).Fragments(t.Context(), within)
			require.NoError(t, err)
			require.Len(t, fragments, 1, "%v, without the least: %v", within, lacksLeast)
			require.Zero(t, pruned)
		}
	}
}
