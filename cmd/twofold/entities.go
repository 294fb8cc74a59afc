package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/twofold-ml/twofold/internal/entityfile"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
)

// maxEntityBatch bounds a record of an Arrow file of entity rows: tools that write a table in one piece write large ones.
const maxEntityBatch = 1 << 30

// entityRows is a file of entity rows.
type entityRows struct {
	*entityfile.Reader
	// free lets go of what the file came from.
	free func()
}

// entityFile says what is known of a file of entity rows.
type entityFile struct {
	// path is a file or an s3:// URL, for Parquet also a folder or a glob; - is standard input.
	path string
	// format is one of the formats of train; empty for standard input, where it is told from the first bytes.
	format string
	// types are the types of some columns; those of the others are the file's, or inferred.
	types map[string]feature.Type
	// timeColumn holds each row's time.
	timeColumn string
	s3         offline.S3Config
}

// openEntities opens a file of entity rows.
func (a *app) openEntities(ctx context.Context, f entityFile) (*entityRows, error) {
	options := entityfile.Options{Format: entityfile.Format(f.format), Types: f.types, TimeColumn: f.timeColumn, MaxBatchBytes: maxEntityBatch,
		Warn: func(text string) { a.complain("warning: " + text) }}
	if f.path == "-" {
		return a.openStandardInput(ctx, options)
	}
	if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, fault.New(fault.Invalid, "entity rows %s: it must be a file that can be read twice; use - for a pipe", f.path)
	}
	store, err := offline.Open(ctx, offline.Config{Path: ".", S3: f.s3})
	if err != nil {
		return nil, err
	}
	free := func() { _ = store.Close() } // never fails
	rows, err := entityfile.Open(ctx, store, f.path, options)
	if err != nil {
		free()
		return nil, err
	}
	return &entityRows{rows, free}, nil
}

// openStandardInput copies standard input to a temporary file, because some formats are read twice, or from their end.
func (a *app) openStandardInput(ctx context.Context, options entityfile.Options) (*entityRows, error) {
	file, err := os.CreateTemp("", "twofold-entities-*")
	if err != nil {
		return nil, err
	}
	// Without a name nothing is left of it, however the program ends. Systems on which an open file keeps its name remove it at the end.
	nameless := os.Remove(file.Name()) == nil
	free := func() {
		if _ = file.Close(); !nameless {
			_ = os.Remove(file.Name())
		}
	}
	if _, err := io.Copy(file, a.input(ctx)); err != nil {
		free()
		return nil, fmt.Errorf("copy standard input to a temporary file: %w", err)
	}
	rows, err := entityfile.OpenLocal(ctx, "standard input", file, options)
	if err != nil {
		free()
		return nil, err
	}
	return &entityRows{rows, free}, nil
}

// input is standard input, whose reads end when ctx is done, even if nothing is written there.
func (a *app) input(ctx context.Context) io.Reader {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) }) // never fails
	go func() {
		_, err := io.Copy(w, a.in)
		_ = w.CloseWithError(err) // never fails
	}()
	return r
}

// close frees everything; nil has nothing. The file was only read, so there is nothing to fail for.
func (e *entityRows) close() {
	if e == nil {
		return
	}
	_ = e.Close()
	e.free()
}

// require reports columns that the join needs and the rows lack, before anything is sent.
func (e *entityRows) require(keys []feature.Key, timeColumn string) error {
	var missing []string
	for _, key := range keys {
		if !e.Schema().HasField(key.Name) {
			missing = append(missing, key.Name)
		}
	}
	if len(missing) > 0 {
		return fault.New(fault.Invalid, "the entity rows lack the entity key %s; they have %s", strings.Join(missing, ", "), e.columnNames())
	}
	if !e.Schema().HasField(timeColumn) {
		return fault.New(fault.Invalid, "the entity rows have no column %q for their time; name it with --time-column; they have %s", timeColumn, e.columnNames())
	}
	return nil
}

func (e *entityRows) columnNames() string {
	var names []string
	for _, f := range e.Schema().Fields() {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// stream writes all rows as one Arrow IPC stream.
func (e *entityRows) stream(ctx context.Context, w io.Writer) error {
	out := ipc.NewWriter(w, ipc.WithSchema(e.Schema()))
	if err := e.Each(ctx, out.Write); err != nil {
		return err
	}
	return out.Close()
}
