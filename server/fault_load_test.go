package server_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online/breaker"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

const (
	// stocks are the entities that are there: 0 to stocks-1.
	stocks = 200
	// deadline is that of most requests. Nothing is said of it but that answers come: see lateAfter.
	deadline = 300 * time.Millisecond
	// lateAfter is how long a request with a deadline may take at most, on a machine that does many other things at once.
	lateAfter = deadline + 5*time.Second
	// patientLateAfter is the same for requests without a deadline: what the store may take, twice, and as much again.
	patientLateAfter = 15 * time.Second
)

const stockDefinitions = `
entities: [{name: stock, keys: [{name: stock_id, type: INT64}]}]
feature_views:
  - name: quote
    entity: stock
    source: {path: quote.parquet, event_time_column: at}
    features: [{name: price, type: DOUBLE}, {name: name, type: STRING}]
  - name: tick
    entity: stock
    source: {path: tick.parquet, event_time_column: at}
    sync: {enabled: false}
    features: [{name: last, type: INT64}]
`

func priceOf(stock int64) float64 { return 1000 + float64(stock)/4 }
func nameOf(stock int64) string   { return fmt.Sprintf("stock %d", stock) }
func lastOf(stock int64) int64    { return 7 * stock }

// market is a server on a Redis that gets sick. Its store is behind a breaker, as that of `twofold serve`.
type market struct {
	*servertest.Env
	t       *testing.T
	breaker *breaker.Breaker
}

// openMarket starts a server. The store behind it may be sick already.
func openMarket(t *testing.T, url string) *market {
	t.Helper()
	dir := t.TempDir()
	table := new(servertest.Table)
	ids, times, prices, names := make([]any, stocks), make([]any, stocks), make([]any, stocks), make([]any, stocks)
	for i := range stocks {
		ids[i], times[i], prices[i], names[i] = i, ago(time.Hour), priceOf(int64(i)), nameOf(int64(i))
	}
	table.Add("stock_id", feature.Int64, ids...).Add("at", feature.Timestamp, times...).Add("price", feature.Double, prices...).Add("name", feature.String, names...).
		WriteParquet(t, filepath.Join(dir, "quote.parquet"))
	b := breaker.New(breaker.Options{})
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(b)
	env := servertest.Start(t, servertest.Config{
		Definitions: stockDefinitions, Offline: offline.Config{Path: dir}, Online: guardedRedis(t, b, url),
		Now: func() time.Time { return now }, Change: func(o *server.Options) { o.Metrics = metrics },
	})
	return &market{Env: env, t: t, breaker: b}
}

// guardedRedis opens a store as `twofold serve` does.
func guardedRedis(t *testing.T, b *breaker.Breaker, url string) driver.Driver {
	t.Helper()
	s, err := redisstore.Open(redisstore.Options{URL: url, GuardNode: func(node string) redisstore.Guard { return b.Gate(node).Do }})
	if err != nil {
		t.Fatal(err)
	}
	if s.IsCluster() {
		return s
	}
	return b.Driver(s, s.String())
}

// fill stores all rows.
func (m *market) fill() {
	m.t.Helper()
	if err := m.tryFill(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *market) tryFill() error {
	all := make([]int64, stocks)
	for i := range all {
		all[i] = int64(i)
	}
	_, pushErr := m.push(m.t.Context(), ago(time.Hour), all...)
	_, err := m.Syncer.RunOnce(m.t.Context(), syncer.Request{})
	return errors.Join(err, pushErr)
}

// push writes the ticks of some stocks, the same values as ever.
func (m *market) push(ctx context.Context, at int64, ids ...int64) (*twofoldv1.PushFeaturesResponse, error) {
	times, last := make([]time.Time, len(ids)), make([]int64, len(ids))
	for i, id := range ids {
		times[i], last[i] = time.UnixMicro(at), lastOf(id)
	}
	return m.Client.Push(ctx, &twofoldv1.PushFeaturesRequest{FeatureView: "tick", Columns: []*twofoldv1.Column{
		client.Int64s("stock_id", ids...), client.Timestamps("event_timestamp", times...), client.Int64s("last", last...),
	}})
}

// metric returns the value of a metric of the breaker.
func (m *market) metric(name string) float64 {
	m.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.breaker)
	families, err := registry.Gather()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "twofold_online_store_breaker_"+name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	m.t.Fatalf("no metric %s", name)
	return 0
}

// load is what a load asks for.
type load struct {
	// clients ask one request after the other: two of every four by calls of their own, one over a stream, one without a deadline. Defaults to 8.
	clients int
	// of are the stocks that are asked for. Defaults to all, and some that are not there.
	of []int64
	// writes has one client more push.
	writes bool
	// synced asks for the view only that is synced: one that nobody syncs is empty without a word when its rows are lost.
	synced bool
}

