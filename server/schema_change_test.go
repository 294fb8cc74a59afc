package server_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server/servertest"
)

// generation is definitions of one view, v, with these features: "name TYPE, name TYPE".
func generation(features string) string {
	var list []string
	for _, f := range strings.Split(features, ", ") {
		name, kind, _ := strings.Cut(f, " ")
		kind, offline, _ := strings.Cut(kind, " ")
		online := ""
		if offline != "" {
			online = ", online: false"
		}
		list = append(list, fmt.Sprintf("{name: %s, type: %s%s}", name, kind, online))
	}
	return `
entities:
  - {name: user, keys: [{name: user_id, type: INT64}]}
feature_views:
  - {name: v, entity: user, ttl: 1h, source: {path: none.parquet, event_time_column: at}, sync: {enabled: false}, features: [` + strings.Join(list, ", ") + `]}
`
}

// The same view as years go by.
var (
	firstGeneration  = generation("n INT32, wide INT32, x FLOAT, s STRING, gone DOUBLE, list INT32_LIST")
	secondGeneration = generation("list INT32_LIST, new STRING, s STRING, x FLOAT, wide INT32, n INT32") // added, removed, in another order
	thirdGeneration  = generation("n INT64, wide DOUBLE, x DOUBLE, s STRING, list INT32_LIST, newest BOOL")
)

func startGeneration(t *testing.T, definitions string, changes ...func(*servertest.Config)) *edges {
	t.Helper()
	return startEdges(t, append([]func(*servertest.Config){func(c *servertest.Config) { c.Definitions = definitions }}, changes...)...)
}

// pushGenerations writes users 10 and 11 under the first definitions, 20 and 21 under the second, 30 under the third. It leaves the third.
func (e *edges) pushGenerations(t *testing.T, reload func(definitions string)) {
	t.Helper()
	at := now.UnixMicro()
	reload(firstGeneration)
	e.push(t, "v", at, client.Int64s("user_id", 10, 11), column("n", feature.Int32, int32(math.MinInt32), nil), column("wide", feature.Int32, int32(math.MaxInt32), int32(-1)),
		column("x", feature.Float, math.Float32frombits(0x7fc1_2345), float32(math.Copysign(0, -1))), client.Strings("s", "ten", ""), client.Doubles("gone", 1, 2),
		column("list", feature.Int32List, []any{int32(1), int32(2)}, nil))
	reload(secondGeneration)
	e.push(t, "v", at, client.Int64s("user_id", 20, 21), column("n", feature.Int32, int32(20), int32(21)), column("wide", feature.Int32, nil, int32(-21)),
		column("x", feature.Float, float32(math.Inf(-1)), float32(0.1)), client.Strings("s", "twenty", "x"), client.Strings("new", "NEW", ""), column("list", feature.Int32List, []any{}, []any{int32(3)}))
	reload(thirdGeneration)
	e.push(t, "v", at, client.Int64s("user_id", 30), client.Int64s("n", math.MaxInt64), client.Doubles("wide", 1e300), client.Doubles("x", -0.5), client.Strings("s", "thirty"),
		column("list", feature.Int32List, nil), client.Bools("newest", true))
}

var generationUsers = []int64{20, 10, 30, 21, 10, 99, 11}

func double(v float64) string { return "PRESENT " + text(v) }

