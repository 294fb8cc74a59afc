package server_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/hotcache"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server/servertest"
)

// jumpyClock goes on by a step at each reading, so that a request that read it twice would contradict itself.
type jumpyClock struct{ micros, step atomic.Int64 }

func (c *jumpyClock) now() time.Time { return time.UnixMicro(c.micros.Add(c.step.Load())) }

// oracle is a server and what it must answer.
type oracle struct {
	*world
	r     *rand.Rand
	env   *servertest.Env
	clock *jumpyClock
	tally *tally
}

// tally counts what was compared, so that a test that compares little is noticed.
type tally struct {
	values           [feature.Unavailable + 1]atomic.Int64 // by status
	expired, refused atomic.Int64                          // values of expired rows; requests with short names that clash
}

func (n *tally) tell(t *testing.T) {
	t.Helper()
	t.Logf("compared: %d PRESENT, %d NULL, %d NOT_FOUND, %d EXPIRED of which %d with their values; %d requests were refused", n.values[feature.Present].Load(),
		n.values[feature.Null].Load(), n.values[feature.NotFound].Load(), n.values[feature.Expired].Load(), n.expired.Load(), n.refused.Load())
}

func (n *tally) check(t *testing.T) {
	t.Helper()
	for _, s := range []feature.Status{feature.Present, feature.Null, feature.NotFound, feature.Expired} {
		if n.values[s].Load() < 1000 {
			t.Errorf("%d values of status %v are few", n.values[s].Load(), s)
		}
	}
	if n.expired.Load() == 0 || n.refused.Load() == 0 {
		t.Error("no values of expired rows, or no request that is refused")
	}
}

// TestOnlineOracle: whatever the definitions, the rows and the requests, many requests at once by calls and streams: every value, status, event time
// and ttl is that of a model which has nothing in common with the server.
func TestOnlineOracle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	worlds := map[string]int{"memory": 7, "cached": 2, "redis": 3}
	few := testing.Short() || raceEnabled
	if few {
		worlds = map[string]int{"memory": 2, "cached": 1, "redis": 1}
	}
	var redis *testenv.RedisServer
	open := map[string]func(t *testing.T, i int) driver.Driver{
		"memory": func(t *testing.T, _ int) driver.Driver { return servertest.Memory(t) },
		"cached": func(t *testing.T, _ int) driver.Driver {
			return hotcache.New(servertest.Memory(t), hotcache.Options{MaxBytes: 1 << 20, MaxStaleness: time.Minute})
		},
		"redis": func(t *testing.T, i int) driver.Driver {
			store, err := redisstore.Open(redisstore.Options{URL: redis.URL, Prefix: fmt.Sprint("w", i)})
			if err != nil {
				t.Fatal(err)
			}
			return store
		},
	}
	var compared tally
	for _, name := range []string{"memory", "cached", "redis"} {
		t.Run(name, func(t *testing.T) {
			if name == "redis" {
				redis = testenv.Redis(t)
			}
			for i := range worlds[name] {
				t.Run(fmt.Sprint(i), func(t *testing.T) {
					runOracle(t, rand.New(rand.NewPCG(seed, uint64(i))), open[name](t, i), &compared)
				})
			}
		})
	}
	if compared.tell(t); !few { // so few worlds need not have everything
		compared.check(t)
	}
}

func runOracle(t *testing.T, r *rand.Rand, store driver.Driver, compared *tally) {
	t.Helper()
	o := &oracle{world: newWorld(r), r: r, clock: &jumpyClock{}, tally: compared}
	o.clock.micros.Store(now.UnixMicro())
	yaml := o.yaml()
	o.env = servertest.Start(t, servertest.Config{Definitions: yaml, Online: store, Now: o.clock.now})
	for phase := range 4 {
		for _, v := range o.views {
			for range 1 + r.IntN(2) {
				o.push(t, v)
			}
		}
		o.clock.step.Store(pick[int64](r, 0, 1, 1000, 250_000))
		o.askAtOnce(t, 6, 16)
		o.clock.step.Store(0)
		if t.Failed() {
			t.Fatalf("phase %d of these definitions:\n%s", phase, yaml)
		}
		o.clock.micros.Add(pick[int64](r, 1, int64(10*time.Minute/time.Microsecond), int64(time.Hour/time.Microsecond)))
	}
}

