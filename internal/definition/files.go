package definition

import (
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

// MaxFileBytes is the largest definition file that is read: 16 MiB.
const MaxFileBytes = 16 << 20

// File is the text of one definition file.
type File struct {
	// Name as it is shown in problems, usually its path.
	Name string
	// Data is YAML.
	Data []byte
}

// ReadFiles reads a definition file, or every *.yaml and *.yml file of a folder and the folders below it, sorted by path. In a folder, what
// begins with a dot is skipped. No file at all is an error of kind Precondition.
func ReadFiles(path string) ([]File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	names := []string{path}
	if info.IsDir() {
		if names, err = listFiles(path); err != nil {
			return nil, err
		}
		if len(names) == 0 {
			return nil, fault.New(fault.Precondition, "folder %s has no definitions: it holds no .yaml or .yml file; `twofold init` writes a first one from a Parquet file", path)
		}
	}
	files := make([]File, 0, len(names))
	for _, name := range names {
		data, err := readFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: name, Data: data})
	}
	return files, nil
}

func listFiles(folder string) ([]string, error) {
	var names []string
	// The slash makes a link to a folder that folder, as where a release is a link that is switched.
	err := filepath.WalkDir(folder+string(filepath.Separator), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return unreadable(path, err)
		}
		if filepath.Clean(path) != filepath.Clean(folder) && strings.HasPrefix(entry.Name(), ".") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		extension := strings.ToLower(filepath.Ext(path))
		if extension != ".yaml" && extension != ".yml" {
			return nil
		}
		// A link is followed (Kubernetes mounts a config map as links), but only to a file.
		if info, err := os.Stat(path); err != nil {
			return unreadable(path, err)
		} else if info.Mode().IsRegular() {
			names = append(names, path)
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, unreadable(name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, unreadable(name, err)
	}
	if len(data) > MaxFileBytes {
		return nil, fault.New(fault.Exhausted, "%s is larger than %d MiB; split it into several files of one folder", name, MaxFileBytes>>20)
	}
	return data, nil
}

func unreadable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Precondition, "there is no definition file or folder %s; give its path, or write a first one with `twofold init`: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Precondition, "definitions in %s may not be read by this user; allow it (chmod a+r): %w", path, err)
	default:
		return fault.New(fault.Precondition, "definitions cannot be read: %w", fmt.Errorf("%s: %w", path, err))
	}
}