// TestSchemaChange: rows of every generation in one request, each read by the names of its features.
func TestSchemaChange(t *testing.T) {
	e := startGeneration(t, firstGeneration)
	reload := func(definitions string) { e.Reload(t, definitions) }
	e.pushGenerations(t, reload)
	users := client.Int64s("user_id", generationUsers...)
	got, _ := e.read(t, online1("v:*", users))
	wantCells(t, got, map[string][]string{
		"v:n":      {"PRESENT 20", "PRESENT -2147483648", "PRESENT 9223372036854775807", "PRESENT 21", "PRESENT -2147483648", "NOT_FOUND 0", "NULL 0"},
		"v:wide":   {"NULL " + text(0.0), double(math.MaxInt32), double(1e300), double(-21), double(math.MaxInt32), "NOT_FOUND " + text(0.0), double(-1)},
		"v:x":      {double(math.Inf(-1)), "PRESENT d7ff82468a0000000", double(-0.5), double(float64(float32(0.1))), "PRESENT d7ff82468a0000000", "NOT_FOUND " + text(0.0), double(math.Copysign(0, -1))},
		"v:s":      {`PRESENT "twenty"`, `PRESENT "ten"`, `PRESENT "thirty"`, `PRESENT "x"`, `PRESENT "ten"`, `NOT_FOUND ""`, `PRESENT ""`},
		"v:list":   {"PRESENT []", "PRESENT [1 2]", "NULL []", "PRESENT [3]", "PRESENT [1 2]", "NOT_FOUND []", "NULL []"},
		"v:newest": {"NOT_FOUND false", "NOT_FOUND false", "PRESENT true", "NOT_FOUND false", "NOT_FOUND false", "NOT_FOUND false", "NOT_FOUND false"},
	})
	_, err := e.ask(t, online1("v:gone", users))
	wantError(t, err, codes.NotFound, "", `"gone"`)
	// Rows of one generation alone, which are decoded column by column.
	got, _ = e.read(t, online1("v:wide v:n v:x", client.Int64s("user_id", 10, 11, 99)))
	wantCells(t, got, map[string][]string{
		"v:n":    {"PRESENT -2147483648", "NULL 0", "NOT_FOUND 0"},
		"v:wide": {double(math.MaxInt32), double(-1), "NOT_FOUND " + text(0.0)},
		"v:x":    {"PRESENT d7ff82468a0000000", double(math.Copysign(0, -1)), "NOT_FOUND " + text(0.0)},
	})

	// A removed feature that is defined again is read from the rows that have it.
	reload(generation("gone DOUBLE, new STRING, n INT64"))
	got, _ = e.read(t, online1("v:new v:gone", users))
	none := "NOT_FOUND " + text(0.0)
	wantCells(t, got, map[string][]string{
		"v:gone": {none, double(1), none, none, double(1), none, double(2)},
		"v:new":  {`PRESENT "NEW"`, `NOT_FOUND ""`, `NOT_FOUND ""`, `PRESENT ""`, `NOT_FOUND ""`, `NOT_FOUND ""`, `NOT_FOUND ""`},
	})
	// One that is not online for a while is not in the rows of that while.
	reload(generation("s STRING offline, n INT64"))
	_, err = e.ask(t, online1("v:s", users))
	wantError(t, err, codes.FailedPrecondition, "", `"v:s" is not online`)
	e.push(t, "v", now.UnixMicro()+1, client.Int64s("user_id", 10), client.Int64s("n", 10))
	reload(thirdGeneration)
	got, _ = e.read(t, online1("v:s", client.Int64s("user_id", 10, 11)))
	wantCells(t, got, map[string][]string{"v:s": {`NOT_FOUND ""`, `PRESENT ""`}})
}

