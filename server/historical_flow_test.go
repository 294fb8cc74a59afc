package server_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
)

// largeWorld is a server with little memory for training sets, of which one large call gets half, and price in S3.
type largeWorld struct {
	*s3World
	env    *servertest.Env
	temp   string
	header *header
	rows   []*twofoldv1.GetHistoricalFeaturesRequest
	// want is the manifest of the whole, requests how many it takes.
	want     *twofoldv1.HistoricalManifest
	requests int
}

// littleMemory is the least that a server takes.
const littleMemory = 64 << 20

func newLargeWorld(t *testing.T) *largeWorld {
	t.Helper()
	w := &largeWorld{s3World: newS3World(t), temp: t.TempDir(), header: &header{Features: []string{"price:name", "price:amount"}, Format: twofoldv1.HistoricalFormat_HISTORICAL_FORMAT_ARROW_IPC}}
	for file := range 2 {
		w.putTable(t, fmt.Sprintf("price/%d.parquet", file), manyPrices(file*20_000, 20_000))
	}
	w.env = start(t, func(c *servertest.Config) {
		c.Definitions, c.Offline.S3 = edit(t, "path: price.parquet", "path: "+w.url("price")), w.config
		c.Change = func(o *server.Options) { o.TrainingMemory, o.TempDir = littleMemory, w.temp }
	})
	w.rows = manyEntities(30, 5000)
	w.set(nil)
	stream, _, done := w.begin(t, w.header)
	defer done()
	w.want = drain(t, stream)
	w.requests = len(w.seen("/price/"))
	return w
}

// manyPrices are rows of price: of the items from first on, one each.
func manyPrices(first, rows int) *servertest.Table {
	items, at, amounts, names := feature.NewColumn(feature.String, rows), feature.NewColumn(feature.Timestamp, rows), feature.NewColumn(feature.Double, rows), feature.NewColumn(feature.String, rows)
	for i := range rows {
		items.AppendString(fmt.Sprint("i", first+i))
		at.AppendInt64(ago(time.Duration(i) * time.Second))
		amounts.AppendDouble(math.Sqrt(float64(first + i)))
		names.AppendString(fmt.Sprintf("%x", (first+i)*7919))
	}
	return &servertest.Table{Names: []string{"item_id", "at", "amount", "name"}, Columns: []*feature.Column{items, at, amounts, names}}
}

// manyEntities are chunks of entity rows, with a label that is wide.
func manyEntities(chunks, rows int) (all []*twofoldv1.GetHistoricalFeaturesRequest) {
	for c := range chunks {
		items, labels, times := make([]string, rows), make([]string, rows), make([]time.Time, rows)
		for i := range rows {
			items[i], labels[i], times[i] = fmt.Sprint("i", (c*rows+i)*31%50_000), fmt.Sprintf("%0150d", c*rows+i), now
		}
		all = append(all, columnChunk(client.Strings("item_id", items...), client.Strings("label", labels...), client.Timestamps("event_timestamp", times...)))
	}
	return all
}

// begin makes a call and sends its rows; nothing of the answer is read.
func (w *largeWorld) begin(t *testing.T, h *header) (stream rawHistorical, cancel func(), done func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, closeConn, err := openHistorical(ctx, w.env.GRPCAddress, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range w.rows {
		send(t, stream, m)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	return stream, cancel, func() { cancel(); closeConn() }
}

// untilBatch reads up to the first batch.
func untilBatch(t *testing.T, stream rawHistorical) {
	t.Helper()
	for {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.GetBatch() != nil {
			return
		}
	}
}

// drain reads a stream to its end and keeps only the manifest.
func drain(t *testing.T, stream rawHistorical) (manifest *twofoldv1.HistoricalManifest) {
	t.Helper()
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		manifest = m.GetManifest()
	}
	if manifest == nil {
		t.Fatal("no manifest")
	}
	return manifest
}

// settled waits until a count has not changed for a while, and gives it.
func settled(t *testing.T, what string, count func() int) int {
	t.Helper()
	last, same := -1, 0
	await(t, what, func() bool {
		n := count()
		if same++; n != last {
			last, same = n, 0
		}
		return same >= 150
	})
	return last
}

// filesOpenBelow counts this process's open files below a folder, those without a name too.
func filesOpenBelow(folder string) (n int) {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // not on this system
	}
	for _, entry := range open {
		if target, err := os.Readlink(filepath.Join("/proc/self/fd", entry.Name())); err == nil && strings.HasPrefix(target, folder) {
			n++
		}
	}
	return n
}

