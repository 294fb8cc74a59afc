package offline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/twofold-ml/twofold/internal/fault"
)

// fileDriver reads local files.
type fileDriver struct{}

// maxFolderDepth ends the walk of a folder that links to itself.
const maxFolderDepth = 64

func (d fileDriver) list(ctx context.Context, at location, yield func(object) error) error {
	folder, name := at.path, ""
	if !strings.HasSuffix(folder, "/") {
		i := strings.LastIndexByte(folder, '/')
		folder, name = folder[:i+1], folder[i+1:]
	}
	return d.walk(ctx, at.with(folder), name, 0, yield)
}

// walk lists the folder at.path (which ends in a slash) and all below it. At the top, only names that start with prefix.
func (d fileDriver) walk(ctx context.Context, at location, prefix string, depth int, yield func(object) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("list %s: %w", at, err)
	}
	if depth > maxFolderDepth {
		return fault.New(fault.Precondition, "%s: folders are nested more than %d deep; does one link to itself?", at, maxFolderDepth)
	}
	entries, err := os.ReadDir(filepath.FromSlash(at.path))
	if errors.Is(err, fs.ErrNotExist) || (depth == 0 && errors.Is(err, errNotFolder)) {
		return nil
	}
	if err != nil {
		return fileFault(at, err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), prefix) {
			continue
		}
		child := at.with(at.path + entry.Name())
		info, err := os.Stat(filepath.FromSlash(child.path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // removed meanwhile, or a link to nothing
		case err != nil:
			return fileFault(child, err)
		case info.IsDir():
			err = d.walk(ctx, child.with(child.path+"/"), "", depth+1, yield)
		case info.Mode().IsRegular():
			err = yield(fileObject(child, info))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (fileDriver) stat(_ context.Context, at location) (object, error) {
	info, err := os.Stat(filepath.FromSlash(at.path))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotFolder) {
		return object{}, errNoObject
	}
	if err != nil {
		return object{}, fileFault(at, err)
	}
	if info.IsDir() || strings.HasSuffix(at.path, "/") {
		return object{}, errNoObject
	}
	if !info.Mode().IsRegular() {
		return object{}, fault.New(fault.Precondition, "%s is neither a file nor a folder", at)
	}
	return fileObject(at, info), nil
}

// fileObject describes a file. Its version is made from what changes when a file is written: size and time of modification.
func fileObject(at location, info fs.FileInfo) object {
	return object{at: at, size: info.Size(), etag: fmt.Sprintf("%x-%x", info.Size(), info.ModTime().UnixNano())}
}

func (fileDriver) open(_ context.Context, o object) (objectReader, error) {
	f, err := os.Open(filepath.FromSlash(o.at.path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errChanged(o, err)
	}
	if err != nil {
		return nil, fileFault(o.at, err)
	}
	r := &fileReader{f, o}
	if err := r.checkVersion(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

type fileReader struct {
	f *os.File
	o object
}

func (r *fileReader) checkVersion() error {
	info, err := r.f.Stat()
	if err != nil {
		return fileFault(r.o.at, err)
	}
	if fileObject(r.o.at, info).etag != r.o.etag {
		return errChanged(r.o, nil)
	}
	return nil
}

func (r *fileReader) readAt(ctx context.Context, p []byte, offset int64) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read %s: %w", r.o.at, err)
	}
	if offset < 0 || offset > r.o.size-int64(len(p)) {
		return errPastEnd(r.o, offset, int64(len(p)))
	}
	n, err := r.f.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return errChanged(r.o, io.ErrUnexpectedEOF) // it was cut while it was read
	}
	return fileFault(r.o.at, err)
}

func (r *fileReader) close() error { return r.f.Close() }

// fileFault gives an error of the file system a kind.
func fileFault(at location, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fault.New(fault.Precondition, "%s may not be read by this process: %w", at, err)
	}
	return fault.New(fault.Unavailable, "%s cannot be read: %w", at, err)
}
