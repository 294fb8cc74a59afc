package offline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/twofold-ml/twofold/internal/fault"
)

// CreateOptions say how a file is created.
type CreateOptions struct {
	// Overwrite replaces a file of that name. Defaults to false: one that is there is an error of kind fault.Precondition, also where it came while
	// this one was written.
	Overwrite bool
}

// createBuffer is how many bytes of small writes are gathered.
const createBuffer = 1 << 20

// Writer writes one file, which appears whole by Commit or not at all. Either Commit or Abort must be called. Its methods are for one
// goroutine.
type Writer struct {
	ctx    context.Context
	at     location
	buffer *bufio.Writer
	object objectWriter
}

// Create begins a file. A path is one of a source's, but a single file's, and taken literally: its characters are no pattern. Folders that are
// missing are made. When ctx is done, the writing has failed.
//
// To S3 it takes at most some 60 MiB of memory, whatever the size of the file.
func (s *Store) Create(ctx context.Context, path string, options CreateOptions) (*Writer, error) {
	at, err := s.base.resolve(path)
	if err != nil {
		return nil, err
	}
	if at.path == "" || strings.HasSuffix(at.path, "/") {
		return nil, fault.New(fault.Invalid, "%s is a folder; name the file to write in it", at)
	}
	d, err := s.driver(ctx, at)
	if err != nil {
		return nil, err
	}
	object, err := d.create(ctx, at, options.Overwrite)
	if err != nil {
		return nil, err
	}
	return &Writer{ctx: ctx, at: at, object: object, buffer: bufio.NewWriterSize(object, createBuffer)}, nil
}

// URL says where the file will be.
func (w *Writer) URL() string { return w.at.String() }

// Write is io.Writer's. After an error the file cannot be committed.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, fmt.Errorf("write %s: %w", w.at, err)
	}
	return w.buffer.Write(p)
}

// Commit makes the file appear. After an error it does not, unless the connection to S3 was lost just then, or ctx was done: then it may.
func (w *Writer) Commit(ctx context.Context) (File, error) {
	err := errors.Join(ctx.Err(), w.ctx.Err())
	if err == nil {
		err = w.buffer.Flush()
	}
	if err != nil {
		w.object.abort()
		return File{}, fmt.Errorf("write %s: %w", w.at, err)
	}
	o, err := w.object.commit(ctx)
	if err != nil {
		return File{}, err
	}
	return fileOf(o), nil
}

// Abort takes back what was written. After Commit it does nothing.
func (w *Writer) Abort() { w.object.abort() }

// objectWriter writes one object. Its errors name it.
type objectWriter interface {
	io.Writer
	// commit makes the object appear; after an error it has been aborted.
	commit(ctx context.Context) (object, error)
	// abort leaves nothing behind. After commit or abort it does nothing.
	abort()
}

// errExists says that an object is there that must not be replaced.
func errExists(at location) error {
	return fault.New(fault.Precondition, "%s is there already; write to another name, or allow it to be overwritten", at)
}

// create refuses: what is in memory is only read.
func (memoryDriver) create(_ context.Context, at location, _ bool) (objectWriter, error) {
	return nil, fault.New(fault.Invalid, "%s cannot be written", at)
}
