package offline

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
)

// create writes a file in pieces of a size.
func create(t testing.TB, p place, path string, data []byte, piece int, options CreateOptions) File {
	t.Helper()
	w, err := p.store.Create(t.Context(), path, options)
	require.NoError(t, err)
	for chunk := range chunks(data, piece) {
		n, err := w.Write(chunk)
		require.NoError(t, err)
		require.Len(t, chunk, n)
	}
	f, err := w.Commit(t.Context())
	require.NoError(t, err)
	w.Abort() // does nothing
	return f
}

func chunks(data []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(data) > 0 && yield(data[:min(size, len(data))]) {
			data = data[min(size, len(data)):]
		}
	}
}

// names gives everything that is at a place, hidden files and unfinished uploads included.
func names(t *testing.T, p place) []string {
	t.Helper()
	base := p.store.base
	d, err := p.store.driver(t.Context(), base)
	require.NoError(t, err)
	found := []string{}
	require.NoError(t, d.list(t.Context(), base.with(base.path+"/"), func(o object) error {
		found = append(found, strings.TrimPrefix(o.at.path, base.path+"/"))
		return nil
	}))
	if d, ok := d.(*s3Driver); ok {
		uploads, err := d.client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &base.bucket})
		require.NoError(t, err)
		for _, u := range uploads.Uploads {
			found = append(found, "an unfinished upload of "+*u.Key)
		}
	}
	return found
}

// read gives the bytes of a file, through the version that is listed.
func read(t *testing.T, p place, f File) []byte {
	t.Helper()
	files, err := p.store.ListFiles(t.Context(), f.URL)
	require.NoError(t, err)
	require.Equal(t, f, File{URL: files[0].URL, SizeBytes: files[0].SizeBytes, ETag: files[0].ETag})
	data, err := p.store.ReadFile(t.Context(), files[0], f.SizeBytes)
	require.NoError(t, err)
	return data
}

func TestCreate(t *testing.T) {
	random := make([]byte, 2*uploadPartBytes+uploadPartBytes/2)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(random)
	onEveryPlace(t, func(t *testing.T, p place) {
		for name, c := range map[string]struct {
			size, piece int
		}{
			"empty":                 {0, 1},
			"deep/er/small.parquet": {1000, 7},
			"a part":                {uploadPartBytes, 1 << 20},
			"a byte more":           {uploadPartBytes + 1, uploadPartBytes + 1},
			"two parts":             {2 * uploadPartBytes, 1<<20 + 1},
			"some parts [*]?{é}":    {len(random), 1_000_003},
		} {
			f := create(t, p, name, random[:c.size], c.piece, CreateOptions{})
			require.Equal(t, p.url+"/"+name, f.URL)
			require.True(t, bytes.Equal(random[:c.size], read(t, p, f)), name)
		}
		require.Len(t, names(t, p), 6)
	})
}

// TestCreateOverwrite: without permission nothing is replaced, neither what was there before nor what came meanwhile.
func TestCreateOverwrite(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		for name, size := range map[string]int{"small": 10, "large": uploadPartBytes + 10} {
			data := bytes.Repeat([]byte("b"), size)
			create(t, p, name, data, size, CreateOptions{})
			_, err := p.store.Create(t.Context(), name, CreateOptions{})
			require.ErrorContains(t, err, "is there already", name)
			require.Equal(t, fault.Precondition, fault.KindOf(err))

			f := create(t, p, name, data[1:], size, CreateOptions{Overwrite: true})
			require.Equal(t, data[1:], read(t, p, f))

			slow, err := p.store.Create(t.Context(), name+"-raced", CreateOptions{})
			require.NoError(t, err)
			_, err = slow.Write(data)
			require.NoError(t, err)
			quick := create(t, p, name+"-raced", []byte("quick"), 5, CreateOptions{})
			_, err = slow.Commit(t.Context())
			require.ErrorContains(t, err, "is there already", name)
			require.Equal(t, fault.Precondition, fault.KindOf(err))
			require.Equal(t, "quick", string(read(t, p, quick)))
		}
		require.ElementsMatch(t, []string{"small", "large", "small-raced", "large-raced"}, names(t, p))
	})
}

