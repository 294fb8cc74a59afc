package server

import (
	"testing"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// TestChangedFiles: each way in which files can be others is named with the file.
func TestChangedFiles(t *testing.T) {
	file := func(url, etag string) *twofoldv1.SourceFile {
		return &twofoldv1.SourceFile{Url: url, SizeBytes: 1, Etag: etag}
	}
	type files = []*twofoldv1.SourceFile
	a, b := file("a", "1"), file("b", "1")
	for _, c := range []struct {
		then, now files
		want      string
	}{
		{files{a, b}, files{b, a}, ""},
		{nil, files{a}, ""},
		{files{a}, nil, ""},
		{files{a, b}, files{file("a", "2"), b}, "; the file a was replaced"},
		{files{a}, files{a, b}, "; the file b is new"},
		{files{file("d", ""), file("c", ""), a}, files{a}, "; the file c is no longer there; the file d is no longer there"},
		{files{a}, files{b}, "; the file b is new; the file a is no longer there"},
	} {
		if got := changedFiles(c.then, c.now); got != c.want {
			t.Errorf("%v, then %v: %q, want %q", c.then, c.now, got, c.want)
		}
	}
}
