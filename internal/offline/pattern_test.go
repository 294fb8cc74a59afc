package offline

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
)

func TestPatternMatches(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{
			"s3://b/clicks",
			[]string{"s3://b/clicks", "s3a://b/clicks", "s3://b/clicks/1.parquet", "s3://b/clicks/day=1/2.parquet", "s3://b/clicks/d%3A1/2 3+4.parquet"},
			[]string{
				"s3://c/clicks", "s3://b/clicks2/1.parquet", "s3://b/click", "s3://b/clicks/1.csv", "s3://b/clicks/_tmp/1.parquet", "s3://b/clicks/.1.parquet", "/clicks/1.parquet",
				"s3:///clicks", "http://b/clicks",
			},
		},
		{"s3://b/clicks/", []string{"s3://b/clicks/1.parquet"}, []string{"s3://b/clicks2/1.parquet", "s3://b/clicks"}},
		{"s3://b", []string{"s3://b/1.parquet", "s3://b/x/1.parquet"}, []string{"s3://b/_x/1.parquet", "s3://b/", "s3://b"}},
		{
			"s3://b/day=*/{a,b}[0-9].parquet",
			[]string{"s3://b/day=1/a1.parquet", "s3://b/day=/b2.parquet", "s3://b/day=1/a1.parquet/x.parquet"},
			[]string{"s3://b/day=1/c1.parquet", "s3://b/day=1/x/a1.parquet", "s3://b/dax=1/a1.parquet", "s3://b/day=1/a1.parquet/x.csv", "s3://b/_day=1/a1.parquet"},
		},
		{"s3://b/*", []string{"s3://b/x", "s3://b/x/y/1.parquet"}, []string{"s3://b/_x", "s3://b/x/y"}},
		{"s3://b/x/**/1.parquet", []string{"s3://b/x/1.parquet", "s3://b/x/y/z/1.parquet"}, []string{"s3://b/x/y/2.parquet", "s3://b/x/.y/1.parquet"}},
		{"/data/x", []string{"/data/x", "/data/x/1.parquet", "file:///data/x/1.parquet", "/data//x/y/../1.parquet"}, []string{"/data/xy", "s3://data/x/1.parquet"}},
		{"/", []string{"/1.parquet", "/a/1.parquet"}, []string{"/", "/1.csv"}},
		{"/data/?.parquet", []string{"/data/1.parquet"}, []string{"/data/12.parquet", "/dat", "/data"}},
	} {
		p, err := ParsePattern(c.pattern)
		require.NoError(t, err, c.pattern)
		for _, url := range c.yes {
			assert.True(t, p.Matches(url), "%s: %s", c.pattern, url)
		}
		for _, url := range c.no {
			assert.False(t, p.Matches(url), "%s: %s", c.pattern, url)
		}
	}
}

func TestPatternLocalRoot(t *testing.T) {
	for pattern, want := range map[string]string{
		"s3://b/x": "", "/data/x/": "/data/x", "/data/x.parquet": "/data/x.parquet", "/data/*.parquet": "/data", "/data/x[ab]/y": "/data", "/*": "/", "/": "/",
	} {
		p, err := ParsePattern(pattern)
		require.NoError(t, err)
		assert.Equal(t, want, p.LocalRoot(), pattern)
	}
}

func TestPatternThatIsWrong(t *testing.T) {
	for _, wrong := range []string{"/[a", "gs://b/x", "s3://"} {
		_, err := ParsePattern(wrong)
		assert.Equal(t, fault.Invalid, fault.KindOf(err), "%q: %v", wrong, err)
	}
}

// TestPatternIsWhatScansRead makes folders of files with names that mean something, and holds patterns to what a listing of the same path finds.
func TestPatternIsWhatScansRead(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	folder := t.TempDir()
	var files []string
	for range 120 {
		parts := []string{folder}
		for range random.IntN(3) {
			parts = append(parts, pick("a", "b", "ab", "_a", ".b", "x.parquet", "day=1"))
		}
		file := filepath.Join(append(parts, pick("", "", "_", ".")+pick("a", "b", "1")+pick(".parquet", ".parquet", ".csv", ""))...)
		if os.MkdirAll(filepath.Dir(file), 0o700) != nil || os.WriteFile(file, nil, 0o600) != nil {
			continue // a folder of this name is there, or a file of its folder's
		}
		files = append(files, filepath.ToSlash(file))
	}
	for range 400 {
		path := filepath.ToSlash(folder)
		for range 1 + random.IntN(3) {
			path += "/" + pick("a", "b", "*", "?", "**", "[ab]", "{a,x.parquet}", "*.parquet", "_a", "_*", "a*", "day=*", "{a,b}/1.parquet")
		}
		path += pick("", "", "/")
		at, err := parseLocation(path)
		require.NoError(t, err)
		p, err := ParsePattern(path)
		require.NoError(t, err)
		found, err := find(t.Context(), fileDriver{}, at)
		if err != nil {
			require.ErrorIs(t, err, os.ErrNotExist, path)
		}
		for _, file := range files {
			want := slices.ContainsFunc(found, func(o object) bool { return o.at.path == file })
			if got := p.Matches(file); got != want {
				t.Errorf("%s: %s: %t, the listing says %t", path, strings.TrimPrefix(file, folder), got, want)
			}
			if root := p.LocalRoot(); want && !beneath(root, file) {
				t.Errorf("%s: %s is not beneath %s", path, file, root)
			}
		}
	}
}
