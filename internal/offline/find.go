package offline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/twofold-ml/twofold/internal/fault"
)

// parquetSuffix is what files in folders must end in.
const parquetSuffix = ".parquet"

// find gives the objects of a path, in the canonical order: by the bytes of their URLs. A path is a file, a folder (every
// *.parquet below it), or a glob of files and folders. Names that start with _ or . are left out below a folder or a pattern.
func find(ctx context.Context, d driver, at location) ([]object, error) {
	prefix, glob := fixedPrefix(at.path)
	if glob {
		return findGlob(ctx, d, at, prefix)
	}
	o, err := d.stat(ctx, at)
	if err == nil {
		return []object{o}, nil
	}
	if !errors.Is(err, errNoObject) {
		return nil, err
	}
	folder := at.with(at.path)
	if folder.path != "" && !strings.HasSuffix(folder.path, "/") {
		folder.path += "/"
	}
	found, seen, err := collect(ctx, d, folder, func(key string) bool {
		return strings.HasSuffix(key, parquetSuffix) && !hidden(key[len(folder.path):])
	})
	if err == nil && len(found) == 0 {
		err = nothingFound(at, seen, "there is no such file, and no *.parquet file in a folder of that name")
	}
	return found, err
}

// findGlob gives the objects whose path, or one of whose folders, matches a pattern.
func findGlob(ctx context.Context, d driver, at location, prefix string) ([]object, error) {
	if !doublestar.ValidatePattern(at.path) {
		return nil, fault.New(fault.Invalid, "%s is not a valid pattern: check its brackets and braces", at)
	}
	pattern := strings.TrimSuffix(at.path, "/")
	fixed := strings.LastIndexByte(prefix, '/') + 1
	found, seen, err := collect(ctx, d, at.with(prefix), func(key string) bool {
		return !hidden(key[fixed:]) && matches(pattern, key, fixed)
	})
	if err == nil && len(found) == 0 {
		err = nothingFound(at, seen, "no file matches the pattern")
	}
	return found, err
}

// matches reports whether the pattern matches an object, or a folder of a *.parquet object. The first fixed bytes are in no pattern.
func matches(pattern, key string, fixed int) bool {
	if doublestar.MatchUnvalidated(pattern, key) {
		return true
	}
	if !strings.HasSuffix(key, parquetSuffix) {
		return false
	}
	for i := fixed; i < len(key); i++ {
		if key[i] == '/' && doublestar.MatchUnvalidated(pattern, key[:i]) {
			return true
		}
	}
	return false
}

// collect gives the wanted objects below a prefix, sorted, and the number of objects seen.
func collect(ctx context.Context, d driver, prefix location, wanted func(key string) bool) (found []object, seen int, err error) {
	err = d.list(ctx, prefix, func(o object) error {
		seen++
		if wanted(o.at.path) {
			found = append(found, o)
		}
		return nil
	})
	slices.SortFunc(found, func(a, b object) int { return cmp.Compare(a.at.path, b.at.path) })
	return found, seen, err
}

// hidden reports whether a name in a relative path starts with _ or ., as those of temporary and marker files do, and of folders of bad rows. Hive leaves out the same
// names; Spark reads folders like _day=1 nevertheless.
func hidden(relative string) bool {
	for name := range strings.SplitSeq(relative, "/") {
		if strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") {
			return true
		}
	}
	return false
}

// nothingFound is the error of a path that names no file; errors.Is finds fs.ErrNotExist in it.
func nothingFound(at location, seen int, what string) error {
	hint := "; check the source's path and the offline store's"
	if seen > 0 {
		hint = fmt.Sprintf(" (%d files of other names are there)", seen)
	}
	return &fault.Error{Kind: fault.Precondition, Err: noFilesError(fmt.Sprintf("%v: %s%s", at, what, hint))}
}

// noFilesError says that a path names no file.
type noFilesError string

func (e noFilesError) Error() string { return string(e) }

// Is makes it fs.ErrNotExist too.
func (e noFilesError) Is(target error) bool { return target == fs.ErrNotExist }
