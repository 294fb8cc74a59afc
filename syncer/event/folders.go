package event

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// FolderOptions is what watched folders are made of.
type FolderOptions struct {
	// Intake takes the events, and its router says which local files are of interest. Required.
	Intake *Intake
	// Settle is how long a file's size and time of modification must not change before it counts as written. Defaults to 5 s.
	Settle time.Duration
	// PollInterval is the time between two looks at all files where the system cannot tell of changes. Defaults to 30 s.
	PollInterval time.Duration
	// Poll looks at all files at intervals from the beginning: on network file systems the system tells only of what this machine itself changes. Defaults to false.
	Poll bool
}

// Folders tells of local files that come, change and go in the folders of the router's views, and beneath. Files that are there when it begins are known and
// not told of; whoever wants them synced runs the views once after that.
//
// Names that start with _ or . are passed over, so that a writer may keep a file under such a name until it is whole.
type Folders struct {
	o       FolderOptions
	logger  *slog.Logger
	watcher *fsnotify.Watcher // none where folders are polled
	// failures are the watcher's errors.
	failures <-chan error

	// reached is by which router it goes, for those who wait.
	reached reachedRouter

	router *Router
	roots  []string
	// files are those that belong to a view.
	files map[string]*watchedFile
	// watched are the folders that the system tells of.
	watched map[string]bool
	// unsettled are the files that have changed and are not told of yet.
	unsettled map[string]*watchedFile
}

type watchedFile struct {
	size     int64
	modified time.Time
	// since is when it was last seen to change.
	since time.Time
}

// NewFolders makes a source of local files.
func NewFolders(o FolderOptions) *Folders {
	setDefault(&o.Settle, 5*time.Second)
	setDefault(&o.PollInterval, 30*time.Second)
	return &Folders{
		o: o, logger: o.Intake.logger, files: map[string]*watchedFile{}, unsettled: map[string]*watchedFile{}, reached: reachedRouter{changed: make(chan struct{})},
	}
}

// Run watches until ctx is done, and returns nil.
func (f *Folders) Run(ctx context.Context) error {
	defer f.stopWatching()
	for first := true; ctx.Err() == nil; first = false {
		router, replaced := f.o.Intake.current()
		f.begin(router, first)
		f.follow(ctx, replaced)
	}
	return nil
}

// begin goes by a router. Files that it names and the one before did not, for the same view, are known from now on, and not told of, because a view that is new is run anyway. Others
// that are not known have come while nobody watched, and are told of.
func (f *Folders) begin(router *Router, first bool) {
	f.stopWatching()
	before := f.router
	f.router, f.roots = router, router.localRoots()
	for path := range f.files {
		if len(router.Views(path)) == 0 {
			delete(f.files, path)
			delete(f.unsettled, path)
		}
	}
	if !f.o.Poll && len(f.roots) > 0 {
		watcher, err := fsnotify.NewWatcher()
		if err != nil {
			f.fallBack(err)
		} else {
			f.watcher, f.failures, f.watched = watcher, failuresOf(watcher), map[string]bool{}
		}
	}
	if first {
		f.logger.Info("watching local files for events", "places", len(f.roots), "polling", f.watcher == nil)
	}
	f.scan(func(path string, info fs.FileInfo) { f.learn(before, path, info) })
	f.reached.set(router)
}

// reachedRouter is the last router whose files are known.
type reachedRouter struct {
	mu     sync.Mutex
	router *Router
	// changed is closed, and made anew, when the router changes.
	changed chan struct{}
}

func (r *reachedRouter) set(router *Router) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.router = router
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *reachedRouter) get() (*Router, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.router, r.changed
}

