package event

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// watch runs a source of files until the test, or whoever calls stop, ends it. It returns when the source knows what is there.
func watch(t testing.TB, b *bench, change ...func(*FolderOptions)) (stop func()) {
	t.Helper()
	o := FolderOptions{Intake: b.Intake, Settle: 20 * time.Millisecond, PollInterval: 10 * time.Millisecond}
	for _, c := range change {
		c(&o)
	}
	f := NewFolders(o)
	router, replaced := b.current()
	f.begin(router, true)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.follow(ctx, replaced)
		_ = f.Run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(stop)
	return stop
}

func write(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// expect waits until events of exactly these files have come; a - before a name is for one that went.
func expect(t testing.TB, b *bench, folder string, want ...string) {
	t.Helper()
	slices.Sort(want)
	got := map[string]bool{}
	eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		for {
			trigger, err := b.queue.Next(ctx)
			if err != nil {
				break
			}
			name := strings.TrimPrefix(strings.TrimPrefix(trigger.Last.URL, folder), "/")
			if trigger.Last.Removed {
				name = "-" + name
			}
			assert.Equal(t, sourceFolder, trigger.Last.Source)
			got[name] = true
			b.queue.Done(trigger, nil)
		}
		return len(got) >= len(want)
	}, "events of %v", want)
	var names []string
	for name := range got {
		names = append(names, name)
	}
	slices.Sort(names)
	assert.Equal(t, want, names)
}

// modes runs a test with folders that the system tells of and with such that are polled.
func modes(t *testing.T, test func(t *testing.T, mode func(*FolderOptions))) {
	for name, poll := range map[string]bool{"watched": false, "polled": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(o *FolderOptions) { o.Poll = poll })
		})
	}
}

func TestFolders(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*FolderOptions)) {
		root := filepath.ToSlash(t.TempDir())
		write(t, root+"/v/known.parquet", "x")
		write(t, root+"/v/known2.parquet", "x")
		// A view a file, so that each event is a trigger of its own.
		b := newBench(t, "v", root+"/v")
		watch(t, b, mode)
		one := func(change func(), want string) {
			t.Helper()
			change()
			expect(t, b, root, want)
		}
		one(func() { write(t, root+"/v/1.parquet", "x") }, "v/1.parquet")
		one(func() { write(t, root+"/v/deep/er/2.parquet", "x") }, "v/deep/er/2.parquet")
		one(func() { write(t, root+"/v/deep/er/3.parquet", "x") }, "v/deep/er/3.parquet")
		one(func() { write(t, root+"/v/known.parquet", "xy") }, "v/known.parquet")
		one(func() { require.NoError(t, os.Remove(root+"/v/known.parquet")) }, "-v/known.parquet")
		one(func() {
			write(t, root+"/v/_tmp/4", "x")
			write(t, root+"/v/.5.parquet", "x")
			write(t, root+"/v/6.csv", "x")
			write(t, root+"/w/7.parquet", "x")
			require.NoError(t, os.Rename(root+"/v/_tmp/4", root+"/v/8.parquet"))
		}, "v/8.parquet")
		one(func() {
			write(t, root+"/other/10.parquet", "x")
			require.NoError(t, os.Rename(root+"/other", root+"/v/moved"))
		}, "v/moved/10.parquet")
		one(func() { require.NoError(t, os.Rename(root+"/v/moved", root+"/away")) }, "-v/moved/10.parquet")
		one(func() { require.NoError(t, os.Rename(root+"/away", root+"/v/back")) }, "v/back/10.parquet")
		one(func() { write(t, root+"/v/back/11.parquet", "x") }, "v/back/11.parquet")
	})
}

func TestFoldersThatComeLater(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*FolderOptions)) {
		root := filepath.ToSlash(t.TempDir())
		b := newBench(t, "folder", root+"/a/b/c", "glob", root+"/g/day=*/*.parquet", "file", root+"/f/one.parquet")
		watch(t, b, mode)
		for range 3 { // it may go and come again
			write(t, root+"/a/b/c/1.parquet", "x")
			expect(t, b, root, "a/b/c/1.parquet")
			write(t, root+"/g/day=1/2.parquet", "x")
			expect(t, b, root, "g/day=1/2.parquet")
			write(t, root+"/f/one.parquet", "x")
			expect(t, b, root, "f/one.parquet")
			require.NoError(t, os.RemoveAll(root+"/a"))
			expect(t, b, root, "-a/b/c/1.parquet")
			require.NoError(t, os.RemoveAll(root+"/g"))
			expect(t, b, root, "-g/day=1/2.parquet")
			require.NoError(t, os.RemoveAll(root+"/f"))
			expect(t, b, root, "-f/one.parquet")
		}
	})
}

