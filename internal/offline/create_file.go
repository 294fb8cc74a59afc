package offline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/twofold-ml/twofold/internal/fault"
)

// fileWriter writes a file beside its name, under a hidden one that no listing of a folder finds.
type fileWriter struct {
	at        location
	path      string
	overwrite bool
	// file is nil when it was committed or aborted.
	file *os.File
}

func (fileDriver) create(_ context.Context, at location, overwrite bool) (objectWriter, error) {
	path := filepath.FromSlash(at.path)
	switch info, err := os.Stat(path); {
	case err == nil && !info.Mode().IsRegular():
		return nil, fault.New(fault.Precondition, "%s is not a file", at)
	case err == nil && !overwrite:
		return nil, errExists(at)
	}
	folder, name := filepath.Split(path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, writeFault(at, err)
	}
	file, err := os.CreateTemp(folder, "."+name+".partial-*")
	if err != nil {
		return nil, writeFault(at, err)
	}
	return &fileWriter{at, path, overwrite, file}, nil
}

func (w *fileWriter) Write(p []byte) (int, error) {
	if w.file == nil {
		return 0, fmt.Errorf("write %s: %w", w.at, fs.ErrClosed)
	}
	n, err := w.file.Write(p)
	if err != nil {
		return n, writeFault(w.at, err)
	}
	return n, nil
}

func (w *fileWriter) commit(context.Context) (object, error) {
	if w.file == nil {
		return object{}, fmt.Errorf("write %s: %w", w.at, fs.ErrClosed)
	}
	file := w.file
	w.file = nil
	// As a file made by any other program would be, and on the disk before its name is.
	err := errors.Join(file.Chmod(0o644), file.Sync(), file.Close())
	if err == nil {
		err = w.name(file.Name())
	}
	if err != nil {
		_ = os.Remove(file.Name())
		if errors.Is(err, fs.ErrExist) {
			return object{}, errExists(w.at)
		}
		return object{}, writeFault(w.at, err)
	}
	info, err := os.Stat(w.path)
	if err = errors.Join(err, syncFolder(filepath.Dir(w.path))); err != nil {
		return object{}, writeFault(w.at, err)
	}
	return fileObject(w.at, info), nil
}

// name gives the finished file its name, in one step for every other process.
func (w *fileWriter) name(finished string) error {
	if w.overwrite {
		return os.Rename(finished, w.path)
	}
	// Unlike a renaming, a link never replaces anything.
	err := os.Link(finished, w.path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("it cannot be named without the risk of replacing another file, perhaps because its file system has no hard links; allow overwriting: %w", err)
	}
	if err != nil {
		return err
	}
	return os.Remove(finished)
}

func (w *fileWriter) abort() {
	if w.file != nil {
		_ = w.file.Close()
		_ = os.Remove(w.file.Name())
		w.file = nil
	}
}

// writeFault gives an error of the file system a kind.
func writeFault(at location, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fault.New(fault.Precondition, "%s may not be written by this process: %w", at, err)
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, errNotFolder) {
		return fault.New(fault.Precondition, "%s cannot be written, because a file is where its folder would be: %w", at, err)
	}
	return fault.New(fault.Unavailable, "%s cannot be written: %w", at, err)
}
