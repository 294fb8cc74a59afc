package offline

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
)

// allowedTree makes folders with links of every kind, and a store whose base they are in:
//
//	train/a.parquet, train/sub/b.parquet
//	train/in -> sub, train/self -> ., train/other -> ../other           (stay in the places train and other)
//	leaky/out -> ../outside, leaky/file.parquet -> ../outside/secret.parquet, leaky/nothing -> ../outside/none
//	other/link -> ../train, chain/first -> ../train/deep, deep/out -> ../../outside
//	loop/x/up -> .., round/round -> round, training/c.parquet, outside/secret.parquet
//	door -> train
func allowedTree(t testing.TB) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	for _, file := range []string{"train/a.parquet", "train/sub/b.parquet", "leaky/x.parquet", "other/d.parquet", "training/c.parquet",
		"outside/secret.parquet", "loop/x/y.parquet", "chain/x.parquet", "behind/deep/z.parquet", "round/x.parquet"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(file), 0o600))
	}
	for link, target := range map[string]string{
		"train/in": "sub", "train/self": ".", "train/other": "../other", "other/link": "../train",
		"leaky/out": "../outside", "leaky/file.parquet": "../outside/secret.parquet", "leaky/nothing": "../outside/none",
		"loop/x/up": "..", "round/round": "round", "chain/first": "../behind/deep", "behind/deep/out": "../../outside", "door": "train",
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, link)))
	}
	store, err := Open(context.Background(), Config{Path: dir})
	require.NoError(t, err)
	return store, dir
}

func TestAllowedPaths(t *testing.T) {
	store, dir := allowedTree(t)
	rules := func(prefixes ...string) *PathRules {
		r, err := store.PathRules("historical.entity_paths", prefixes)
		require.NoError(t, err)
		return r
	}
	check := func(r *PathRules, allowed bool, paths ...string) {
		t.Helper()
		for _, path := range paths {
			err := r.Allowed(t.Context(), path)
			if allowed {
				require.NoError(t, err, path)
				continue
			}
			require.ErrorContains(t, err, "is not allowed", path)
			require.ErrorContains(t, err, "historical.entity_paths", path)
			require.Equal(t, fault.Precondition, fault.KindOf(err), path)
			_, why, _ := strings.Cut(err.Error(), "is not allowed")
			require.NotContains(t, why, "outside", "nothing is told of what is elsewhere")
		}
	}
	train := []string{"train", "train/", "./train", dir + "/train", "file://" + dir + "/train/a.parquet", "train/a.parquet", "train/new/file.parquet",
		"train/../train/sub", "train/in/b.parquet", "train/self/self/a.parquet", "train/*.parquet", "train/**", "train/{a,b}.parquet", "train/sub/[b].parquet",
		"other/../train/a.parquet", "train/{..,sub}/b.parquet", "train/a.parquet/x", "train/other/d.parquet", "other/link/a.parquet"}
	check(rules("train", "other"), true, train...)
	check(rules(dir+"/train/", "file://"+dir+"/other"), true, train...)
	check(rules("/"), true, "train", "leaky/file.parquet", "/etc/passwd", "/")
	check(nil, true, "/etc/passwd", "s3://anything")
	check(rules("train/a.parquet"), true, "train/a.parquet")
	check(rules("train/a.parquet"), false, "train", "train/a.parquet.old", "train/*.parquet", "train/a.parquet*")
	check(rules("door"), true, "door/sub", "door/a.parquet", "door/sub/*")
	check(rules("door"), false, "train/a.parquet", "door/other")
	check(rules("nowhere"), true, "nowhere", "nowhere/x.parquet", "nowhere/*")

	outside := []string{"training", "training/c.parquet", "trai", "train*", "train*/a.parquet", "{train,training}/c.parquet", "tr?in/a.parquet", "*", "**", ".", "/", dir,
		"train/..", "train/../outside/secret.parquet", "train/../training", "../" + filepath.Base(dir) + "/outside", "outside/secret.parquet", "/etc/passwd", "file:///etc/passwd",
		"train/*/../../outside/secret.parquet", "s3://train/a.parquet", "s3://b" + dir + "/train/a.parquet", "train\x00/../../x", `train\..\outside`, "TRAIN/../outside"}
	check(rules("train", "other"), false, outside...)
	check(rules("train"), false, "train", "train/", "train/other/d.parquet", "train/**", "train/other", "train/other/new.csv") // train/other leads out
	check(rules("leaky"), true, "leaky/x.parquet", "leaky/x*", "leaky/new.parquet")
	check(rules("leaky"), false, "leaky", "leaky/*", "leaky/*.parquet", "leaky/out/secret.parquet", "leaky/out", "leaky/out/*", "leaky/out/new.parquet", "leaky/file.parquet",
		"leaky/f*", "leaky/nothing", "leaky/nothing/x", "leaky/n*")
	check(rules("loop"), true, "loop", "loop/x", "loop/x/**", "loop/x/up/x/up/x/y.parquet")
	check(rules("round"), true, "round/x.parquet", "round/x*")
	check(rules("round"), false, "round/round", "round", "round/round/x")
	check(rules("chain", "behind"), false, "chain", "chain/**", "chain/first", "behind")
	check(rules("chain", "behind"), true, "chain/x.parquet", "chain/first/z.parquet")
	check(rules(), false, append(train, outside...)...)

	err := rules().Allowed(t.Context(), "train")
	require.ErrorContains(t, err, `path "train" is not allowed, because none is; name the folders or s3:// prefixes that may be used in historical.entity_paths`)
	err = rules("train", "s3://b/x").Allowed(t.Context(), "trainx")
	require.ErrorContains(t, err, `it must lie beneath file://`+dir+`/train or s3://b/x (historical.entity_paths)`)

	for _, path := range []string{"", "http://x/y", "s3://"} {
		require.Equal(t, fault.Invalid, fault.KindOf(rules("train").Allowed(t.Context(), path)), path)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, rules("train", "other").Allowed(ctx, "train"), context.Canceled)
	for _, prefix := range []string{"", "train/*", "s3://b/x/../y", "ftp://x", "s3://", "{a,b}"} {
		_, err := store.PathRules("historical.entity_paths", []string{prefix})
		require.Equal(t, fault.Invalid, fault.KindOf(err), prefix)
		require.ErrorContains(t, err, "historical.entity_paths", prefix)
	}
}

