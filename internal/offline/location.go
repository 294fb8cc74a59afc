package offline

import (
	"path"
	"path/filepath"
	"strings"

	"github.com/twofold-ml/twofold/internal/fault"
)

// A location is a parsed URL. Paths are taken literally, without percent-decoding: folders written by Spark hold "%3A" in their names.
type location struct {
	// bucket of S3; empty for local files.
	bucket string
	// path is absolute for local files ("/data/x") and a key for S3 ("data/x"); slashes on every system. It may be a glob.
	path string
	// name is what the bytes are called that came from no place, for example "standard input".
	name string
}

const (
	fileScheme = "file://"
	s3Scheme   = "s3://"
)

func (l location) isS3() bool { return l.bucket != "" }

// String gives the URL, or the name.
func (l location) String() string {
	if l.name != "" {
		return l.name
	}
	if l.isS3() {
		return s3Scheme + l.bucket + "/" + l.path
	}
	return fileScheme + l.path
}

// with gives the location of another path at the same place.
func (l location) with(p string) location {
	l.path = p
	return l
}

// parseLocation reads a URL or a local path.
func parseLocation(text string) (location, error) {
	switch scheme, rest, ok := strings.Cut(text, "://"); {
	case !ok:
		return localLocation(text)
	case scheme == "file":
		if !strings.HasPrefix(rest, "/") {
			return location{}, fault.New(fault.Invalid, "%q: a file URL has three slashes before its path (file:///data/x)", text)
		}
		return localLocation(rest)
	case scheme == "s3" || scheme == "s3a":
		bucket, key, _ := strings.Cut(rest, "/")
		if bucket == "" {
			return location{}, fault.New(fault.Invalid, "%q names no bucket: write s3://bucket/prefix", text)
		}
		return location{bucket: bucket, path: strings.TrimLeft(key, "/")}, nil
	default:
		return location{}, fault.New(fault.Invalid, "%q: offline data is read from file:// and s3://, not from %s://", text, scheme)
	}
}

// locationOf gives the location of an object by its URL, as String wrote it.
func locationOf(url string) (location, bool) {
	if path, ok := strings.CutPrefix(url, fileScheme); ok {
		return location{path: path}, strings.HasPrefix(path, "/")
	}
	rest, ok := strings.CutPrefix(url, s3Scheme)
	bucket, key, _ := strings.Cut(rest, "/")
	return location{bucket: bucket, path: key}, ok && bucket != "" && key != ""
}

func localLocation(text string) (location, error) {
	folder := strings.HasSuffix(text, "/")
	absolute, err := filepath.Abs(filepath.FromSlash(text))
	if err != nil {
		return location{}, fault.New(fault.Invalid, "path %q: %w", text, err)
	}
	slashed := filepath.ToSlash(absolute)
	if folder && slashed != "/" {
		slashed += "/"
	}
	return location{path: slashed}, nil
}

// resolve gives the location of a source path below the base.
func (l location) resolve(source string) (location, error) {
	if source == "" {
		return location{}, fault.New(fault.Invalid, "the source path is empty")
	}
	if strings.Contains(source, "://") || (!l.isS3() && filepath.IsAbs(source)) {
		return parseLocation(source)
	}
	// path.Join would clean away the slash that marks a folder.
	joined := path.Join(l.path, source)
	if strings.HasSuffix(source, "/") {
		joined += "/"
	}
	if l.isS3() {
		joined = strings.TrimLeft(joined, "/")
		if joined == ".." || strings.HasPrefix(joined, "../") {
			return location{}, fault.New(fault.Invalid, "path %q leaves the bucket of %s", source, l)
		}
	}
	return l.with(joined), nil
}

// globMeta are the characters that make a path a pattern.
const globMeta = `*?[{\`

// fixedPrefix gives the part of a pattern before its first meta character, and whether there is one.
func fixedPrefix(pattern string) (string, bool) {
	if i := strings.IndexAny(pattern, globMeta); i >= 0 {
		return pattern[:i], true
	}
	return pattern, false
}
