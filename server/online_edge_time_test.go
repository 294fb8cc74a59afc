package server_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/server/servertest"
)

// TestEdgeFreshness: exactly the ttl is fresh and a microsecond more is not; max_staleness tightens it and never extends it; no view is judged by another's
// event time.
func TestEdgeFreshness(t *testing.T) {
	e := startEdges(t)
	const hour = int64(time.Hour / time.Microsecond)
	at := now.UnixMicro()
	for user, age := range []int64{hour, hour + 1, hour - 1, 0, -1_000_000} {
		e.push(t, "users", at-age, client.Int64s("user_id", int64(user)), client.Int64s("n", int64(user)), client.Strings("s", "s"))
	}
	e.push(t, "numbers", at-48*hour, column("user_id", feature.Int64, int64(1)), column("d", feature.Double, 1.5), column("f", feature.Float, nil),
		column("ds", feature.DoubleList, nil), column("fs", feature.FloatList, nil))
	events := func(ages ...int64) []int64 {
		for i := range ages {
			ages[i] = at - ages[i]
		}
		return ages
	}
	fresh := []string{"PRESENT 0", "EXPIRED 0", "PRESENT 2", "PRESENT 3", "PRESENT 4"}
	for _, c := range []struct {
		stale   time.Duration
		ttl     time.Duration
		n, d    []string
		numbers *durationpb.Duration
	}{
		{0, time.Hour, fresh, []string{"PRESENT"}, nil},
		{time.Hour, time.Hour, fresh, []string{"EXPIRED"}, durationpb.New(time.Hour)},
		{time.Hour + 1, time.Hour, fresh, []string{"EXPIRED"}, durationpb.New(time.Hour + time.Microsecond)},
		{48 * time.Hour, time.Hour, fresh, []string{"PRESENT"}, durationpb.New(48 * time.Hour)},
		{48*time.Hour - 1000, time.Hour, fresh, []string{"EXPIRED"}, durationpb.New(48*time.Hour - time.Microsecond)},
		{math.MaxInt64, time.Hour, fresh, []string{"PRESENT"}, &durationpb.Duration{Seconds: 9223372036, Nanos: 854776000}},
		{time.Hour - time.Microsecond, time.Hour - time.Microsecond, []string{"EXPIRED 0", "EXPIRED 0", "PRESENT 2", "PRESENT 3", "PRESENT 4"}, []string{"EXPIRED"}, durationpb.New(time.Hour - time.Microsecond)},
		{1, time.Microsecond, []string{"EXPIRED 0", "EXPIRED 0", "EXPIRED 0", "PRESENT 3", "PRESENT 4"}, []string{"EXPIRED"}, durationpb.New(time.Microsecond)},
	} {
		t.Run(fmt.Sprint(c.stale), func(t *testing.T) {
			req := online1("users:n numbers:d", client.Int64s("user_id", 0, 1, 2, 3, 4, 5))
			req.IncludeEventTimes = true
			if c.stale != 0 {
				req.MaxStaleness = durationpb.New(c.stale)
			}
			got, resp := e.read(t, req)
			d := "PRESENT " + text(1.5)
			if c.d[0] == "EXPIRED" {
				d = "EXPIRED " + text(0.0)
			}
			none := "NOT_FOUND " + text(0.0)
			wantCells(t, got, map[string][]string{"users:n": append(c.n[:5:5], "NOT_FOUND 0"), "numbers:d": {none, d, none, none, none, none}})
			want := []*twofoldv1.ViewMetadata{
				{Name: "users", EventTimesMicros: append(events(hour, hour+1, hour-1, 0, -1_000_000), 0), Ttl: durationpb.New(c.ttl)},
				{Name: "numbers", EventTimesMicros: []int64{0, at - 48*hour, 0, 0, 0, 0}, Ttl: c.numbers},
			}
			if diff := cmp.Diff(want, resp.GetViews(), protocmp.Transform()); diff != "" {
				t.Errorf("views, -want +got:\n%s", diff)
			}
		})
	}
	req := online1("users:*", client.Int64s("user_id", 1, 0, 5))
	req.IncludeExpired = true
	got, _ := e.read(t, req)
	wantCells(t, got, map[string][]string{"users:n": {"EXPIRED 1", "PRESENT 0", "NOT_FOUND 0"}, "users:s": {`EXPIRED "s"`, `PRESENT "s"`, `NOT_FOUND ""`}})
}

// TestEdgeOneClockReading: the clock goes on by an hour at each reading, which no two values of an answer may show.
func TestEdgeOneClockReading(t *testing.T) {
	clock := &jumpyClock{}
	clock.micros.Store(now.UnixMicro())
	e := startEdges(t, func(c *servertest.Config) { c.Now = clock.now })
	users := make([]int64, 500)
	for i := range users {
		users[i] = int64(i)
	}
	n, s := make([]int64, len(users)), make([]string, len(users))
	e.push(t, "users", now.UnixMicro()-3600e6, client.Int64s("user_id", users...), client.Int64s("n", n...), client.Strings("s", s...))
	e.push(t, "pairs", now.UnixMicro()-1800e6, client.Int64s("user_id", users...), client.Strings("item_id", s...), client.Int64s("n", n...))
	clock.step.Store(3600e6)
	clock.micros.Store(now.UnixMicro() - 3600e6)
	// At the first reading, now, both views are at the end of their ttl; at the second they are expired.
	resp, err := e.Client.Online(t.Context(), online1("users:* pairs:n", client.Int64s("user_id", users...), client.Strings("item_id", s...)))
	if err != nil {
		t.Fatal(err)
	}
	asOf := resp.GetAsOfMicros()
	for _, c := range resp.GetColumns()[2:] {
		want := twofoldv1.ValueStatus_VALUE_STATUS_PRESENT
		if asOf > now.UnixMicro() {
			want = twofoldv1.ValueStatus_VALUE_STATUS_EXPIRED
		}
		for row, got := range c.GetStatuses() {
			if got != want {
				t.Fatalf("%s, row %d: %v, as of %d want %v", c.GetName(), row, got, asOf-now.UnixMicro(), want)
			}
		}
	}
	if last := clock.micros.Load(); asOf > last {
		t.Errorf("as of %d, which the clock has not shown yet (%d)", asOf, last)
	}
}