// TestSchemaChangeRefused: a type that stored rows cannot be read as is FAILED_PRECONDITION and never a wrong value; with allow_partial it is their rows
// alone, and only the changed feature, not its view, cannot be asked for.
func TestSchemaChangeRefused(t *testing.T) {
	clock := &jumpyClock{}
	clock.micros.Store(now.UnixMicro())
	e := startGeneration(t, firstGeneration, func(c *servertest.Config) { c.Now = clock.now })
	e.pushGenerations(t, func(definitions string) { e.Reload(t, definitions) })
	users := client.Int64s("user_id", 10, 40, 20, 99)
	e.Reload(t, generation("s INT64, n INT64"))
	_, err := e.ask(t, online1("v:s", users))
	wantError(t, err, codes.FailedPrecondition, "", `"v:s"`, "INT64", "STRING", `entity user "10"`, "sync", "new name")
	e.push(t, "v", now.UnixMicro(), client.Int64s("user_id", 40), client.Int64s("s", 44), client.Int64s("n", 4))
	got, _ := e.read(t, online1("v:n", users))
	wantCells(t, got, map[string][]string{"v:n": {"PRESENT -2147483648", "PRESENT 4", "PRESENT 20", "NOT_FOUND 0"}})
	got, _ = e.read(t, online1("v:s", client.Int64s("user_id", 40, 99, 40)))
	wantCells(t, got, map[string][]string{"v:s": {"PRESENT 44", "NOT_FOUND 0", "PRESENT 44"}})

	partial := online1("v:n v:s", users)
	partial.AllowPartial, partial.IncludeEventTimes = true, true
	got, resp := e.read(t, partial)
	wantCells(t, got, map[string][]string{
		"v:n": {"UNAVAILABLE 0", "PRESENT 4", "UNAVAILABLE 0", "NOT_FOUND 0"},
		"v:s": {"UNAVAILABLE 0", "PRESENT 44", "UNAVAILABLE 0", "NOT_FOUND 0"},
	})
	fault := resp.GetViews()[0].GetFault()
	if codes.Code(fault.GetCode()) != codes.FailedPrecondition || !strings.Contains(fault.GetMessage(), `"v:s"`) || !strings.Contains(fault.GetMessage(), "STRING") {
		t.Errorf("fault: %v", fault)
	}
	for _, d := range status.FromProto(fault).Details() {
		if _, ok := d.(*errdetails.RetryInfo); ok {
			t.Error("it is said to help to try again")
		}
	}
	if at := now.UnixMicro(); fmt.Sprint(resp.GetViews()[0].GetEventTimesMicros()) != fmt.Sprint([]int64{0, at, 0, 0}) {
		t.Errorf("event times: %v", resp.GetViews()[0].GetEventTimesMicros())
	}
	for _, kind := range []string{"INT32", "DOUBLE", "BYTES", "STRING_LIST", "TIMESTAMP"} {
		e.Reload(t, generation("s "+kind+", n INT64"))
		_, err := e.ask(t, online1("v:s", client.Int64s("user_id", 10)))
		wantError(t, err, codes.FailedPrecondition, "", kind, "STRING")
	}
	e.Reload(t, generation("n INT32, x FLOAT")) // nothing is narrowed
	for _, ref := range []string{"v:n", "v:x"} {
		_, err = e.ask(t, online1(ref, client.Int64s("user_id", 30)))
		wantError(t, err, codes.FailedPrecondition, "", fmt.Sprintf("%q", ref))
	}
	got, _ = e.read(t, online1("v:n v:x", client.Int64s("user_id", 10)))
	wantCells(t, got, map[string][]string{"v:n": {"PRESENT -2147483648"}, "v:x": {"PRESENT f7fc12345"}})

	// What is expired is not looked at, unless it is asked for.
	clock.micros.Add(int64(time.Hour/time.Microsecond) + 1)
	e.Reload(t, generation("s INT64, n INT64"))
	got, _ = e.read(t, online1("v:s", users))
	wantCells(t, got, map[string][]string{"v:s": {"EXPIRED 0", "EXPIRED 0", "EXPIRED 0", "NOT_FOUND 0"}})
	expired := online1("v:s", users)
	expired.IncludeExpired = true
	_, err = e.ask(t, expired)
	wantError(t, err, codes.FailedPrecondition, "", `"v:s"`)
	// A row that replaces the old one mends it.
	e.push(t, "v", clock.micros.Load(), client.Int64s("user_id", 10, 20), client.Int64s("s", 1, 2), client.Int64s("n", 1, 2))
	got, _ = e.read(t, expired)
	wantCells(t, got, map[string][]string{"v:s": {"PRESENT 1", "EXPIRED 44", "PRESENT 2", "NOT_FOUND 0"}})
}

