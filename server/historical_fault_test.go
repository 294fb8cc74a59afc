package server_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/server/servertest"
)

// faultyWorld has the files of price in S3 and those of the other views on the disk.
type faultyWorld struct {
	*s3World
	env *servertest.Env
	// header and rows ask for price, local for a view on the disk.
	header, local *header
	rows          []*twofoldv1.GetHistoricalFeaturesRequest
	// want is the right answer.
	want, wantLocal *trained
}

// faultyFiles are the files of price; each item is in one of them.
const faultyFiles = 4

func newFaultyWorld(t *testing.T) *faultyWorld {
	t.Helper()
	w := &faultyWorld{s3World: newS3World(t), header: &header{Features: []string{"price:name", "price:amount"}}, local: &header{Features: []string{"profile:name"}}}
	const perFile = 3000
	for file := range faultyFiles {
		items, at, amounts, names := feature.NewColumn(feature.String, perFile), feature.NewColumn(feature.Timestamp, perFile), feature.NewColumn(feature.Double, perFile),
			feature.NewColumn(feature.String, perFile)
		for i := range perFile {
			n := i*faultyFiles + file
			items.AppendString(fmt.Sprint("i", n))
			at.AppendInt64(ago(time.Duration(n) * time.Second))
			amounts.AppendDouble(float64(n) * 1.1)
			names.AppendString(fmt.Sprintf("name of %d %x", n, n*7919))
		}
		w.putTable(t, fmt.Sprintf("price/%d.parquet", file),
			&servertest.Table{Names: []string{"item_id", "at", "amount", "name"}, Columns: []*feature.Column{items, at, amounts, names}})
	}
	w.env = start(t, func(c *servertest.Config) {
		c.Definitions, c.Offline.S3 = edit(t, "path: price.parquet", "path: "+w.url("price")), w.config
	})
	keys, users, times := feature.NewColumn(feature.String, 0), feature.NewColumn(feature.Int64, 0), feature.NewColumn(feature.Timestamp, 0)
	for i := range 2000 {
		keys.AppendString(fmt.Sprint("i", i*7))
		users.AppendInt64(int64(i % 5))
		times.AppendInt64(ago(0))
	}
	w.rows = tableChunks(t, &servertest.Table{Names: []string{"item_id", "user_id", "event_timestamp"}, Columns: []*feature.Column{keys, users, times}}, 1000)
	w.want, w.wantLocal = mustTrain(t, w.env, w.header, w.rows...), mustTrain(t, w.env, w.local, w.rows...)
	if w.want.manifest.GetViews()[0].GetUnmatchedRows() > 1000 {
		t.Fatal("few rows match")
	}
	return w
}

// forget makes the server forget what it knows of the files, footers above all.
func (w *faultyWorld) forget(t *testing.T) {
	t.Helper()
	if err := w.env.Offline.Close(); err != nil {
		t.Fatal(err)
	}
}

// besides makes a call for price, and while it is under way others for what does not lie in S3, which must be right.
func (w *faultyWorld) besides(t *testing.T) (*trained, error) {
	t.Helper()
	ctx, ended := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() {
		// Not without a pause: the call itself is to have the machine.
		for pause := time.NewTicker(100 * time.Millisecond); ; <-pause.C {
			got, err := train(t.Context(), t, w.env.GRPCAddress, w.local, w.rows...)
			if err != nil || !cmp.Equal(got.cells, w.wantLocal.cells) {
				t.Errorf("another call meanwhile: %v", err)
			}
			resp, err := readAge(t.Context(), w.env, "profile:name")
			if err != nil || table(t, resp.GetColumns())["profile:name"][0] != "Ann" {
				t.Errorf("an online read meanwhile: %v, %v", resp, err)
			}
			if ctx.Err() != nil {
				pause.Stop()
				return
			}
		}
	})
	got, err := train(t.Context(), t, w.env.GRPCAddress, w.header, w.rows...)
	ended()
	others.Wait()
	return got, err
}

func isGet(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/price/")
}

