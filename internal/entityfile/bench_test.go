package entityfile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
)

// BenchmarkCSV reads 100,000 rows of a key, a time, an integer, a double and a code, from opening to the last record.
func BenchmarkCSV(b *testing.B) {
	var text strings.Builder
	text.WriteString("user,event_timestamp,label,amount,code\n")
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	const rows = 100_000
	for i := range rows {
		fmt.Fprintf(&text, "%d,%s,%d,%g,c%05d\n", i*7919%50_000, start.Add(time.Duration(i)*time.Second).Format(time.RFC3339), i%2, float64(i)/7, i%1000)
	}
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		r, err := openText(b, text.String(), map[string]feature.Type{"user": feature.Int64, "event_timestamp": feature.Timestamp}, "event_timestamp")
		require.NoError(b, err)
		n := int64(0)
		require.NoError(b, r.Each(b.Context(), func(record arrow.RecordBatch) error {
			n += record.NumRows()
			return nil
		}))
		require.EqualValues(b, rows, n)
	}
}