// Await waits until Run goes by the router that its intake has, and knows the files: whatever comes from then on is told of. The error is that of ctx.
func (f *Folders) Await(ctx context.Context) error {
	for {
		wanted, _ := f.o.Intake.current()
		reached, changed := f.reached.get()
		if reached == wanted {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (f *Folders) stopWatching() {
	if f.watcher != nil {
		_ = f.watcher.Close() // nothing is written by it
		f.watcher, f.failures, f.watched = nil, nil, nil
	}
}

// fallBack polls from now on, until the router is replaced.
func (f *Folders) fallBack(err error) {
	f.stopWatching()
	f.logger.Warn("the system cannot watch all folders, so that they are looked through at intervals instead; on Linux fs.inotify.max_user_watches and "+
		"max_user_instances are the limits", "interval", f.o.PollInterval, "error", err)
}

// follow tells of changes until ctx is done or the router is replaced.
func (f *Folders) follow(ctx context.Context, replaced <-chan struct{}) {
	poll := time.NewTicker(f.o.PollInterval)
	defer poll.Stop()
	settle := time.NewTicker(max(f.o.Settle/4, time.Millisecond))
	defer settle.Stop()
	for {
		var events <-chan fsnotify.Event
		polls := poll.C
		if f.watcher != nil {
			events, polls = f.watcher.Events, nil
		}
		select {
		case <-ctx.Done():
			return
		case <-replaced:
			return
		case e := <-events:
			f.changed(e)
		case err := <-f.failures:
			f.missed(err)
		case <-polls:
			f.scan(f.notice)
		case <-settle.C:
			f.settle()
		}
	}
}

// failuresOf takes a watcher's errors as they come, until it is closed: fsnotify keeps its lock until an error of a folder that was moved away is taken, and
// whoever is in the middle of watching another folder waits for that lock. An error that waits to be looked at stands for those after it.
func failuresOf(watcher *fsnotify.Watcher) <-chan error {
	failures := make(chan error, 1)
	go func() {
		for err := range watcher.Errors {
			select {
			case failures <- err:
			default:
			}
		}
	}()
	return failures
}

// missed looks at everything, because the system has not told of everything.
func (f *Folders) missed(err error) {
	if !errors.Is(err, fsnotify.ErrEventOverflow) {
		f.logger.Warn("watching folders failed; looking through all of them once", "error", err)
	}
	f.scan(f.notice)
}

// changed takes what the system tells.
func (f *Folders) changed(e fsnotify.Event) {
	path := filepath.ToSlash(e.Name)
	if e.Op == fsnotify.Chmod || !f.concerns(path) {
		return
	}
	info, err := os.Stat(e.Name)
	switch {
	case err == nil && info.IsDir():
		if e.Has(fsnotify.Create) { // perhaps in the place of another one
			f.unwatch(path)
		}
		f.scanBeneath(path, f.notice)
	case f.unwatch(path):
		f.scanBeneath(path, f.notice)
	case err != nil:
		f.gone(path)
	case info.Mode().IsRegular() && len(f.router.Views(path)) > 0:
		f.touch(path, info, true)
	}
}

// gone tells that a file went, where it is a known one.
func (f *Folders) gone(path string) {
	if f.files[path] != nil {
		delete(f.files, path)
		delete(f.unsettled, path)
		f.o.Intake.offer(sourceFolder, Object{URL: path, Removed: true})
	}
}

// concerns reports whether a path is at or beneath a root, or has one beneath it.
func (f *Folders) concerns(path string) bool {
	for _, root := range f.roots {
		if rest, ok := beneath(root, path); ok {
			if !isHidden(rest) {
				return true
			}
		} else if _, ok := beneath(path, root); ok {
			return true
		}
	}
	return false
}

// beneath gives a path relative to a folder that it is at or beneath.
func beneath(folder, path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(folder, "/"))
	return strings.TrimPrefix(rest, "/"), ok && (rest == "" || rest[0] == '/')
}

// isHidden reports whether a name in a relative path starts with _ or a dot.
func isHidden(relative string) bool {
	for name := range strings.SplitSeq(relative, "/") {
		if strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") {
			return true
		}
	}
	return false
}

// unwatch makes the system tell no more of a folder, and those beneath it, that may be elsewhere or another one now. It reports false where the path
// was no watched folder; then none beneath it was.
func (f *Folders) unwatch(path string) bool {
	if !f.watched[path] {
		return false
	}
	for folder := range f.watched {
		if _, ok := beneath(path, folder); ok {
			_ = f.watcher.Remove(folder) // it may be gone
			delete(f.watched, folder)
		}
	}
	return true
}

// scan looks at the files of all roots.
func (f *Folders) scan(seen func(path string, info fs.FileInfo)) { f.scanBeneath("/", seen) }

// scanBeneath looks at the files at and beneath a path that belong to views, tells of known ones that are gone, and watches the folders.
func (f *Folders) scanBeneath(path string, seen func(path string, info fs.FileInfo)) {
	present := map[string]bool{}
	for _, root := range f.roots {
		from := root
		if _, ok := beneath(root, path); ok {
			from = path
		} else if _, ok := beneath(path, root); !ok {
			continue
		}
		f.watchAbove(from)
		w := walk{folders: f, seen: seen, present: present}
		w.path(from)
	}
	for known := range f.files {
		if _, ok := beneath(path, known); ok && !present[known] {
			f.gone(known)
		}
	}
}

// watchAbove watches the folder that a path is in, or the nearest that is there, so that the system tells when the path comes or is replaced.
func (f *Folders) watchAbove(path string) {
	for above := nearestFolder(path); ; {
		f.watch(above)
		again := nearestFolder(path) // one may have come before it was watched for
		if again == above {
			return
		}
		above = again
	}
}

// nearestFolder gives the nearest folder above a path that is there.
func nearestFolder(path string) string {
	for {
		above := filepath.ToSlash(filepath.Dir(path))
		info, err := os.Stat(above)
		if (err == nil && info.IsDir()) || above == path {
			return above
		}
		path = above
	}
}

// watch asks the system to tell of a folder.
func (f *Folders) watch(folder string) {
	if f.watcher == nil || f.watched[folder] {
		return
	}
	switch err := f.watcher.Add(folder); {
	case err == nil:
		f.watched[folder] = true
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, fs.ErrPermission):
		f.logger.Warn("a folder cannot be watched", "folder", folder, "error", err)
	default:
		f.fallBack(err)
	}
}