// TestHistoricalS3ForAWhile: faults that pass are not seen.
func TestHistoricalS3ForAWhile(t *testing.T) {
	t.Parallel()
	w := newFaultyWorld(t)
	var gets atomic.Int64
	for name, rule := range map[string]s3Rule{
		"500": func(rw http.ResponseWriter, _ *http.Request, n int) bool {
			return n%3 == 0 && refuse(rw, http.StatusInternalServerError, "InternalError")
		},
		"503": func(rw http.ResponseWriter, _ *http.Request, n int) bool {
			return n <= 2 && refuse(rw, http.StatusServiceUnavailable, "SlowDown")
		},
		"broken answers": func(http.ResponseWriter, *http.Request, int) bool { return gets.Add(1)%4 == 0 && abort() },
		"broken bodies": func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if isGet(r) && gets.Add(1)%3 == 0 {
				r.Header.Set(cutHeader, "1000")
			}
			return false
		},
		"slow": func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.Context().Done():
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			w.forget(t)
			w.set(rule)
			defer w.set(nil)
			got, err := w.besides(t)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(w.want.cells, got.cells); diff != "" || got.manifest.GetContentHash() != w.want.manifest.GetContentHash() {
				t.Errorf("-want +got:\n%s", diff)
			}
			if len(w.seen("/price/")) < faultyFiles {
				t.Errorf("only %d requests came through the proxy", len(w.seen("/price/")))
			}
		})
	}
}

// abort breaks the connection without an answer.
func abort() bool { panic(http.ErrAbortHandler) }

// lasting is a fault that stays.
type lasting struct {
	rule  func(w *faultyWorld) s3Rule
	code  codes.Code
	words []string
}

// after lets some requests for bytes of files pass: as many as there are footers, and a few more.
func after(free int64, fault func(http.ResponseWriter) bool) s3Rule {
	var gets atomic.Int64
	return func(rw http.ResponseWriter, r *http.Request, _ int) bool {
		return isGet(r) && gets.Add(1) > free && fault(rw)
	}
}

// onceIn lets something happen while files are read.
func onceIn(change func()) func(http.ResponseWriter) bool {
	changed := sync.OnceFunc(change)
	return func(http.ResponseWriter) bool {
		changed()
		return false
	}
}

// check makes calls while the fault lasts and after it.
func (c *lasting) check(t *testing.T, w *faultyWorld) {
	t.Helper()
	data := w.get(t, "price/2.parquet")
	w.forget(t)
	w.set(c.rule(w))
	_, err := w.besides(t)
	w.set(nil)
	t.Log(err)
	wantError(t, err, c.code, "", c.words...)
	w.put(t, "price/2.parquet", data)
	w.forget(t)
	got, err := w.besides(t)
	if err != nil || got.manifest.GetContentHash() != w.want.manifest.GetContentHash() {
		t.Errorf("after the fault: %v", err)
	}
}

// TestHistoricalS3ForEver: a fault that stays is one error, which names the file, and harms nobody else. When it is over, the same call is answered.
func TestHistoricalS3ForEver(t *testing.T) {
	t.Parallel()
	w := newFaultyWorld(t)
	for name, c := range map[string]lasting{
		"expired credentials": {func(*faultyWorld) s3Rule {
			return after(faultyFiles+1, func(rw http.ResponseWriter) bool { return refuse(rw, http.StatusForbidden, "ExpiredToken") })
		}, codes.FailedPrecondition, []string{".parquet", "ExpiredToken", "credentials"}},
		"expired at once": {func(*faultyWorld) s3Rule {
			return func(rw http.ResponseWriter, _ *http.Request, _ int) bool {
				return refuse(rw, http.StatusForbidden, "AccessDenied")
			}
		}, codes.FailedPrecondition, []string{"access is denied", "credentials"}},
		"replaced": {func(w *faultyWorld) s3Rule {
			return after(faultyFiles, onceIn(func() { w.putTable(t, "price/2.parquet", priceFile("x", "y")) }))
		}, codes.Unavailable, []string{"price/2.parquet", "was replaced or removed after it was listed", "try again"}},
		"deleted": {func(w *faultyWorld) s3Rule {
			return after(faultyFiles, onceIn(func() { w.server.Delete(t, w.bucket, "price/2.parquet") }))
		}, codes.Unavailable, []string{"price/2.parquet", "was replaced or removed after it was listed", "try again"}},
	} {
		t.Run(name, func(t *testing.T) { c.check(t, w) })
	}
}

