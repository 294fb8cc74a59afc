package offline

import (
	"context"
	"errors"
	"strings"

	"github.com/twofold-ml/twofold/internal/fault"
)

// FileInfo is one version of a file that is no Parquet.
type FileInfo struct {
	// URL says where it is.
	URL string
	// SizeBytes is its size.
	SizeBytes int64
	// ETag changes when its bytes do.
	ETag string

	object object
}

// ListFiles lists the file of a path, whatever its name; or else, where the path is a folder, every file in it and below it whose name ends
// in one of the suffixes and has, like the folders below the path, no leading dot; sorted by URL. The path is one of a source's. That there
// is no file is an error of kind fault.Precondition that is also fs.ErrNotExist.
func (s *Store) ListFiles(ctx context.Context, path string, suffixes ...string) ([]FileInfo, error) {
	at, err := s.base.resolve(path)
	if err != nil {
		return nil, err
	}
	d, err := s.driver(ctx, at)
	if err != nil {
		return nil, err
	}
	o, err := d.stat(ctx, at)
	if err == nil {
		return []FileInfo{infoOf(o)}, nil
	}
	if !errors.Is(err, errNoObject) {
		return nil, err
	}
	folder := at
	if folder.path != "" && !strings.HasSuffix(folder.path, "/") {
		folder.path += "/"
	}
	found, seen, err := collect(ctx, d, folder, func(key string) bool {
		return hasSuffix(key, suffixes) && !dotted(key[len(folder.path):])
	})
	if err == nil && len(found) == 0 {
		err = nothingFound(at, seen, "there is no such file, and no "+strings.Join(suffixes, " or ")+" file in a folder of that name")
	}
	files := make([]FileInfo, len(found))
	for i, o := range found {
		files[i] = infoOf(o)
	}
	return files, err
}

func infoOf(o object) FileInfo {
	return FileInfo{URL: o.at.String(), SizeBytes: o.size, ETag: o.etag, object: o}
}

func hasSuffix(key string, suffixes []string) bool {
	lower := strings.ToLower(key)
	for _, suffix := range suffixes {
		if strings.HasSuffix(lower, suffix) {
			return true
		}
	}
	return false
}

// dotted reports whether a name in a relative path starts with a dot.
func dotted(relative string) bool {
	return strings.HasPrefix(relative, ".") || strings.Contains(relative, "/.")
}

// ReadFile reads a listed file whole. One that is larger than maxBytes is an error of kind fault.Exhausted; one that was replaced since it was
// listed, of kind fault.Unavailable.
func (s *Store) ReadFile(ctx context.Context, f FileInfo, maxBytes int64) ([]byte, error) {
	if f.SizeBytes > maxBytes {
		return nil, fault.New(fault.Exhausted, "%s has %d bytes, more than the %d that are read", f.URL, f.SizeBytes, maxBytes)
	}
	d, err := s.driver(ctx, f.object.at)
	if err != nil {
		return nil, err
	}
	r, err := d.open(ctx, f.object)
	if err != nil {
		return nil, err
	}
	data := make([]byte, f.SizeBytes)
	return data, errors.Join(r.readAt(ctx, data, 0), r.close())
}