// running is a load that runs, and what came of it.
type running struct {
	m    *market
	load load
	stop context.CancelFunc
	wg   sync.WaitGroup
	// losses counts how often the store began to lose its data, and seen how often the server was seen to know: a row may be NOT_FOUND in an
	// answer to a request that was asked before the server knew.
	losses, seen atomic.Int64

	good, partial, unavailable, late, pushed, unpushed atomic.Int64 // answers: all values right, some unavailable, UNAVAILABLE, DEADLINE_EXCEEDED

	mu    sync.Mutex
	wrong []string
	last  error // of a request
	ended sync.Once
}

// start begins a load, which ends with the test at the latest.
func (m *market) start(l load) *running {
	m.t.Helper()
	if l.clients == 0 {
		l.clients = 8
	}
	if l.of == nil {
		for i := range int64(stocks + stocks/10) {
			l.of = append(l.of, i)
		}
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	r := &running{m: m, load: l, stop: cancel}
	seed := rand.Uint64()
	m.t.Logf("seed of the load %d", seed)
	for i := range l.clients {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		r.wg.Go(func() { r.client(ctx, i, random) })
	}
	if l.writes {
		random := rand.New(rand.NewPCG(seed, 1<<32))
		r.wg.Go(func() { r.writer(ctx, random) })
	}
	m.t.Cleanup(r.end)
	return r
}

// end stops the load and reports what was wrong.
func (r *running) end() {
	r.m.t.Helper()
	r.ended.Do(func() {
		r.stop()
		r.wg.Wait()
		for i, text := range r.wrong {
			if i == 10 {
				r.m.t.Errorf("and %d more", len(r.wrong)-i)
				break
			}
			r.m.t.Error(text)
		}
		r.m.t.Logf("%s", r)
	})
}

// String says what was answered.
func (r *running) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%d good, %d partial, %d UNAVAILABLE, %d DEADLINE_EXCEEDED; %d pushed, %d not; the last error: %v",
		r.good.Load(), r.partial.Load(), r.unavailable.Load(), r.late.Load(), r.pushed.Load(), r.unpushed.Load(), r.last)
}

func (r *running) isWrong(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// client asks until ctx is done.
func (r *running) client(ctx context.Context, number int, random *rand.Rand) {
	online, limit, allowed := r.m.Client.Online, deadline, lateAfter
	switch number % 4 {
	case 2:
		stream := r.m.Client.OnlineStream(ctx)
		defer func() { _ = stream.Close() }() // its requests have had their answers
		online = stream.Online
	case 3:
		limit, allowed = time.Hour, patientLateAfter
	}
	for ctx.Err() == nil {
		req := r.request(random)
		asked, seen := time.Now(), r.seen.Load()
		limited, cancel := context.WithTimeout(ctx, limit)
		resp, err := online(limited, req)
		cancel()
		took := time.Since(asked)
		if ctx.Err() != nil {
			return
		}
		if took > allowed {
			r.isWrong("a request with a deadline of %v took %v: %v", limit, took, err)
		}
		if err != nil {
			r.checkError(err)
			pause(ctx, time.Duration(random.IntN(20))*time.Millisecond)
			continue
		}
		r.checkAnswer(req, resp, r.losses.Load() > seen)
		pause(ctx, time.Duration(random.IntN(4))*time.Millisecond)
	}
}

// pause lets other tests have the machine too; no test relies on how long it takes.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (r *running) request(random *rand.Rand) *twofoldv1.GetOnlineFeaturesRequest {
	ids := make([]int64, 1+random.IntN(20))
	for i := range ids {
		ids[i] = r.load.of[random.IntN(len(r.load.of))]
	}
	features := [][]string{{"quote:price", "tick:last", "quote:name"}, {"quote:name", "quote:price"}, {"tick:last"}}[random.IntN(3)]
	if r.load.synced {
		features = []string{"quote:name", "quote:price"}
	}
	return &twofoldv1.GetOnlineFeaturesRequest{
		Features: features, Entities: []*twofoldv1.Column{client.Int64s("stock_id", ids...)}, AllowPartial: random.IntN(2) == 0,
	}
}

// checkError: an error says that the store is not available and when to try again, or that the deadline passed.
func (r *running) checkError(err error) {
	r.mu.Lock()
	r.last = err
	r.mu.Unlock()
	switch st := status.Convert(err); st.Code() {
	case codes.Unavailable:
		r.unavailable.Add(1)
		if retryDelayOf(st) <= 0 {
			r.isWrong("without RetryInfo: %v", err)
		}
	case codes.DeadlineExceeded:
		r.late.Add(1)
	default:
		r.isWrong("a request got %v", err)
	}
}

