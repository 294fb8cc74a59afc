package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/testenv"
)

// without returns an environment without the variables that start so.
func without(env []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, prefix) })
}

// fetch returns what an HTTP address answers.
func fetch(t *testing.T, address, path string) (int, string) {
	t.Helper()
	r, err := http.Get("http://" + address + path) //nolint:noctx // the test's own deadline bounds it
	require.NoError(t, err)
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r.StatusCode, string(body)
}

func parseTestTime(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return at
}

// putFolder uploads a folder's files below a prefix.
func putFolder(t *testing.T, s3 *testenv.S3Server, bucket, prefix, folder string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		s3.Put(t, bucket, prefix+"/"+filepath.ToSlash(name), data)
		return nil
	}))
}

// writeFile writes a file in a folder of the test, and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// replace replaces a part of a text that must be there.
func replace(text, part, by string) string {
	if !strings.Contains(text, part) {
		panic("no " + part)
	}
	return strings.Replace(text, part, by, 1)
}
