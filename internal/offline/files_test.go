package offline

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
)

// readAll returns the files of a path, "name text" each.
func readAll(t *testing.T, p place, path string) []string {
	t.Helper()
	files, err := p.store.ListFiles(t.Context(), path, ".yaml", ".yml")
	require.NoError(t, err)
	var got []string
	for _, f := range files {
		data, err := p.store.ReadFile(t.Context(), f, 100)
		require.NoError(t, err)
		require.NotEmpty(t, f.ETag)
		got = append(got, strings.TrimPrefix(f.URL, p.url+"/")+" "+string(data))
	}
	return got
}

func TestListFiles(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		for _, name := range []string{"d/b.yaml", "d/a.yml", "d/sub/c.YAML", "d/no.txt", "d/.hidden.yaml", "d/.git/e.yaml", "d/_f.yaml", "dd.yaml", "d/empty.yaml"} {
			text := name
			if name == "d/empty.yaml" {
				text = ""
			}
			p.put(t, name, []byte(text))
		}
		want := []string{"d/_f.yaml d/_f.yaml", "d/a.yml d/a.yml", "d/b.yaml d/b.yaml", "d/empty.yaml ", "d/sub/c.YAML d/sub/c.YAML"}
		require.Equal(t, want, readAll(t, p, "d"))
		require.Equal(t, want, readAll(t, p, "d/"))
		require.Equal(t, want, readAll(t, p, p.url+"/d"))
		require.Equal(t, []string{"d/no.txt d/no.txt"}, readAll(t, p, "d/no.txt"), "one file may have any name")

		for _, missing := range []string{"nowhere", "d/.git/", "d/b.yaml/"} {
			_, err := p.store.ListFiles(t.Context(), missing, ".yml")
			require.ErrorIs(t, err, fs.ErrNotExist, missing)
			require.Equal(t, fault.Precondition, fault.KindOf(err), missing)
		}
	})
}

func TestReadFileOfOtherVersionOrSize(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		p.put(t, "a.yaml", []byte("first"))
		files, err := p.store.ListFiles(t.Context(), "a.yaml")
		require.NoError(t, err)
		_, err = p.store.ReadFile(t.Context(), files[0], 4)
		require.Equal(t, fault.Exhausted, fault.KindOf(err))
		p.put(t, "a.yaml", []byte("the second"))
		_, err = p.store.ReadFile(t.Context(), files[0], 100)
		require.Equal(t, fault.Unavailable, fault.KindOf(err), err)
		again, err := p.store.ListFiles(t.Context(), "a.yaml")
		require.NoError(t, err)
		require.NotEqual(t, files[0].ETag, again[0].ETag)
	})
}