// isFree reports whether nothing of any historical call is left.
func (w *largeWorld) isFree(t *testing.T) bool {
	t.Helper()
	return inFlight(t, w.env) == "0" && metric(t, w.env, "twofold_training_memory_bytes") == "0" && filesOpenBelow(w.temp) == 0 && len(filesBelow(t, w.temp)) == 0 &&
		!goroutinesOf("(*historicalCall)") && !goroutinesOf("internal/training.") && !goroutinesOf("internal/pit.") && !goroutinesOf("offline.(*fetcher)")
}

// inPhase is the number of calls in a phase.
func inPhase(t *testing.T, env *servertest.Env, phase string) string {
	t.Helper()
	return metric(t, env, fmt.Sprintf("twofold_training_calls{phase=%q}", phase))
}

// TestHistoricalSlowReader: a client that reads nothing stops the scan; what it has not read takes no more than its share of memory, and others are answered.
func TestHistoricalSlowReader(t *testing.T) {
	w := newLargeWorld(t)
	w.set(nil)
	stream, _, done := w.begin(t, w.header)
	defer done()
	untilBatch(t, stream)
	requests := settled(t, "the scan to stop", func() int { return len(w.seen("/price/")) })
	t.Logf("%d requests of %d", requests, w.requests)
	if requests > w.requests/2 {
		t.Errorf("%d requests were made for a client that reads nothing, of %d in all", requests, w.requests)
	}
	if inPhase(t, w.env, "sending") != "1" || metric(t, w.env, "twofold_training_memory_bytes") == "0" {
		t.Error("the call does not wait for its client")
	}
	mustTrain(t, w.env, trainingHeader(), tableChunks(t, entityRows(), 2)...)
	if again := settled(t, "the scan to stay", func() int { return len(w.seen("/price/")) }); again != requests {
		t.Errorf("%d requests more", again-requests)
	}
	if got := drain(t, stream); got.GetContentHash() != w.want.GetContentHash() || got.GetRowCount() != 150_000 {
		t.Errorf("%v", got)
	}
	await(t, "everything to be given back", func() bool { return w.isFree(t) })
}

// TestHistoricalCancelFrees: at whatever moment a call is cancelled, nothing of it is left.
func TestHistoricalCancelFrees(t *testing.T) {
	w := newLargeWorld(t)
	blocked := make(chan struct{}, 1000)
	var gets atomic.Int64
	block := func(wanted func(r *http.Request) bool) s3Rule {
		return func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if wanted(r) {
				blocked <- struct{}{}
				<-r.Context().Done()
				return true
			}
			return false
		}
	}
	for name, c := range map[string]struct {
		rule  s3Rule
		until func(t *testing.T, stream rawHistorical)
	}{
		"while entity rows come": {nil, func(t *testing.T, _ rawHistorical) {
			await(t, "entity rows to come", func() bool { return inPhase(t, w.env, "reading_entities") == "1" })
		}},
		"while files are listed": {block(func(r *http.Request) bool { return r.URL.Query().Has("list-type") }), func(*testing.T, rawHistorical) { <-blocked }},
		"while files are read":   {block(func(r *http.Request) bool { return isGet(r) && gets.Add(1) > 1 }), func(*testing.T, rawHistorical) { <-blocked }},
		"while it is sent":       {nil, untilBatch},
		"in a later part": {nil, func(t *testing.T, stream rawHistorical) {
			for range 15 {
				untilBatch(t, stream)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w.set(c.rule)
			var stream rawHistorical
			var cancel, done func()
			if strings.HasSuffix(name, "come") {
				ctx, stop := context.WithCancel(t.Context())
				var err error
				if stream, done, err = openHistorical(ctx, w.env.GRPCAddress, w.header); err != nil {
					t.Fatal(err)
				}
				cancel = stop
				for _, m := range w.rows[:20] {
					send(t, stream, m)
				}
			} else {
				stream, cancel, done = w.begin(t, w.header)
			}
			defer done()
			c.until(t, stream)
			at := time.Now()
			cancel()
			await(t, "everything to be given back", func() bool { return w.isFree(t) })
			t.Logf("after %v", time.Since(at))
			w.set(nil)
			for len(blocked) > 0 {
				<-blocked
			}
		})
	}
	// All memory is there: two large calls at once.
	first, _, done1 := w.begin(t, w.header)
	defer done1()
	second, _, done2 := w.begin(t, w.header)
	defer done2()
	untilBatch(t, second)
	untilBatch(t, first)
	if drain(t, first).GetContentHash() != w.want.GetContentHash() || drain(t, second).GetContentHash() != w.want.GetContentHash() {
		t.Error("another hash")
	}
}