// TestCreateRace: of many that create one file at once, one does.
func TestCreateRace(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		const writers = 8
		errs := make([]error, writers)
		var group sync.WaitGroup
		for i := range writers {
			group.Go(func() {
				w, err := p.store.Create(t.Context(), "x", CreateOptions{})
				if err == nil {
					_, err = w.Write([]byte{byte(i)})
					_, commit := w.Commit(t.Context())
					err = errors.Join(err, commit)
				}
				errs[i] = err
			})
		}
		group.Wait()
		won := -1
		for i, err := range errs {
			if err == nil {
				require.Equal(t, -1, won, "two have created it")
				won = i
				continue
			}
			require.Equal(t, fault.Precondition, fault.KindOf(err), err)
		}
		require.GreaterOrEqual(t, won, 0, "nobody has created it: %v", errs[0])
		files, err := p.store.ListFiles(t.Context(), "x")
		require.NoError(t, err)
		data, err := p.store.ReadFile(t.Context(), files[0], 1)
		require.NoError(t, err)
		require.Equal(t, []byte{byte(won)}, data)
		require.Equal(t, []string{"x"}, names(t, p))
	})
}

func TestCreateAbort(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		for _, size := range []int{0, 10, uploadPartBytes * 5 / 2} {
			w, err := p.store.Create(t.Context(), "x", CreateOptions{})
			require.NoError(t, err)
			_, err = w.Write(make([]byte, size))
			require.NoError(t, err)
			w.Abort()
			w.Abort()
			_, err = w.Write(make([]byte, createBuffer+1))
			require.Error(t, err)
			_, err = w.Commit(t.Context())
			require.Error(t, err)
			require.Empty(t, names(t, p), size)
		}
	})
}

func TestCreateCancelled(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		for _, size := range []int{10, uploadPartBytes * 5 / 2} {
			ctx, cancel := context.WithCancel(t.Context())
			w, err := p.store.Create(ctx, "x", CreateOptions{})
			require.NoError(t, err)
			_, err = w.Write(make([]byte, size))
			require.NoError(t, err)
			cancel()
			_, err = w.Write(make([]byte, size))
			require.ErrorIs(t, err, context.Canceled)
			_, err = w.Commit(t.Context())
			require.ErrorIs(t, err, context.Canceled)
			require.Empty(t, names(t, p), size)

			w, err = p.store.Create(t.Context(), "x", CreateOptions{})
			require.NoError(t, err)
			_, err = w.Write(make([]byte, size))
			require.NoError(t, err)
			_, err = w.Commit(ctx)
			require.ErrorIs(t, err, context.Canceled)
			require.Empty(t, names(t, p), size)
		}
	})
}

// TestUploadsAreTakenBackForGood: an upload is aborted again, because parts may come after the first time, unless it cannot be aborted at all.
func TestUploadsAreTakenBackForGood(t *testing.T) {
	for name, c := range map[string]struct {
		there []bool // what the service has, at each call
		calls int64
	}{
		"a part comes late":     {[]bool{true, false, true, false}, abortTries},
		"there is no such":      {[]bool{false}, 1},
		"taken back at once":    {[]bool{true, false, false, false}, abortTries},
		"the service is behind": {[]bool{true, true, true, true}, abortTries},
	} {
		t.Run(name, func(t *testing.T) {
			var aborts atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodDelete || r.URL.Query().Get("uploadId") != "u" {
					t.Errorf("asked for %s %v", r.Method, r.URL)
				}
				if n := int(aborts.Add(1)); n <= len(c.there) && c.there[n-1] {
					w.WriteHeader(http.StatusNoContent)
					return
				}
				w.WriteHeader(http.StatusNotFound)
				_, _ = w.Write([]byte("<Error><Code>NoSuchUpload</Code></Error>")) // a client that went away is no fault of the fake
			}))
			defer server.Close()
			d, err := newS3Driver(t.Context(), S3Config{Endpoint: server.URL, PathStyle: true, AccessKeyID: "a", SecretAccessKey: "b"})
			require.NoError(t, err)
			_, err = boundedUploads{d.client}.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: aws.String("b"), Key: aws.String("x"), UploadId: aws.String("u")})
			require.Equal(t, c.there[0], err == nil, "the first answer counts: %v", err)
			require.Equal(t, c.calls, aborts.Load())
		})
	}
}

