package offline

import (
	"context"
	"errors"
	"io"

	"github.com/twofold-ml/twofold/internal/fault"
)

// File gives the version without what is known of it otherwise.
func (f FileInfo) File() File { return fileOf(f.object) }

// StatFile finds the file of a path, whatever its name; a folder is none, and no character is a pattern. That there is no file is an error of
// kind fault.Precondition that is also fs.ErrNotExist.
func (s *Store) StatFile(ctx context.Context, path string) (FileInfo, error) {
	at, err := s.base.resolve(path)
	if err != nil {
		return FileInfo{}, err
	}
	d, err := s.driver(ctx, at)
	if err != nil {
		return FileInfo{}, err
	}
	o, err := d.stat(ctx, at)
	if errors.Is(err, errNoObject) {
		return FileInfo{}, &fault.Error{Kind: fault.Precondition, Err: noFilesError(at.String() + ": there is no such file")}
	}
	return infoOf(o), err
}

// FileReader reads one version of a file. It may be used by several goroutines at once.
type FileReader struct {
	object objectReader
	size   int64
}

// OpenFile opens a file that was found. If it was replaced since, this or a read is an error of kind fault.Unavailable.
func (s *Store) OpenFile(ctx context.Context, f FileInfo) (*FileReader, error) {
	d, err := s.driver(ctx, f.object.at)
	if err != nil {
		return nil, err
	}
	r, err := d.open(ctx, f.object)
	if err != nil {
		return nil, err
	}
	return &FileReader{r, f.SizeBytes}, nil
}

// Bytes gives the bytes of the file, read until ctx is done. Each read from S3 is a request, so read large pieces.
func (r *FileReader) Bytes(ctx context.Context) *io.SectionReader {
	return io.NewSectionReader(boundReader{ctx, r.object}, 0, r.size)
}

// Unchanged reports, as an error of kind fault.Unavailable, that a local file was written to while it was read. In S3 each read tells.
func (r *FileReader) Unchanged() error {
	if f, ok := r.object.(interface{ checkVersion() error }); ok {
		return f.checkVersion()
	}
	return nil
}

// Close lets go of the file.
func (r *FileReader) Close() error { return r.object.close() }

// boundReader reads within a context.
type boundReader struct {
	ctx    context.Context
	object objectReader
}

// ReadAt is io.ReaderAt's, of bytes before the end.
func (r boundReader) ReadAt(p []byte, offset int64) (int, error) {
	if err := r.object.readAt(r.ctx, p, offset); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Files gives the versions of the files that the rows are in.
func (r *Rows) Files() []File {
	files := make([]File, len(r.sources))
	for i, s := range r.sources {
		files[i] = fileOf(s.object)
	}
	return files
}