// TestHistoricalS3Overloaded: what is tried again is given up at last.
func TestHistoricalS3Overloaded(t *testing.T) {
	t.Parallel()
	c := lasting{func(*faultyWorld) s3Rule {
		return after(faultyFiles+1, func(rw http.ResponseWriter) bool { return refuse(rw, http.StatusServiceUnavailable, "SlowDown") })
	}, codes.Unavailable, []string{".parquet", "SlowDown"}}
	c.check(t, newFaultyWorld(t))
}

// TestHistoricalS3Gone: so are answers that break off.
func TestHistoricalS3Gone(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("TestHistoricalS3Overloaded takes the same path")
	}
	t.Parallel()
	c := lasting{func(*faultyWorld) s3Rule {
		return after(faultyFiles+1, func(http.ResponseWriter) bool { return abort() })
	}, codes.Unavailable, []string{".parquet"}}
	c.check(t, newFaultyWorld(t))
}

// TestHistoricalCorruptPage: of many files one has a damaged page. The error says where; other streams and online reads go on.
func TestHistoricalCorruptPage(t *testing.T) {
	t.Parallel()
	w := newFaultyWorld(t)
	whole := w.get(t, "price/1.parquet")
	// The columns lie one after the other, names last but for the footer.
	damaged := append([]byte(nil), whole...)
	for i := len(damaged) * 6 / 10; i < len(damaged)*6/10+64; i++ {
		damaged[i] ^= 0xff
	}
	w.put(t, "price/1.parquet", damaged)
	got, err := w.besides(t)
	t.Log(err)
	wantError(t, err, codes.DataLoss, "", w.url("price/1.parquet"), "row group 0", `column "name"`)
	if got.manifest != nil {
		t.Error("a manifest came")
	}
	// The same on the disk.
	path := filepath.Join(folderOf(t, w.env), "clicks.parquet")
	local, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4; i < 60; i++ {
		local[i] ^= 0xff
	}
	writeBytes(t, path, local)
	_, err = train(t.Context(), t, w.env.GRPCAddress, &header{Features: []string{"clicks:count"}}, w.rows...)
	t.Log(err)
	wantError(t, err, codes.DataLoss, "", "clicks.parquet", "row group 0", "column")
	w.put(t, "price/1.parquet", whole)
	if got, err = w.besides(t); err != nil || got.manifest.GetContentHash() != w.want.manifest.GetContentHash() {
		t.Errorf("after the damage: %v", err)
	}
}

// TestHistoricalFileReplacedOnDisk: between listing and reading, as the proxy's requests of another view tell the moment.
func TestHistoricalFileReplacedOnDisk(t *testing.T) {
	w := newFaultyWorld(t)
	path := filepath.Join(folderOf(t, w.env), "profile.parquet")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h := &header{Features: []string{"profile:name", "price:name"}}
	for name, change := range map[string]func() error{
		"removed":   func() error { return os.Remove(path) },
		"truncated": func() error { return os.Truncate(path, 100) },
		"replaced":  func() error { return os.WriteFile(path, whole[:len(whole)-1], 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			defer writeBytes(t, path, whole)
			var once sync.Once
			w.forget(t)
			w.set(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
				if isGet(r) {
					once.Do(func() {
						if err := change(); err != nil {
							t.Error(err)
						}
					})
				}
				return false
			})
			defer w.set(nil)
			got, err := train(t.Context(), t, w.env.GRPCAddress, h, w.rows...)
			if err == nil {
				// The file had been read by then.
				wantColumns(t, got.cells, map[string][]string{"profile:name": w.wantLocal.cells["profile:name"], "price:name": w.want.cells["price:name"]})
				return
			}
			t.Log(err)
			if code := status.Code(err); code != codes.Unavailable && code != codes.FailedPrecondition || !strings.Contains(err.Error(), "profile.parquet") {
				t.Errorf("got %v", err)
			}
		})
	}
}
