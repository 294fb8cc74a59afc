package offline

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
)

func TestOpenFile(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		p.put(t, "d/x[1].csv", []byte("0123456789"))
		info, err := p.store.StatFile(t.Context(), "d/x[1].csv")
		require.NoError(t, err)
		require.Equal(t, File{URL: p.url + "/d/x[1].csv", SizeBytes: 10, ETag: info.ETag}, info.File())
		for _, path := range []string{"d", "d/", "d/x1.csv", "d/*", "nothing", "d/x[1].csv/y"} {
			_, err := p.store.StatFile(t.Context(), path)
			require.ErrorIs(t, err, fs.ErrNotExist, path)
			require.Equal(t, fault.Precondition, fault.KindOf(err), path)
		}

		r, err := p.store.OpenFile(t.Context(), info)
		require.NoError(t, err)
		defer r.Close()
		for range 2 {
			data, err := io.ReadAll(r.Bytes(t.Context()))
			require.NoError(t, err)
			require.Equal(t, "0123456789", string(data))
		}
		piece := make([]byte, 4)
		n, err := r.Bytes(t.Context()).ReadAt(piece, 8)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, "89", string(piece[:n]))
		require.NoError(t, r.Unchanged())

		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = r.Bytes(cancelled).Read(piece)
		require.ErrorIs(t, err, context.Canceled)

		p.put(t, "d/x[1].csv", []byte("another one"))
		_, err = r.Bytes(t.Context()).Read(piece)
		if err = errors.Join(err, r.Unchanged()); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("it was replaced: %v", err)
		}
		again, err := p.store.OpenFile(t.Context(), info)
		if err == nil {
			_, err = again.Bytes(t.Context()).Read(piece)
		}
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
	})
}

func TestFilesOfRows(t *testing.T) {
	p := filePlace(t)
	p.put(t, "d/b.parquet", simple(t, 1))
	p.put(t, "d/a.parquet", simple(t, 2))
	rows, err := p.store.OpenRows(t.Context(), "d")
	require.NoError(t, err)
	files := rows.Files()
	require.Len(t, files, 2)
	for i, name := range []string{"d/a.parquet", "d/b.parquet"} {
		info, err := os.Stat(strings.TrimPrefix(p.url, fileScheme) + "/" + name)
		require.NoError(t, err)
		require.Equal(t, File{URL: p.url + "/" + name, SizeBytes: info.Size(), ETag: files[i].ETag}, files[i])
		require.NotEmpty(t, files[i].ETag)
	}
}
