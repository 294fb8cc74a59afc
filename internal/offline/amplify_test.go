package offline_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
)

// amplified is a small file that stands for much: one long text in a dictionary, and as many rows that point to it.
func amplified(t *testing.T, textBytes, rows int) string {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.BinaryTypes.String}, {Name: "event_timestamp", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
		{Name: "text", Type: arrow.BinaryTypes.String},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	long := strings.Repeat("x", textBytes)
	for i := range rows {
		b.Field(0).(*array.StringBuilder).Append("k")
		b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
		b.Field(2).(*array.StringBuilder).Append(long)
	}
	var out bytes.Buffer
	w, err := offline.NewParquetWriter(&out, schema)
	if err == nil {
		err = errors.Join(w.Write(b.NewRecordBatch()), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "amplified.parquet")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out.Len() > textBytes*rows/100 {
		t.Fatalf("the file has %d bytes, which is not small", out.Len())
	}
	return path
}

// TestAmplification: values that take more than they may are an error before they are made.
func TestAmplification(t *testing.T) {
	path := amplified(t, 64<<10, 8192) // 512 MiB of text
	store, err := offline.Open(t.Context(), offline.Config{Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	view := func(key string) *feature.View {
		return &feature.View{
			Name: "v", Entity: &feature.Entity{Name: "e", Keys: []feature.Key{{Name: "id", Type: feature.String}}},
			Source:   feature.Source{Path: path, KeyColumns: []string{key}, EventTimeColumn: "event_timestamp"},
			Features: []feature.Feature{{Name: "text", Column: "text", Type: feature.String}},
		}
	}
	fragment := func(key string) feature.Fragment {
		fragments, _, err := store.Table(view(key)).Scan().Fragments(t.Context(), feature.AllTime())
		if err != nil || len(fragments) != 1 {
			t.Fatal(len(fragments), err)
		}
		return fragments[0]
	}
	refused := func(what string, err error) {
		if !errors.Is(err, feature.ErrLimit) || fault.KindOf(err) != fault.Exhausted {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("keys", fragment("text").Keys(context.Background(), feature.AllTime(), func(feature.KeyBatch) error { return nil }))
	rows := make([]int64, 8192)
	for i := range rows {
		rows[i] = int64(i)
	}
	dst := feature.NewColumn(feature.String, 0)
	dst.Limit = 1 << 20
	refused("values", fragment("id").Gather(t.Context(), rows, []int{0}, []*feature.Column{dst}))
	if len(dst.Data) > dst.Limit {
		t.Errorf("%d bytes are there", len(dst.Data))
	}
	dst = feature.NewColumn(feature.String, 0)
	dst.Limit = 1 << 20
	if err := fragment("id").Gather(t.Context(), rows[:16], []int{0}, []*feature.Column{dst}); err != nil || len(dst.Data) != 1<<20 {
		t.Errorf("exactly the limit: %d bytes, %v", len(dst.Data), err)
	}
}