// TestFoldersOtherFolderInItsPlace replaces folders as those do who want many files to appear at once.
func TestFoldersOtherFolderInItsPlace(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*FolderOptions)) {
		root := filepath.ToSlash(t.TempDir())
		write(t, root+"/v1/a.parquet", "1")
		write(t, root+"/v2/a.parquet", "22")
		write(t, root+"/v3/a.parquet", "333")
		require.NoError(t, os.Symlink("v1", root+"/current"))
		b := newBench(t, "v", root+"/current")
		watch(t, b, mode)
		for _, next := range []string{"v2", "v3"} {
			require.NoError(t, os.Symlink(next, root+"/link"))
			require.NoError(t, os.Rename(root+"/link", root+"/current"))
			expect(t, b, root, "current/a.parquet")
			write(t, root+"/"+next+"/b.parquet", next)
			expect(t, b, root, "current/b.parquet")
			require.NoError(t, os.Remove(root+"/current/b.parquet"))
			expect(t, b, root, "-current/b.parquet")
		}
	})
}

func TestFoldersRouterIsReplaced(t *testing.T) {
	root := filepath.ToSlash(t.TempDir())
	write(t, root+"/w/known.parquet", "x")
	b := newBench(t, "v", root+"/v")
	watch(t, b)
	b.Replace(router(t, "w", root+"/w"))
	// The new router counts from some moment on: write until it does.
	for n := 0; b.events(t, sourceFolder, outcomeRouted) == 0; n++ {
		write(t, root+"/w/1.parquet", strings.Repeat("x", n))
		<-time.After(60 * time.Millisecond)
	}
	trigger := b.next(t)
	assert.Equal(t, root+"/w/1.parquet", trigger.First.URL)
}

// TestFoldersFileThatComesWhileTheRouterIsReplaced: a view that both routers have is not run for the new one, so a file of it that comes in between is told of. Where a view or its path is
// new, what is there is known.
func TestFoldersFileThatComesWhileTheRouterIsReplaced(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*FolderOptions)) {
		root := filepath.ToSlash(t.TempDir())
		b := newBench(t, "v", root+"/v", "u", root+"/u")
		o := FolderOptions{Intake: b.Intake, Settle: time.Nanosecond, PollInterval: time.Hour}
		mode(&o)
		f := NewFolders(o)
		defer f.stopWatching()
		now, _ := b.current()
		f.begin(now, true)
		for _, name := range []string{"v/1.parquet", "w/1.parquet", "u2/1.parquet"} {
			write(t, root+"/"+name, "x")
		}
		b.Replace(router(t, "v", root+"/v", "w", root+"/w", "u", root+"/u2"))
		now, _ = b.current()
		f.begin(now, false)
		f.settle()
		require.Equal(t, 1, b.events(t, sourceFolder, outcomeRouted))
		assert.Equal(t, root+"/v/1.parquet", b.next(t).First.URL)
	})
}

// TestFoldersFileIsTakenWhenItIsWhole writes a file slowly, by the clock of testing/synctest.
func TestFoldersFileIsTakenWhenItIsWhole(t *testing.T) {
	root := filepath.ToSlash(t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "v", root)
		f := NewFolders(FolderOptions{Intake: b.Intake, Poll: true, PollInterval: time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = f.Run(ctx) })
		synctest.Wait()
		for i := range 20 {
			write(t, root+"/slow.parquet", strings.Repeat("x", i+1))
			after(4 * time.Second)
			assert.Zero(t, b.events(t, sourceFolder, outcomeRouted), "it is still written")
		}
		after(5 * time.Second)
		assert.Equal(t, 1, b.events(t, sourceFolder, outcomeRouted))
		after(time.Hour)
		assert.Equal(t, 1, b.events(t, sourceFolder, outcomeRouted))
		write(t, root+"/brief.parquet", "x")
		after(2 * time.Second)
		require.NoError(t, os.Remove(root+"/brief.parquet"))
		after(time.Hour)
		cancel()
		running.Wait()
	})
}

// TestFoldersLimit makes watching fail, as the system does where it watches as much as it may.
func TestFoldersLimit(t *testing.T) {
	root := filepath.ToSlash(t.TempDir())
	b := newBench(t, "v", root)
	f := NewFolders(FolderOptions{Intake: b.Intake, Settle: time.Millisecond, PollInterval: time.Millisecond})
	r, replaced := b.current()
	f.begin(r, true)
	f.fallBack(errors.New("no space left on device"))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.follow(ctx, replaced) })
	write(t, root+"/1.parquet", "x")
	expect(t, b, root, "1.parquet")
	cancel()
	running.Wait()
	assert.Contains(t, b.log.String(), "fs.inotify.max_user_watches")
}