// walk goes through a folder. It follows symbolic links, but not into a folder that it is in already.
type walk struct {
	folders *Folders
	seen    func(path string, info fs.FileInfo)
	present map[string]bool
	inside  []fs.FileInfo
}

func (w *walk) path(path string) {
	info, err := os.Stat(path)
	if err != nil {
		return // gone, or a link to nothing
	}
	if !info.IsDir() {
		if info.Mode().IsRegular() && len(w.folders.router.Views(path)) > 0 {
			w.present[path] = true
			w.seen(path, info)
		}
		return
	}
	for _, outer := range w.inside {
		if os.SameFile(outer, info) {
			return
		}
	}
	// What comes after this is told of; what came before is in the list.
	w.folders.watch(path)
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.folders.logger.Warn("a folder cannot be read", "folder", path, "error", err)
	}
	w.inside = append(w.inside, info)
	for _, entry := range entries {
		if !isHidden(entry.Name()) {
			w.path(strings.TrimSuffix(path, "/") + "/" + entry.Name())
		}
	}
	w.inside = w.inside[:len(w.inside)-1]
}

// learn takes a file as known that is of no view that the router before, nil for none, named it for.
func (f *Folders) learn(before *Router, path string, info fs.FileInfo) {
	if f.files[path] == nil && !isShared(before, f.router, path) {
		f.files[path] = &watchedFile{size: info.Size(), modified: info.ModTime()}
		return
	}
	f.notice(path, info)
}

// isShared reports whether a file is of one view by two routers, of which the first may be nil.
func isShared(a, b *Router, path string) bool {
	if a == nil {
		return false
	}
	views := a.Views(path)
	return slices.ContainsFunc(b.Views(path), func(view string) bool { return slices.Contains(views, view) })
}

// notice looks whether a file has changed.
func (f *Folders) notice(path string, info fs.FileInfo) { f.touch(path, info, false) }

// touch notes a file that may have changed, or has.
func (f *Folders) touch(path string, info fs.FileInfo, has bool) {
	file := f.files[path]
	switch {
	case file == nil:
		file = &watchedFile{}
		f.files[path] = file
	case !has && file.size == info.Size() && file.modified.Equal(info.ModTime()):
		return
	}
	file.size, file.modified, file.since = info.Size(), info.ModTime(), time.Now()
	f.unsettled[path] = file
}

// settle tells of the files that have come to rest.
func (f *Folders) settle() {
	now := time.Now()
	for path, file := range f.unsettled {
		if now.Sub(file.since) < f.o.Settle {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			f.gone(path)
			continue
		}
		f.touch(path, info, false)
		if now.Sub(file.since) >= f.o.Settle {
			delete(f.unsettled, path)
			f.o.Intake.offer(sourceFolder, Object{URL: path, At: file.since})
		}
	}
}