func TestCreateRefuses(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		for path, kind := range map[string]fault.Kind{"": fault.Invalid, "x/": fault.Invalid, "ftp://x/y": fault.Invalid, "s3://b": fault.Invalid} {
			_, err := p.store.Create(t.Context(), path, CreateOptions{})
			require.Equal(t, kind, fault.KindOf(err), "%s: %v", path, err)
		}
	})
	p := filePlace(t)
	p.put(t, "folder/file", nil)
	for path, want := range map[string]string{"folder": "is not a file", "folder/file/x": "a file is where its folder would be", "/dev/null": "is not a file"} {
		_, err := p.store.Create(t.Context(), path, CreateOptions{Overwrite: true})
		require.ErrorContains(t, err, want)
		require.Equal(t, fault.Precondition, fault.KindOf(err))
	}
	require.Equal(t, []string{"folder/file"}, names(t, p))

	s := s3Place(t)
	w, err := s.store.Create(t.Context(), "s3://twofold-no-such-bucket/x", CreateOptions{Overwrite: true})
	require.NoError(t, err)
	_, err = w.Commit(t.Context())
	require.ErrorContains(t, err, "there is no bucket")
	require.Equal(t, fault.Precondition, fault.KindOf(err))
}

// TestCreateLocal: what other programs see of a local file.
func TestCreateLocal(t *testing.T) {
	p := filePlace(t)
	f := create(t, p, "x", []byte("1"), 1, CreateOptions{})
	path := strings.TrimPrefix(f.URL, fileScheme)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o644), info.Mode())

	// A link is replaced, not followed.
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.WriteFile(elsewhere, []byte("old"), 0o600))
	require.NoError(t, errors.Join(os.Remove(path), os.Symlink(elsewhere, path)))
	create(t, p, "x", []byte("new"), 3, CreateOptions{Overwrite: true})
	data, err := os.ReadFile(elsewhere)
	require.NoError(t, err)
	require.Equal(t, "old", string(data))

	// While it is written, nobody who lists the folder finds it.
	w, err := p.store.Create(t.Context(), "later.parquet", CreateOptions{})
	require.NoError(t, err)
	defer w.Abort()
	files, err := p.store.ListFiles(t.Context(), p.url+"/", "x", "-", ".parquet")
	require.NoError(t, err)
	require.Len(t, files, 1)
}

// TestCreateS3Faults: an upload that the service refuses half way fails the writer, with the service's reason, and is taken back. The server is a fake
// because no real one fails when told to.
func TestCreateS3Faults(t *testing.T) {
	for failing, want := range map[string]fault.Kind{"part": fault.Precondition, "complete": fault.Precondition, "start": fault.Precondition} {
		t.Run(failing, func(t *testing.T) {
			var mu sync.Mutex
			var aborted bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				q := r.URL.Query()
				step := map[string]string{http.MethodPut: "part", http.MethodPost: "complete", http.MethodDelete: "abort", http.MethodHead: "head"}[r.Method]
				if q.Has("uploads") {
					step = "start"
				}
				switch {
				case step == failing:
					w.WriteHeader(http.StatusForbidden)
					_, _ = io.WriteString(w, `<Error><Code>AccessDenied</Code><Message>no</Message></Error>`)
				case step == "start":
					_, _ = io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>`)
				case step == "part":
					w.Header().Set("ETag", `"e"`)
				case step == "head":
					w.WriteHeader(http.StatusNotFound)
				case step == "abort":
					mu.Lock()
					aborted = true
					mu.Unlock()
					w.WriteHeader(http.StatusNoContent)
				}
			}))
			defer server.Close()
			store, err := Open(t.Context(), Config{Path: "s3://b", S3: S3Config{Endpoint: server.URL, PathStyle: true, AccessKeyID: "a", SecretAccessKey: "b"}})
			require.NoError(t, err)
			w, err := store.Create(t.Context(), "x", CreateOptions{})
			require.NoError(t, err)
			for range 10 * uploadPartBytes / createBuffer {
				if _, err = w.Write(make([]byte, createBuffer)); err != nil {
					break
				}
			}
			if err == nil {
				_, err = w.Commit(t.Context())
			}
			w.Abort()
			require.ErrorContains(t, err, "access is denied")
			require.Equal(t, want, fault.KindOf(err))
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, failing != "start", aborted)
		})
	}
}
