package offline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twofold-ml/twofold/internal/fault"
)

// fileDriver reads local files.
type fileDriver struct{}

// maxLinksToFolder bounds how often one folder is listed: by how many ways of symbolic links it may be reached.
const maxLinksToFolder = 10_000

func (fileDriver) list(ctx context.Context, at location, yield func(object) error) error {
	folder, name := at.path, ""
	if !strings.HasSuffix(folder, "/") {
		i := strings.LastIndexByte(folder, '/')
		folder, name = folder[:i+1], folder[i+1:]
	}
	w := folderWalk{ctx: ctx, yield: yield, visits: map[string]int{}}
	return w.link(at.with(folder), folder, name)
}

// folderWalk lists a folder and all below it. It follows symbolic links, but not into a folder that it is in already.
type folderWalk struct {
	ctx   context.Context
	yield func(object) error
	// inside are the folders that are being listed, each in the one before, without symbolic links; visits counts them all.
	inside []string
	visits map[string]int
}

// link is folder for a path that may have symbolic links in it.
func (w *folderWalk) link(at location, path, prefix string) error {
	resolved, err := filepath.EvalSymlinks(filepath.FromSlash(path))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotFolder) {
		return nil
	}
	if err != nil {
		return fileFault(at, err)
	}
	return w.folder(at, resolved, prefix)
}

// folder lists a folder, whose path without symbolic links is resolved: only names that start with prefix. The path at ends in a slash.
func (w *folderWalk) folder(at location, resolved, prefix string) error {
	if err := w.ctx.Err(); err != nil {
		return fmt.Errorf("list %s: %w", at, err)
	}
	if slices.Contains(w.inside, resolved) {
		return fault.New(fault.Precondition, "%s leads back to %s, which it is in; remove the symbolic link", at, resolved)
	}
	if w.visits[resolved]++; w.visits[resolved] > maxLinksToFolder {
		return fault.New(fault.Precondition, "%s: more than %d ways of symbolic links lead to %s; remove some", at, maxLinksToFolder, resolved)
	}
	entries, err := os.ReadDir(resolved)
	if errors.Is(err, fs.ErrNotExist) || (len(w.inside) == 0 && errors.Is(err, errNotFolder)) {
		return nil
	}
	if err != nil {
		return fileFault(at, err)
	}
	w.inside = append(w.inside, resolved)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), prefix) {
			continue
		}
		if err := w.entry(at.with(at.path+entry.Name()), filepath.Join(resolved, entry.Name()), entry); err != nil {
			return err
		}
	}
	w.inside = w.inside[:len(w.inside)-1]
	return nil
}

// entry lists what is at a path, which is a file, a folder, or a link to one. Only at its end has the path resolved a link.
func (w *folderWalk) entry(at location, resolved string, entry fs.DirEntry) error {
	info, err := os.Stat(resolved)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // removed meanwhile, or a link to nothing
	case err != nil:
		return fileFault(at, err)
	case info.Mode().IsRegular():
		return w.yield(fileObject(at, info))
	case !info.IsDir():
		return nil
	case entry.Type()&fs.ModeSymlink != 0:
		return w.link(at.with(at.path+"/"), resolved, "")
	default:
		return w.folder(at.with(at.path+"/"), resolved, "")
	}
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
		return r.checkVersion() // it may have been written to in its place
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
