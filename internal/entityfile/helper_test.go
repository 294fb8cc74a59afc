package entityfile

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// place is somewhere to put files for a test, and the store that reads them.
type place struct {
	store *offline.Store
	url   string
	put   func(path string, data []byte)
}

func filePlace(t testing.TB) place {
	dir := t.TempDir()
	store, err := offline.Open(context.Background(), offline.Config{Path: dir})
	require.NoError(t, err)
	return place{store, "file://" + dir, func(path string, data []byte) {
		full := filepath.Join(dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		require.NoError(t, os.WriteFile(full, data, 0o600))
	}}
}

// onEveryPlace runs a test on local files and on S3.
func onEveryPlace(t *testing.T, test func(t *testing.T, p place)) {
	t.Run("file", func(t *testing.T) { test(t, filePlace(t)) })
	t.Run("s3", func(t *testing.T) {
		server := testenv.S3(t)
		bucket := server.Bucket(t)
		store, err := offline.Open(t.Context(), offline.Config{Path: "s3://" + bucket,
			S3: offline.S3Config{Endpoint: server.Endpoint, PathStyle: true, AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey}})
		require.NoError(t, err)
		test(t, place{store, "s3://" + bucket, func(path string, data []byte) { server.Put(t, bucket, path, data) }})
	})
}

// readAll gives all rows: a slice a column. Nulls are nil, times microseconds.
func readAll(ctx context.Context, r *Reader) ([][]any, error) {
	columns := make([][]any, r.Schema().NumFields())
	err := r.Each(ctx, func(record arrow.RecordBatch) error {
		for i, array := range record.Columns() {
			c, err := arrowwire.FromArray(array)
			if err != nil {
				return err
			}
			for row := range c.Len() {
				columns[i] = append(columns[i], c.ValueAt(row))
			}
		}
		return nil
	})
	return columns, err
}

// memory is a file in memory.
type memory string

func (m memory) Bytes(context.Context) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(string(m)), 0, int64(len(m)))
}

func (memory) Unchanged() error { return nil }

// openText opens text as a CSV file.
func openText(t testing.TB, text string, types map[string]feature.Type, timeColumn string) (*Reader, error) {
	t.Helper()
	return openMemory(text, Options{Format: CSV, Types: types, TimeColumn: timeColumn})
}

func openMemory(data string, o Options) (*Reader, error) {
	r, err := openBytes(context.Background(), memory(data), o.Format, o)
	if err != nil {
		return nil, fmt.Errorf("entity rows rows.csv: %w", err)
	}
	r.close = func() error { return nil }
	return r.finish("rows.csv", o)
}