// TestFoldersOverflow loses what the system had to tell.
func TestFoldersOverflow(t *testing.T) {
	root := filepath.ToSlash(t.TempDir())
	write(t, root+"/old.parquet", "x")
	b := newBench(t, "v", root)
	f := NewFolders(FolderOptions{Intake: b.Intake, Settle: time.Nanosecond})
	r, _ := b.current()
	f.begin(r, true)
	defer f.stopWatching()
	write(t, root+"/deep/new.parquet", "x")
	require.NoError(t, os.Remove(root+"/old.parquet"))
	f.missed(fsnotify.ErrEventOverflow)
	f.settle()
	assert.Equal(t, 2, b.events(t, sourceFolder, outcomeRouted))
	assert.True(t, f.watched[root+"/deep"])
}

// TestFoldersBusyWhenAnErrorComes: the system's errors are taken while folders are looked through, and looked at afterwards.
func TestFoldersBusyWhenAnErrorComes(t *testing.T) {
	root := filepath.ToSlash(t.TempDir())
	b := newBench(t, "v", root)
	f := NewFolders(FolderOptions{Intake: b.Intake, Settle: time.Nanosecond})
	r, replaced := b.current()
	f.begin(r, true)
	defer f.stopWatching()
	for range 3 {
		select {
		case f.watcher.Errors <- errors.New("a watch is gone"):
		case <-time.After(10 * time.Second):
			t.Fatal("an error of the watcher is not taken")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.follow(ctx, replaced) })
	eventually(t, func() bool { return strings.Contains(b.log.String(), "a watch is gone") }, "the error in the log")
	cancel()
	running.Wait()
}

func TestFoldersLinksInACircle(t *testing.T) {
	root := filepath.ToSlash(t.TempDir())
	write(t, root+"/v/a/1.parquet", "x")
	require.NoError(t, os.Symlink("..", root+"/v/a/up"))
	require.NoError(t, os.Symlink("nowhere", root+"/v/broken"))
	b := newBench(t, "v", root+"/v")
	watch(t, b)
	write(t, root+"/v/a/2.parquet", "x")
	expect(t, b, root, "v/a/2.parquet")
}

// TestFoldersAtRandom changes files and folders at random. In the end the last word on each file must be whether it is there.
func TestFoldersAtRandom(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*FolderOptions)) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		root := filepath.ToSlash(t.TempDir())
		// A view for each file, so that no trigger hides another; none where the file's folders are hidden.
		var pairs, files []string
		for _, folder := range []string{"", "/v", "/a", "/b", "/v/v", "/v/a", "/v/b", "/a/v", "/a/a", "/a/b", "/b/v", "/b/a", "/b/b"} {
			for n := range 5 {
				file := fmt.Sprintf("/r/v%s/%d.parquet", folder, n)
				files, pairs = append(files, root+file), append(pairs, root+file, root+strings.Replace(file, "v", "[v]", 1))
			}
		}
		b := newBench(t, pairs...)
		watch(t, b, mode, func(o *FolderOptions) { o.Settle = time.Millisecond })
		var mu sync.Mutex
		told := map[string]bool{}
		var listening sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		listening.Go(func() {
			for {
				trigger, err := b.queue.Next(ctx)
				if err != nil {
					return
				}
				mu.Lock()
				told[trigger.View] = !trigger.Last.Removed
				mu.Unlock()
				b.queue.Done(trigger, nil)
			}
		})
		path := func() string {
			p := root + "/r"
			for range random.IntN(4) {
				p += "/" + []string{"v", "v", "a", "b", "_c"}[random.IntN(5)]
			}
			return p
		}
		for i := range 500 {
			switch random.IntN(8) {
			case 0:
				_ = os.RemoveAll(path())
			case 1:
				_ = os.Rename(path(), path())
			case 2:
				<-time.After(5 * time.Millisecond)
			default:
				file := path() + fmt.Sprintf("/%d.parquet", random.IntN(5))
				_ = os.MkdirAll(filepath.Dir(file), 0o700)
				_ = os.WriteFile(file, []byte(strings.Repeat("x", i)), 0o600)
			}
		}
		eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return !slices.ContainsFunc(files, func(file string) bool {
				_, err := os.Stat(file)
				return told[file] != (err == nil)
			})
		}, "the last word on each file (seed %d)", seed)
		cancel()
		listening.Wait()
	})
}

// TestFoldersAwait: who has waited has every later file told of, those of views that a new router brought included.
func TestFoldersAwait(t *testing.T) {
	folder := t.TempDir()
	b := newBench(t, "v", filepath.Join(folder, "v"))
	f := NewFolders(FolderOptions{Intake: b.Intake, Settle: time.Millisecond})
	none, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.Await(none), context.Canceled, "it does not watch yet")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	require.NoError(t, f.Await(t.Context()))
	write(t, filepath.Join(folder, "v", "1.parquet"), "x")
	expect(t, b, folder, "v/1.parquet")
	b.Replace(router(t, "v", filepath.Join(folder, "v"), "w", filepath.Join(folder, "w")))
	require.NoError(t, f.Await(t.Context()))
	write(t, filepath.Join(folder, "w", "1.parquet"), "x")
	expect(t, b, folder, "w/1.parquet")
	stop()
	require.NoError(t, <-ended)
}