// TestSchemaChangeRollsOut: two servers on one Redis, with the definitions of before and after, as it is while new ones are rolled out: each reads the
// rows of the other by name, though it never wrote under their schema; what was widened the older one refuses.
func TestSchemaChangeRollsOut(t *testing.T) {
	redis := testenv.Redis(t)
	open := func(t *testing.T) driver.Driver {
		store, err := redisstore.Open(redisstore.Options{URL: redis.URL})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	older := startGeneration(t, secondGeneration, func(c *servertest.Config) { c.Online = open(t) })
	writer := startGeneration(t, firstGeneration, func(c *servertest.Config) { c.Online = open(t) })
	newer := startGeneration(t, thirdGeneration, func(c *servertest.Config) { c.Online = open(t) })
	writer.pushGenerations(t, func(definitions string) { writer.Reload(t, definitions) })
	users := client.Int64s("user_id", generationUsers...)
	got, _ := newer.read(t, online1("v:n v:newest v:s", users))
	wantCells(t, got, map[string][]string{
		"v:n":      {"PRESENT 20", "PRESENT -2147483648", "PRESENT 9223372036854775807", "PRESENT 21", "PRESENT -2147483648", "NOT_FOUND 0", "NULL 0"},
		"v:newest": {"NOT_FOUND false", "NOT_FOUND false", "PRESENT true", "NOT_FOUND false", "NOT_FOUND false", "NOT_FOUND false", "NOT_FOUND false"},
		"v:s":      {`PRESENT "twenty"`, `PRESENT "ten"`, `PRESENT "thirty"`, `PRESENT "x"`, `PRESENT "ten"`, `NOT_FOUND ""`, `PRESENT ""`},
	})
	got, _ = older.read(t, online1("v:s v:new v:list", users))
	wantCells(t, got, map[string][]string{
		"v:s":    {`PRESENT "twenty"`, `PRESENT "ten"`, `PRESENT "thirty"`, `PRESENT "x"`, `PRESENT "ten"`, `NOT_FOUND ""`, `PRESENT ""`},
		"v:new":  {`PRESENT "NEW"`, `NOT_FOUND ""`, `NOT_FOUND ""`, `PRESENT ""`, `NOT_FOUND ""`, `NOT_FOUND ""`, `NOT_FOUND ""`},
		"v:list": {"PRESENT []", "PRESENT [1 2]", "NULL []", "PRESENT [3]", "PRESENT [1 2]", "NOT_FOUND []", "NULL []"},
	})
	_, err := older.ask(t, online1("v:n", users))
	wantError(t, err, codes.FailedPrecondition, "", `"v:n"`, "INT32", "INT64", `entity user "30"`)
}

// loaded is one generation of definitions, whose users are usersEach in a row from its number times usersEach on: user u has n = u, x = u/2, s = "u", and
// the other features are 1 and "new".
type loaded struct {
	definitions string
	has         map[string]bool // features of the rows of this generation
}

// TestSchemaChangeUnderLoad: while definitions are replaced again and again and rows of each are written, every answer is one definition's, whole, and every
// value is the row's.
func TestSchemaChangeUnderLoad(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	generations := []loaded{
		{generation("n INT32, x FLOAT, s STRING, gone DOUBLE"), map[string]bool{"n": true, "x": true, "s": true, "gone": true}},
		{generation("new STRING, s STRING, x FLOAT, n INT32"), map[string]bool{"n": true, "x": true, "s": true, "new": true}},
		{generation("n INT64, newer INT64, x DOUBLE, s STRING, new STRING"), map[string]bool{"n": true, "x": true, "s": true, "new": true, "newer": true}},
	}
	e := startGeneration(t, generations[0].definitions)
	const usersEach = 40
	push := func(g int, event int64) { // under the definitions of now, which are generation g
		var users, n, x, s, one, fresh []any
		for i := range usersEach {
			u := int64(g*usersEach + i)
			users, s, fresh = append(users, u), append(s, fmt.Sprint(u)), append(fresh, "new")
			if g < 2 {
				n, x, one = append(n, int32(u)), append(x, float32(u)/2), append(one, 1.0)
			} else {
				n, x, one = append(n, u), append(x, float64(u)/2), append(one, int64(1))
			}
		}
		columns := []*twofoldv1.Column{column("user_id", feature.Int64, users...), column("s", feature.String, s...)}
		if g < 2 {
			columns = append(columns, column("n", feature.Int32, n...), column("x", feature.Float, x...))
		} else {
			columns = append(columns, column("n", feature.Int64, n...), column("x", feature.Double, x...), column("newer", feature.Int64, one...))
		}
		if g == 0 {
			columns = append(columns, column("gone", feature.Double, one...))
		} else {
			columns = append(columns, column("new", feature.String, fresh...))
		}
		e.push(t, "v", event, columns...)
	}
	for g := range generations {
		e.Reload(t, generations[g].definitions)
		push(g, now.UnixMicro())
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	// Nobody asks for the third generation's rows, which the definitions of before cannot read.
	var answered [3]atomic.Int64
	var asking sync.WaitGroup
	for i := range 4 {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		call := []onlineCall{e.Client.Online, e.Client.OnlineStream(t.Context()).Online}[i%2]
		asking.Go(func() {
			for ctx.Err() == nil {
				users := make([]int64, 1+r.IntN(50))
				for i := range users {
					users[i] = int64(r.IntN(2*usersEach + 5))
					if users[i] >= 2*usersEach {
						users[i] = 1000 // nobody
					}
				}
				resp, err := call(t.Context(), online1("v:*", client.Int64s("user_id", users...)))
				if err != nil {
					t.Error(err)
					return
				}
				g, problem := wrongGeneration(resp, users, generations, usersEach)
				if problem != "" {
					t.Error(problem)
					return
				}
				answered[g].Add(1)
			}
		})
	}
	rounds := 12
	if testing.Short() || raceEnabled {
		rounds = 4
	}
	for round := range rounds {
		for g := range generations {
			e.Reload(t, generations[g].definitions)
			before := answered[g].Load()
			await(t, fmt.Sprintf("answers of generation %d, round %d", g, round), func() bool { return t.Failed() || answered[g].Load() > before+20 })
			push(g, now.UnixMicro()+int64(1+round))
		}
	}
	stop()
	asking.Wait()
}

// wrongGeneration says which definitions an answer to "v:*" is of, and what is wrong with it.
func wrongGeneration(resp *twofoldv1.GetOnlineFeaturesResponse, users []int64, generations []loaded, usersEach int) (g int, problem string) {
	orders := []string{"v:n v:x v:s v:gone", "v:new v:s v:x v:n", "v:n v:newer v:x v:s v:new"}
	order := strings.Join(names(resp.GetColumns()[1:]), " ")
	for g < len(orders) && orders[g] != order {
		g++
	}
	if g == len(orders) {
		return 0, fmt.Sprintf("columns %s, which are of no definitions", order)
	}
	for _, c := range resp.GetColumns()[1:] {
		t, values, err := valuesOf(c)
		if err != nil || len(values) != len(users) {
			return g, fmt.Sprintf("%v: %v", c, err)
		}
		if number := c.GetName() == "v:n" || c.GetName() == "v:x"; number && (t == feature.Int64 || t == feature.Double) != (g == 2) {
			return g, fmt.Sprintf("%s is %v with columns %s", c.GetName(), t, order)
		}
		for row, u := range users {
			want := loadedCell(strings.TrimPrefix(c.GetName(), "v:"), t, u, generations, usersEach)
			if got := cell(feature.Status(c.GetStatuses()[row]), values[row]); got != want {
				return g, fmt.Sprintf("%s of user %d by definitions %d: %s, want %s", c.GetName(), u, g, got, want)
			}
		}
	}
	return g, ""
}

func loadedCell(name string, t feature.Type, u int64, generations []loaded, usersEach int) string {
	g := int(u) / usersEach
	if g >= len(generations) || !generations[g].has[name] {
		return cell(feature.NotFound, zeroValue(t))
	}
	var v any
	switch {
	case name == "s":
		v = fmt.Sprint(u)
	case name == "new":
		v = "new"
	case name == "newer":
		v = int64(1)
	case name == "gone":
		v = 1.0
	case t == feature.Int32:
		v = int32(u)
	case t == feature.Int64:
		v = u
	case t == feature.Float:
		v = float32(u) / 2
	default:
		v = float64(u) / 2
	}
	return cell(feature.Present, v)
}