// TestHistoricalWaitsForMemory: a call for which there is no memory says so, and goes on once there is.
func TestHistoricalWaitsForMemory(t *testing.T) {
	w := newLargeWorld(t)
	first, cancelFirst, done1 := w.begin(t, w.header)
	defer done1()
	second, _, done2 := w.begin(t, w.header)
	defer done2()
	untilBatch(t, first)
	untilBatch(t, second)
	h := &header{Features: w.header.GetFeatures(), ProgressInterval: durationpb.New(100 * time.Millisecond)}
	third, _, done3 := w.begin(t, h)
	defer done3()
	got := &trained{cells: map[string][]string{}}
	waiting := func() bool {
		return slices.ContainsFunc(got.progress, func(p *twofoldv1.HistoricalProgress) bool {
			return p.GetPhase() == twofoldv1.HistoricalProgress_PHASE_WAITING_FOR_MEMORY
		})
	}
	for !waiting() {
		m, err := third.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got.take(t, m)
	}
	if inPhase(t, w.env, "waiting_for_memory") != "1" || inPhase(t, w.env, "sending") != "2" {
		t.Error("the metrics know of no call that waits")
	}
	cancelFirst()
	for got.manifest == nil {
		m, err := third.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got.take(t, m)
	}
	if got.manifest.GetContentHash() != w.want.GetContentHash() {
		t.Error("another hash")
	}
	checkProgress(t, got.progress)
	if drain(t, second).GetContentHash() != w.want.GetContentHash() {
		t.Error("another hash for the one that did not wait")
	}
	_, err := first.Recv()
	for err == nil {
		_, err = first.Recv()
	}
	wantError(t, err, codes.Canceled, "")
}

// TestHistoricalProgress: it comes while entity rows are sent, while files are read and until the manifest; and only where it is asked for.
func TestHistoricalProgress(t *testing.T) {
	w := newLargeWorld(t)
	release := make(chan struct{})
	var gets atomic.Int64
	w.set(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if isGet(r) && gets.Add(1) == 3 {
			<-release
		}
		return false
	})
	h := &header{Features: w.header.GetFeatures(), Format: w.header.GetFormat(), ProgressInterval: durationpb.New(100 * time.Millisecond)}
	stream, done, err := openHistorical(t.Context(), w.env.GRPCAddress, h)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	got := &trained{cells: map[string][]string{}}
	until := func(ok func(*twofoldv1.HistoricalProgress) bool) {
		t.Helper()
		for len(got.progress) == 0 || !ok(got.progress[len(got.progress)-1]) {
			m, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			got.take(t, m)
		}
	}
	for _, m := range w.rows[:10] {
		send(t, stream, m)
	}
	until(func(p *twofoldv1.HistoricalProgress) bool {
		return p.GetPhase() == twofoldv1.HistoricalProgress_PHASE_READING_ENTITIES && p.GetEntityRows() == 50_000
	})
	for _, m := range w.rows[10:] {
		send(t, stream, m)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	until(func(p *twofoldv1.HistoricalProgress) bool {
		return p.GetPhase() > twofoldv1.HistoricalProgress_PHASE_WAITING_FOR_MEMORY && p.GetEntityRows() == 150_000
	})
	close(release)
	for got.manifest == nil {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got.take(t, m)
	}
	checkProgress(t, got.progress)
	scans := func(p *twofoldv1.HistoricalProgress) bool { return p.GetParts() > 1 && p.GetFeatureRows() == 40_000 }
	if !slices.ContainsFunc(got.progress, scans) {
		t.Errorf("none of %d messages tells of one part of several with its 40,000 feature rows", len(got.progress))
	}
	quiet := mustTrain(t, w.env, trainingHeader(), tableChunks(t, entityRows(), 2)...)
	if len(quiet.progress) > 0 {
		t.Errorf("nobody asked for %v", quiet.progress)
	}
}

// checkProgress checks that nothing goes back but where a new part begins.
func checkProgress(t *testing.T, all []*twofoldv1.HistoricalProgress) {
	t.Helper()
	for i, p := range all {
		if p.GetPhase() == twofoldv1.HistoricalProgress_PHASE_UNSPECIFIED || p.GetRowsScanned() > p.GetFeatureRows() || p.GetRowsDone() > p.GetEntityRows() || p.GetPart() > p.GetParts() {
			t.Errorf("message %d contradicts itself: %v", i, p)
		}
		if i == 0 {
			continue
		}
		before := all[i-1]
		same := p.GetPart() == before.GetPart()
		if p.GetPart() < before.GetPart() || p.GetRowsDone() < before.GetRowsDone() || p.GetEntityRows() < before.GetEntityRows() ||
			same && (p.GetPhase() < before.GetPhase() || p.GetRowsScanned() < before.GetRowsScanned() || p.GetRowsMatched() < before.GetRowsMatched()) {
			t.Errorf("message %d goes back:\n%v\nafter\n%v", i, p, before)
		}
	}
	t.Logf("%d messages, from %v to %v", len(all), all[0], all[len(all)-1])
}