// eventTime is a time at which a row may have become true: fresh, from a little ahead, expired, just about to expire, too old to be kept.
func (o *oracle) eventTime(v *worldView, now int64) int64 {
	if v.ttl == 0 {
		return pick(o.r, now, now-o.r.Int64N(1e12), now+o.r.Int64N(200e6), 0, -1, math.MinInt64, now-5)
	}
	ttl, keep := v.ttl.Microseconds(), (v.ttl + v.retain).Microseconds()
	times := []int64{
		now, now + o.r.Int64N(200e6), now - o.r.Int64N(ttl), now - ttl, now - ttl - 1, now - ttl + 1, now - ttl + o.r.Int64N(30e6),
		// What is nearly too old to be kept may be gone before the test is over.
		now - ttl - o.r.Int64N(keep-ttl-600e6),
	}
	if v.versions == 0 {
		times = append(times, now-keep-1, now-2*keep)
	}
	return pick(o.r, times...)
}

// push writes random rows to the server and to the model.
func (o *oracle) push(t *testing.T, v *worldView) {
	t.Helper()
	at := o.clock.micros.Load()
	n := o.r.IntN(60)
	keys := make([][]any, len(v.entity.keys))
	features := map[string][]any{}
	var events, created []any
	req := &twofoldv1.PushFeaturesRequest{FeatureView: v.name, EventTimeColumn: "when", Tombstones: make([]bool, n)}
	var want outcomes
	for i := range n {
		row := worldRow{event: o.eventTime(v, at), created: pick[int64](o.r, 0, 1, 2), tombstone: o.r.IntN(8) == 0, values: map[string]any{}}
		if last, ok := lastRow(events, created); ok && o.r.IntN(6) == 0 {
			row.event, row.created = last[0], last[1]
		}
		var own []any
		for k, key := range v.entity.keys {
			value := pick(o.r, o.pool[key.Name]...)
			own, keys[k] = append(own, value), append(keys[k], value)
		}
		for _, f := range v.features {
			if f.online {
				row.values[f.name] = randomValue(o.r, f.t)
				features[f.name] = append(features[f.name], row.values[f.name])
			}
		}
		events, created, req.Tombstones[i] = append(events, row.event), append(created, row.created), row.tombstone
		v.push(entityKey(own), row, at, &want)
	}
	for k, key := range v.entity.keys {
		req.Columns = append(req.Columns, column(key.Name, key.Type, keys[k]...))
	}
	req.Columns = append(req.Columns, column("when", feature.Timestamp, events...), column("written", feature.Timestamp, created...))
	req.CreatedTimeColumn = "written"
	for _, f := range v.features {
		if f.online {
			req.Columns = append(req.Columns, column(f.name, f.t, features[f.name]...))
		}
	}
	o.r.Shuffle(len(req.Columns), func(i, j int) { req.Columns[i], req.Columns[j] = req.Columns[j], req.Columns[i] })
	resp, err := o.env.Client.Push(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	got := outcomes{resp.GetRowsWritten(), resp.GetRowsOlder(), resp.GetRowsUnchanged(), resp.GetRowsExpired()}
	if v.versions > 0 { // which rows are kept beside the newest is not modelled here
		want, got = outcomes{written: uint64(n)}, outcomes{written: got.written + got.older + got.unchanged, expired: got.expired}
	}
	if got != want {
		t.Errorf("push of %d rows of %s: %+v, want %+v", n, v.name, got, want)
	}
}

func lastRow(events, created []any) ([2]int64, bool) {
	if len(events) == 0 {
		return [2]int64{}, false
	}
	return [2]int64{events[len(events)-1].(int64), created[len(created)-1].(int64)}, true
}

// onlineCall asks by a call of its own or over a stream.
type onlineCall func(context.Context, *twofoldv1.GetOnlineFeaturesRequest) (*twofoldv1.GetOnlineFeaturesResponse, error)

// askAtOnce lets callers ask at once: calls, streams of their own, and one stream that they share.
func (o *oracle) askAtOnce(t *testing.T, callers, requests int) {
	t.Helper()
	shared := o.env.Client.OnlineStream(t.Context())
	var asking sync.WaitGroup
	for i := range callers {
		r := rand.New(rand.NewPCG(o.r.Uint64(), uint64(i)))
		own := o.env.Client.OnlineStream(t.Context())
		call := []onlineCall{o.env.Client.Online, shared.Online, own.Online}[i%3]
		asking.Go(func() {
			for range requests {
				if problem := o.ask(t.Context(), r, call); problem != "" {
					t.Error(problem)
					return
				}
			}
			if err := own.Close(); err != nil {
				t.Errorf("the caller's stream: %v", err)
			}
		})
	}
	asking.Wait()
	if err := shared.Close(); err != nil {
		t.Errorf("the shared stream: %v", err)
	}
}

// asked is a request and what it selects.
type asked struct {
	req     *twofoldv1.GetOnlineFeaturesRequest
	columns []askedColumn
	views   []*worldView // in the order in which the columns first name them
	keys    map[string][]any
	rows    int
	refused bool // because of short names
}

type askedColumn struct {
	name string
	view *worldView
	f    worldFeature
}

// ask makes a request up, asks it, and says what is wrong with the answer.
func (o *oracle) ask(ctx context.Context, r *rand.Rand, call onlineCall) string {
	a := o.request(r)
	sent := proto.CloneOf(a.req)
	before := o.clock.micros.Load()
	resp, err := call(ctx, a.req)
	after := o.clock.micros.Load()
	var problem string
	switch {
	case a.refused:
		problem = wrongError(err, codes.InvalidArgument, "short_names")
		o.tally.refused.Add(1)
	case err != nil:
		problem = err.Error()
	case resp.GetAsOfMicros() < before || resp.GetAsOfMicros() > after:
		problem = fmt.Sprintf("as of %d, which is not between %d and %d", resp.GetAsOfMicros(), before, after)
	default:
		problem = a.wrongAnswer(sent, resp, o.tally)
	}
	if problem != "" {
		problem = fmt.Sprintf("%s\nrequest: %v", problem, sent)
	}
	return problem
}

// request is any request that is right, but for short names that clash.
func (o *oracle) request(r *rand.Rand) *asked {
	a := &asked{keys: map[string][]any{}}
	a.req = &twofoldv1.GetOnlineFeaturesRequest{
		IncludeEventTimes: r.IntN(2) == 0, OmitEntities: r.IntN(3) == 0, ShortNames: r.IntN(4) == 0,
		IncludeExpired: r.IntN(3) == 0, AllowPartial: r.IntN(4) == 0,
	}
	if r.IntN(3) == 0 {
		a.req.MaxStaleness = durationpb.New(pick[time.Duration](r, 1, time.Microsecond, 30*time.Minute, time.Hour, 48*time.Hour, math.MaxInt64))
	}
	var names []string
	if r.IntN(4) == 0 {
		service := pick(r, o.services...)
		a.req.FeatureService, names = service.name, service.features
	} else {
		for _, v := range sample(r, o.views, 1+r.IntN(len(o.views))) {
			names = append(names, v.pickFeatures(r)...)
		}
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		a.req.Features = names
	}
	for _, name := range names {
		a.add(o.world, name)
	}
	o.addEntities(r, a)
	return a
}

// add adds what one name asks for.
func (a *asked) add(w *world, name string) {
	view, short, _ := strings.Cut(name, ":")
	v := w.view(view)
	if !slices.Contains(a.views, v) {
		a.views = append(a.views, v)
	}
	for _, f := range v.features {
		if !f.online || (short != "*" && f.name != short) {
			continue
		}
		c := askedColumn{v.name + ":" + f.name, v, f}
		if a.req.GetShortNames() {
			c.name = f.name
			a.refused = a.refused || slices.ContainsFunc(a.columns, func(other askedColumn) bool { return other.name == c.name })
		}
		a.columns = append(a.columns, c)
	}
}

// addEntities gives the request its columns: every key that the views need, and others.
func (o *oracle) addEntities(r *rand.Rand, a *asked) {
	a.rows = pick(r, 0, 1, 1, 2, 5, r.IntN(40), r.IntN(300))
	withNulls := r.IntN(3) == 0
	for _, key := range o.keys {
		needed := slices.ContainsFunc(a.views, func(v *worldView) bool { return slices.Contains(v.entity.keys, key) })
		if !needed && r.IntN(4) > 0 {
			continue
		}
		from := append(sample(r, keyValues[key.Type], 1), o.pool[key.Name]...) // the first may be of nobody
		values := make([]any, a.rows)
		fits := true
		for i := range values {
			if values[i] = pick(r, from...); withNulls && r.IntN(10) == 0 {
				values[i] = nil
			}
			n, ok := values[i].(int64)
			fits = fits && (!ok || n == int64(int32(n)))
		}
		a.keys[key.Name] = values
		c := column(key.Name, key.Type, values...)
		if key.Type == feature.Int64 && fits && r.IntN(2) == 0 {
			c = column(key.Name, feature.Int32, narrowed(values)...)
		}
		if len(c.GetStatuses()) == 0 && r.IntN(4) == 0 {
			for range a.rows {
				c.Statuses = append(c.Statuses, pick(r, twofoldv1.ValueStatus_VALUE_STATUS_PRESENT, twofoldv1.ValueStatus_VALUE_STATUS_UNSPECIFIED))
			}
		}
		a.req.Entities = append(a.req.Entities, c)
	}
	if r.IntN(4) == 0 { // is passed through
		t := feature.Bool + feature.Type(r.IntN(16))
		values := make([]any, a.rows)
		for i := range values {
			values[i] = randomValue(r, t)
		}
		a.req.Entities = append(a.req.Entities, column("more", t, values...))
	}
	r.Shuffle(len(a.req.Entities), func(i, j int) { a.req.Entities[i], a.req.Entities[j] = a.req.Entities[j], a.req.Entities[i] })
}

func narrowed(values []any) []any {
	out := make([]any, len(values))
	for i, v := range values {
		if n, ok := v.(int64); ok {
			out[i] = int32(n)
		}
	}
	return out
}

// wrongAnswer compares an answer with the model's.
func (a *asked) wrongAnswer(sent *twofoldv1.GetOnlineFeaturesRequest, resp *twofoldv1.GetOnlineFeaturesResponse, n *tally) string {
	got := resp.GetColumns()
	if !sent.GetOmitEntities() {
		for i, want := range sent.GetEntities() {
			if i >= len(got) || !proto.Equal(want, got[i]) {
				return fmt.Sprintf("entity column %d is not the request's", i)
			}
		}
		got = got[len(sent.GetEntities()):]
	}
	if len(got) != len(a.columns) || len(resp.GetViews()) != len(a.views) {
		return fmt.Sprintf("%d feature columns of %d views, want %d of %d", len(got), len(resp.GetViews()), len(a.columns), len(a.views))
	}
	keys := a.viewKeys()
	for i, c := range a.columns {
		if problem := a.wrongColumn(c, got[i], keys[c.view], resp.GetAsOfMicros(), n); problem != "" {
			return problem
		}
	}
	for i, v := range a.views {
		if problem := a.wrongView(v, resp.GetViews()[i], keys[v], resp.GetAsOfMicros()); problem != "" {
			return problem
		}
	}
	return ""
}

// viewKeys has, for each view, each row's entity key in the model, "" where a key is null.
func (a *asked) viewKeys() map[*worldView][]string {
	keys := map[*worldView][]string{}
	for _, v := range a.views {
		for row := range a.rows {
			var own []any
			for _, key := range v.entity.keys {
				own = append(own, a.keys[key.Name][row])
			}
			text := entityKey(own)
			if slices.ContainsFunc(own, func(v any) bool { return v == nil }) {
				text = ""
			}
			keys[v] = append(keys[v], text)
		}
	}
	return keys
}

// ttl is the ttl that must be applied to a view's rows; 0 is for ever.
func (a *asked) ttl(v *worldView) time.Duration {
	most := a.req.GetMaxStaleness()
	if most == nil {
		return v.ttl
	}
	// A ttl is in microseconds: a fraction is rounded up.
	limit := most.AsDuration()
	if rest := limit % time.Microsecond; rest > 0 && limit < math.MaxInt64-time.Microsecond {
		limit += time.Microsecond - rest
	}
	if v.ttl == 0 || limit < v.ttl {
		return limit
	}
	return v.ttl
}

func (a *asked) wrongColumn(want askedColumn, got *twofoldv1.Column, keys []string, asOf int64, n *tally) string {
	t, values, err := valuesOf(got)
	if err != nil || got.GetName() != want.name || t != want.f.t || len(values) != a.rows || len(got.GetStatuses()) != a.rows {
		return fmt.Sprintf("column %q (%v) of %d values and %d statuses, %v; want %q (%v) of %d", got.GetName(), t, len(values), len(got.GetStatuses()), err, want.name, want.f.t, a.rows)
	}
	ttl := a.ttl(want.view)
	for row, key := range keys {
		status, value, event := want.view.read(key, key == "", want.f, ttl, asOf, a.req.GetIncludeExpired())
		n.values[status].Add(1)
		if status == feature.Expired && !same(value, zeroValue(t)) {
			n.expired.Add(1)
		}
		if s := feature.Status(got.GetStatuses()[row]); s != status || !same(values[row], value) {
			return fmt.Sprintf("%s, row %d (%s, event time %d, as of %d): %s, want %s", want.name, row, key, event, asOf, cell(s, values[row]), cell(status, value))
		}
	}
	return ""
}

func (a *asked) wrongView(v *worldView, got *twofoldv1.ViewMetadata, keys []string, asOf int64) string {
	var events []int64
	if a.req.GetIncludeEventTimes() {
		for _, key := range keys {
			_, _, event := v.read(key, key == "", v.features[0], 0, asOf, false)
			events = append(events, event)
		}
	}
	if got.GetName() != v.name || !slices.Equal(got.GetEventTimesMicros(), events) || got.GetFault() != nil {
		return fmt.Sprintf("view %v, want %s with event times %v", got, v.name, events)
	}
	ttl := a.ttl(v)
	seconds, nanos := int64(ttl/time.Second), int32(ttl%time.Second)
	if ttl >= math.MaxInt64-time.Microsecond { // the longest duration is rounded up, too
		seconds, nanos = 9223372036, 854776000
	}
	if (got.GetTtl() == nil) != (ttl == 0) || got.GetTtl().GetSeconds() != seconds || got.GetTtl().GetNanos() != nanos {
		return fmt.Sprintf("view %s: the ttl that was applied is said to be %v, want %v", v.name, got.GetTtl(), ttl)
	}
	return ""
}

// wrongError says what is wrong with an error that must have that code and name that field.
func wrongError(err error, code codes.Code, field string) string {
	st := status.Convert(err)
	if st.Code() != code || fieldOfError(st) != field {
		return fmt.Sprintf("got %v (field %q), want %v for field %q", err, fieldOfError(st), code, field)
	}
	return ""
}

func fieldOfError(st *status.Status) string {
	for _, d := range st.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			return bad.GetFieldViolations()[0].GetField()
		}
	}
	return ""
}
