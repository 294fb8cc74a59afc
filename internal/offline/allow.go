package offline

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twofold-ml/twofold/internal/fault"
)

// PathRules say which paths a caller may name: those at and beneath some places. A nil one allows every path.
type PathRules struct {
	store   *Store
	setting string
	places  []location
}

// PathRules makes rules of the folders, files and s3:// prefixes that are allowed, relative to the store like other paths; none allows no path.
// setting is what messages call the setting that they come from. An error is of kind Invalid.
func (s *Store) PathRules(setting string, prefixes []string) (*PathRules, error) {
	r := &PathRules{store: s, setting: setting}
	for _, prefix := range prefixes {
		at, err := s.base.resolve(prefix)
		if err != nil {
			return nil, fault.New(fault.Invalid, "%s: %w", setting, err)
		}
		if _, glob := fixedPrefix(at.path); glob || at.isS3() && dotSegments(at.path) {
			return nil, fault.New(fault.Invalid, "%s: %q: write a folder, a file or an s3:// prefix, without *, ?, [, {, \\ or ..", setting, prefix)
		}
		r.places = append(r.places, at.with(strings.TrimSuffix(at.path, "/")))
	}
	return r, nil
}

// Allowed gives an error of kind Precondition unless a path lies at or beneath an allowed place: one of a file, there or to be written, of a folder or a
// pattern. Symbolic links may lead from place to place, but not out, neither in the path nor anywhere in the folder that it names.
//
// The answer holds as long as nobody with other access changes the folders.
func (r *PathRules) Allowed(ctx context.Context, path string) error {
	if r == nil {
		return nil
	}
	at, err := r.store.base.resolve(path)
	if err != nil {
		return err
	}
	// What is listed for a pattern lies in the last folder before its first special character.
	fixed, glob := fixedPrefix(at.path)
	start := strings.TrimSuffix(at.path, "/")
	if glob {
		start = fixed[:strings.LastIndexByte(fixed, '/')+1]
		start = strings.TrimSuffix(start, "/")
	}
	if !r.holds(at.with(start)) {
		return r.denied(path, "")
	}
	if at.isS3() {
		if dotSegments(at.path) {
			return r.denied(path, "; leave out . and ..")
		}
		return nil
	}
	if slices.Contains(r.places, location{}) {
		return nil // the root of all local files
	}
	walk := linkWalk{rules: r, path: path, seen: map[string]bool{}}
	if err := walk.follow(filepath.FromSlash(at.path)); err != nil {
		return err
	}
	if glob {
		return walk.folder(ctx, filepath.FromSlash(start+"/"), fixed[strings.LastIndexByte(fixed, '/')+1:])
	}
	return walk.folder(ctx, filepath.FromSlash(start+"/"), "")
}

// holds reports whether a location, taken by its letters, is at or beneath a place.
func (r *PathRules) holds(at location) bool {
	return slices.ContainsFunc(r.places, func(place location) bool { return place.bucket == at.bucket && beneath(place.path, at.path) })
}

// beneath reports whether a path is at or beneath a folder; neither ends in a slash.
func beneath(folder, path string) bool {
	rest, ok := strings.CutPrefix(path, folder)
	return ok && (rest == "" || folder == "" || rest[0] == '/')
}

// denied is the error of a path that is not allowed.
func (r *PathRules) denied(path, why string) error {
	if len(r.places) == 0 {
		return fault.New(fault.Precondition, "path %q is not allowed, because none is; name the folders or s3:// prefixes that may be used in %s", path, r.setting)
	}
	var places []string
	for _, place := range r.places {
		places = append(places, place.String())
	}
	return fault.New(fault.Precondition, "path %q is not allowed%s; it must lie beneath %s (%s)", path, why, strings.Join(places, " or "), r.setting)
}

// dotSegments reports whether a key has . or .. as a name, which some services take for folders.
func dotSegments(key string) bool {
	for name := range strings.SplitSeq(key, "/") {
		if name == "." || name == ".." {
			return true
		}
	}
	return false
}

// linkWalk looks for symbolic links that lead out.
type linkWalk struct {
	rules *PathRules
	path  string
	// roots are the places without links.
	roots []string
	seen  map[string]bool
}

// follow refuses a path whose links lead out.
func (w *linkWalk) follow(path string) error {
	resolved, err := realPath(path)
	if err != nil {
		return w.rules.denied(w.path, ", because its symbolic links cannot be followed")
	}
	if w.roots == nil {
		for _, place := range w.rules.places {
			if place.isS3() {
				continue
			}
			// A place that cannot be followed holds nothing.
			if root, err := realPath(filepath.FromSlash(place.path)); err == nil {
				w.roots = append(w.roots, strings.TrimSuffix(filepath.ToSlash(root), "/"))
			}
		}
	}
	resolved = strings.TrimSuffix(filepath.ToSlash(resolved), "/")
	if !slices.ContainsFunc(w.roots, func(root string) bool { return beneath(root, resolved) }) {
		return w.rules.denied(w.path, ", because a symbolic link leads out")
	}
	return nil
}

// folder refuses a folder with a link that leads out, anywhere below it; at the top only names that start with prefix count. What is no folder has none.
func (w *linkWalk) folder(ctx context.Context, folder, prefix string) error {
	resolved, err := filepath.EvalSymlinks(folder)
	if err != nil || w.seen[resolved] {
		return nil //nolint:nilerr // what is not there, or is a file, has no links in it
	}
	w.seen[resolved] = prefix == ""
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(resolved)
	if err != nil {
		return nil //nolint:nilerr // reading it will say why
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), prefix) {
			continue
		}
		child := filepath.Join(resolved, entry.Name())
		if entry.Type()&fs.ModeSymlink != 0 {
			if err := w.follow(child); err != nil {
				return err
			}
		} else if !entry.IsDir() {
			continue
		}
		if err := w.folder(ctx, child, ""); err != nil {
			return err
		}
	}
	return nil
}

// realPath gives a path without symbolic links. What is not there yet has none.
func realPath(path string) (string, error) {
	path, rest := filepath.Clean(path), ""
	for {
		resolved, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Join(resolved, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotFolder) {
			return "", err
		}
		if _, found := os.Lstat(path); found == nil {
			return "", err // a link to nothing: what is written there would be made elsewhere
		}
		parent := filepath.Dir(path)
		if parent == path {
			return "", err
		}
		path, rest = parent, filepath.Join(filepath.Base(path), rest)
	}
}