// retryDelayOf is when the caller is told to try again; 0 where it is not told.
func retryDelayOf(st *status.Status) time.Duration {
	for _, d := range st.Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			return retry.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// checkAnswer: every value is right, or known not to be known.
func (r *running) checkAnswer(req *twofoldv1.GetOnlineFeaturesRequest, resp *twofoldv1.GetOnlineFeaturesResponse, mayBeEmpty bool) {
	ids := req.GetEntities()[0].GetInt64S().GetValues()
	unread := map[string]bool{} // views with values that could not be read
	for _, name := range req.GetFeatures() {
		c := client.Find(resp.GetColumns(), name)
		for row, id := range ids {
			switch s := client.Status(c, row); {
			case s == twofoldv1.ValueStatus_VALUE_STATUS_UNAVAILABLE && req.GetAllowPartial():
				view, _, _ := strings.Cut(name, ":")
				unread[view] = true
			case s == twofoldv1.ValueStatus_VALUE_STATUS_NOT_FOUND && (id >= stocks || mayBeEmpty):
			case s == twofoldv1.ValueStatus_VALUE_STATUS_PRESENT && id < stocks && isRight(name, c, row, id):
			default:
				r.isWrong("%s of stock %d is %v %v", name, id, s, c)
				return
			}
		}
	}
	faults := client.Faults(resp)
	for view := range faults {
		if !unread[view] {
			r.isWrong("view %s has a fault, and all its values are known", view)
		}
	}
	if len(faults) != len(unread) {
		r.isWrong("faults of %d views, values unknown of %d", len(faults), len(unread))
	}
	for view, err := range faults {
		if st := status.Convert(err); st.Code() != codes.Unavailable || retryDelayOf(st) <= 0 {
			r.isWrong("view %s could not be read: %v", view, err)
		}
	}
	if len(unread) > 0 {
		r.partial.Add(1)
	} else {
		r.good.Add(1)
	}
}

// isRight reports whether a value that is there is the right one.
func isRight(name string, c *twofoldv1.Column, row int, id int64) bool {
	switch name {
	case "quote:price":
		v, ok := client.Double(c, row)
		return ok && v == priceOf(id)
	case "quote:name":
		v, ok := client.String(c, row)
		return ok && v == nameOf(id)
	default:
		v, ok := client.Int64(c, row)
		return ok && v == lastOf(id)
	}
}

// writer pushes until ctx is done.
func (r *running) writer(ctx context.Context, random *rand.Rand) {
	for at := ago(30 * time.Minute); ctx.Err() == nil; at++ {
		ids := []int64{random.Int64N(stocks), random.Int64N(stocks)}
		limited, cancel := context.WithTimeout(ctx, deadline)
		_, err := r.m.push(limited, at, slices.Compact(ids)...)
		cancel()
		switch st := status.Convert(err); {
		case ctx.Err() != nil:
		case err == nil:
			r.pushed.Add(1)
		case st.Code() == codes.DeadlineExceeded || (st.Code() == codes.Unavailable && retryDelayOf(st) > 0):
			r.unpushed.Add(1)
		default:
			r.isWrong("a push got %v", err)
		}
		pause(ctx, 5*time.Millisecond)
	}
}

// well waits until many requests in a row get all values.
func (r *running) well(when string) {
	r.m.t.Helper()
	failures := func() int64 { return r.partial.Load() + r.unavailable.Load() + r.late.Load() + r.unpushed.Load() }
	good, pushed, failed := r.good.Load(), r.pushed.Load(), failures()
	r.await("requests succeed "+when, func() bool {
		if n := failures(); n != failed {
			good, pushed, failed = r.good.Load(), r.pushed.Load(), n
		}
		return r.good.Load()-good >= int64(10*r.load.clients) && (!r.load.writes || r.pushed.Load()-pushed >= 5)
	})
}

// failing waits until requests fail, more than those that are under way.
func (r *running) failing(when string) {
	r.m.t.Helper()
	failed := r.unavailable.Load() + r.late.Load()
	r.await("requests fail "+when, func() bool { return r.unavailable.Load()+r.late.Load()-failed >= int64(2*r.load.clients) })
}

// shed waits until the breaker has opened and requests fail at once.
func (r *running) shed(when string) {
	r.m.t.Helper()
	rejected := r.m.metric("rejected_total")
	r.await("the breaker is open "+when, func() bool {
		return r.m.metric("rejected_total")-rejected >= float64(r.load.clients) && r.m.metric("state") > 0
	})
}

// await is await, and gives up as soon as something was wrong.
func (r *running) await(what string, ok func() bool) {
	r.m.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(40 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-patience:
			r.m.t.Fatalf("waited in vain: %s; %s", what, r)
		}
		r.mu.Lock()
		wrong := len(r.wrong) > 0
		r.mu.Unlock()
		if wrong {
			r.m.t.FailNow() // end says what
		}
	}
}

// ready reports whether the server says that it can answer, and if not, why.
func (m *market) ready() (bool, string) {
	code, body := get(m.t, m.Env, "/readyz")
	return code == 200, body
}

// anyRequest is a request of this load.
func (r *running) anyRequest() *twofoldv1.GetOnlineFeaturesRequest {
	return r.request(rand.New(rand.NewPCG(1, 1)))
}

// fillWhenThere stores all rows as soon as the store takes them.
func (m *market) fillWhenThere() {
	m.t.Helper()
	await(m.t, "the store takes rows", func() bool { return m.tryFill() == nil })
}