func TestAllowedKeys(t *testing.T) {
	store, err := Open(t.Context(), Config{Path: "s3://base/data", S3: S3Config{Endpoint: "http://127.0.0.1:1"}})
	require.NoError(t, err)
	for _, c := range []struct {
		prefix  string
		allowed []string
		denied  []string
	}{
		{"s3://b/train", []string{"s3://b/train", "s3a://b/train/x", "s3://b/train/", "s3://b//train/x", "s3://b/train/**/*.csv", "s3://b/train/x{1,2}"},
			[]string{"s3://b", "s3://b/", "s3://b/training", "s3://b/train*", "s3://b/*/x", "s3://b2/train", "s3://b/x/train", "s3://b/train/../x", "s3://b/train/x/..",
				"s3://b/train/*/../../x", "s3://b/train/./x", "s3://B/train", "s3://b*/train", "train", "/train", "file:///train", "s3://b/{train,x}/y", "s3://b/Train/x"}},
		{"s3://b/train/", []string{"s3://b/train", "s3://b/train/x"}, []string{"s3://b/training"}},
		{"s3://b", []string{"s3://b", "s3://b/x", "s3://b/*"}, []string{"s3://bb/x", "s3://b/../x", "x"}},
		{"train", []string{"train/x", "s3://base/data/train/x", "train/y/../x"}, []string{"x", "../train/x", "s3://base/train/x", "train/../x"}},
	} {
		rules, err := store.PathRules("the setting", []string{c.prefix})
		require.NoError(t, err)
		for _, path := range c.allowed {
			require.NoError(t, rules.Allowed(t.Context(), path), "%s beneath %s", path, c.prefix)
		}
		for _, path := range c.denied {
			require.ErrorContains(t, rules.Allowed(t.Context(), path), "is not allowed", "%s beneath %s", path, c.prefix)
		}
	}
}

// FuzzAllowed: whatever path is allowed, all that is read by it, and what would be written, lies beneath an allowed place.
func FuzzAllowed(f *testing.F) {
	for _, path := range []string{"train", "train/other/link/../x", "leaky/*", "leaky/f*", "train/{..,../outside}/secret.parquet", "train/in/../../outside", "other/**",
		`leaky\/out`, "loop/x/up/x", "file:///etc/passwd", "leaky/[n-p]ut/*", "./leaky//out//", "train/a.parquet/../../outside/new", "chain/*/z.parquet", "s3://b/train/x"} {
		f.Add(path)
	}
	store, dir := allowedTree(f)
	places := []string{"train", "other", "leaky", "loop", "round", "chain", "s3://b/train"}
	rules, err := store.PathRules("x", places)
	require.NoError(f, err)
	inside := func(t *testing.T, path string) {
		for _, place := range places[:len(places)-1] {
			if rel, err := filepath.Rel(filepath.Join(dir, place), path); err == nil && filepath.IsLocal(rel) {
				return
			}
		}
		t.Errorf("%s is outside", path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if rules.Allowed(t.Context(), path) != nil {
			return
		}
		at, err := store.base.resolve(path)
		require.NoError(t, err)
		if at.isS3() {
			require.Equal(t, "b", at.bucket)
			require.True(t, at.path == "train" || strings.HasPrefix(at.path, "train/"), at)
			require.NotContains(t, strings.Split(at.path, "/"), "..")
			return
		}
		// What exists of the path is inside once all links are followed; the rest would be made there.
		exists := filepath.Clean(at.path)
		resolved, err := filepath.EvalSymlinks(exists)
		for errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotFolder) {
			exists = filepath.Dir(exists)
			resolved, err = filepath.EvalSymlinks(exists)
		}
		require.NoError(t, err)
		inside(t, resolved)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // folders that link to themselves are walked 64 deep
		defer cancel()
		objects, err := find(ctx, fileDriver{}, at)
		if err != nil {
			return
		}
		for _, o := range objects {
			resolved, err := filepath.EvalSymlinks(o.at.path)
			require.NoError(t, err)
			inside(t, resolved)
		}
	})
}
