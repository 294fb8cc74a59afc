package online_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// spy counts the calls of a driver and fails or holds those that it is told to.
type spy struct {
	driver.Driver
	reads, writes, getMetas, putMetas atomic.Int64
	fail                              func(call string) error
	hold                              chan struct{} // GetMeta waits for it
	waiting                           chan struct{} // and tells of it
}

func (s *spy) check(call string, calls *atomic.Int64) error {
	calls.Add(1)
	if s.fail != nil {
		return s.fail(call)
	}
	return nil
}

func (s *spy) Read(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	if err := s.check("Read", &s.reads); err != nil {
		return nil, err
	}
	return s.Driver.Read(ctx, reads)
}

func (s *spy) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	if err := s.check("Write", &s.writes); err != nil {
		return nil, err
	}
	return s.Driver.Write(ctx, rows)
}

func (s *spy) GetMeta(ctx context.Context, names []string) ([][]byte, error) {
	if err := s.check("GetMeta", &s.getMetas); err != nil {
		return nil, err
	}
	if s.hold != nil {
		s.waiting <- struct{}{}
		<-s.hold
	}
	return s.Driver.GetMeta(ctx, names)
}

func (s *spy) PutMeta(ctx context.Context, name string, value []byte) error {
	if err := s.check("PutMeta", &s.putMetas); err != nil {
		return err
	}
	return s.Driver.PutMeta(ctx, name, value)
}

func newStore(t *testing.T) (*online.Store, *spy) {
	d, err := pebblestore.Open(pebblestore.Options{InMemory: true})
	require.NoError(t, err)
	s := &spy{Driver: d}
	store := online.NewStore(s, online.Options{BatchSize: 10})
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store, s
}

var user = &feature.Entity{Name: "user", Keys: []feature.Key{{Name: "id", Type: feature.Int64}}}

// aView returns a view of INT64 features.
func aView(name string, features ...string) *feature.View {
	v := &feature.View{Name: name, Entity: user}
	for _, f := range features {
		v.Features = append(v.Features, feature.Feature{Name: f, Type: feature.Int64, Column: f, Online: true})
	}
	return v
}

func plan(t *testing.T, features []string, views ...*feature.View) *online.Plan {
	t.Helper()
	selection, err := feature.NewRegistry([]*feature.Entity{user}, views, nil, "").Select(feature.SelectionQuery{Features: features})
	require.NoError(t, err)
	p, err := online.NewPlan(selection)
	require.NoError(t, err)
	return p
}

func ids(n int) *feature.Column {
	c := feature.NewColumn(feature.Int64, n)
	for i := range n {
		c.AppendInt64(int64(i))
	}
	return c
}

// rowsOf returns n rows, of entities 0 to n−1, whose features are all the entity's number.
func rowsOf(v *feature.View, n int) online.Rows {
	r := online.Rows{View: v, Keys: []*feature.Column{ids(n)}, EventTimes: feature.NewColumn(feature.Timestamp, n)}
	for range n {
		r.EventTimes.AppendInt64(time.Now().UnixMicro())
	}
	for range v.Features {
		r.Features = append(r.Features, ids(n))
	}
	return r
}

func TestOneReadForAWholeRequest(t *testing.T) {
	s, spy := newStore(t)
	a, b := aView("a", "x"), aView("b", "x", "y")
	for _, v := range []*feature.View{a, b} {
		stats, err := s.Write(t.Context(), rowsOf(v, 25))
		require.NoError(t, err)
		require.Equal(t, online.WriteStats{Written: 25}, stats)
	}
	require.EqualValues(t, 6, spy.writes.Load(), "two views of 25 rows in batches of 10")
	require.EqualValues(t, 2, spy.putMetas.Load())
	_, err := s.Write(t.Context(), rowsOf(a, 1))
	require.NoError(t, err)
	require.EqualValues(t, 2, spy.putMetas.Load(), "a schema is registered once")

	p := plan(t, []string{"b:y", "a:x", "b:x"}, a, b)
	got, err := s.Read(t.Context(), p, []*feature.Column{ids(25)}, online.ReadOptions{AsOf: feature.AsOf(time.Now().UnixMicro())})
	require.NoError(t, err)
	for _, c := range got.Columns {
		require.Equal(t, ids(25).Int64s, c.Int64s)
	}
	require.EqualValues(t, 1, spy.reads.Load())
	require.Zero(t, spy.getMetas.Load(), "rows under the present definition need no schema from the store")
}

func TestDriverErrorsPassWithTheirKind(t *testing.T) {
	s, spy := newStore(t)
	v := aView("v", "x")
	cause := errors.New("disk on fire")
	for _, kind := range []fault.Kind{fault.Unavailable, fault.Precondition, fault.Corrupt} {
		for _, call := range []string{"Read", "Write", "GetMeta", "PutMeta"} {
			spy.fail = func(c string) error {
				if c == call {
					return fault.New(kind, "%s: %w", c, cause)
				}
				return nil
			}
			_, readErr := s.Read(t.Context(), plan(t, []string{"v:x"}, v), []*feature.Column{ids(1)}, online.ReadOptions{})
			_, writeErr := s.Write(t.Context(), rowsOf(aView("new_"+strings.ToLower(call)+kind.String()[:1], "x"), 1))
			_, getErr := s.GetMeta(t.Context(), []string{"a"})
			putErr := s.PutMeta(t.Context(), "a", nil)
			want := map[string][]error{"Read": {readErr}, "Write": {writeErr}, "GetMeta": {getErr}, "PutMeta": {putErr, writeErr}}[call]
			for _, err := range want {
				require.ErrorIs(t, err, cause, call)
				require.Equal(t, kind, fault.KindOf(err))
			}
		}
	}
}

// TestFailedRegistration: rows must not be stored under a schema that nobody could look up.
func TestFailedRegistration(t *testing.T) {
	s, spy := newStore(t)
	v := aView("v", "x")
	spy.fail = func(call string) error {
		if call == "PutMeta" {
			return fault.New(fault.Unavailable, "down")
		}
		return nil
	}
	_, err := s.Write(t.Context(), rowsOf(v, 1))
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Zero(t, spy.writes.Load())
	spy.fail = nil
	_, err = s.Write(t.Context(), rowsOf(v, 1))
	require.NoError(t, err)
	require.EqualValues(t, 2, spy.putMetas.Load(), "it is tried again")
}

// foreign stores a row of view v as another process with another definition would, with or without its schema.
func foreign(t *testing.T, d driver.Driver, view string, id int, withSchema bool) uint64 {
	t.Helper()
	schema := &storedrow.Schema{Features: []storedrow.Feature{{Name: "older", Type: feature.Int64}, {Name: "x", Type: feature.Int64}}}
	row, err := storedrow.AppendRow(nil, schema, 1, 0, []*feature.Column{ids(1), ids(1)}, 0)
	require.NoError(t, err)
	_, err = d.Write(t.Context(), []driver.Row{{Entity: driver.Entity{Name: "user", Key: fmt.Append(nil, id)}, View: view, Value: row}})
	require.NoError(t, err)
	if withSchema {
		require.NoError(t, d.PutMeta(t.Context(), fmt.Sprintf("schema/%s/%016x", view, schema.Fingerprint()), schema.AppendProto(nil)))
	}
	return schema.Fingerprint()
}

func TestSchemaThatIsNotStored(t *testing.T) {
	s, spy := newStore(t)
	p := plan(t, []string{"v:x"}, aView("v", "x"))
	fingerprint := foreign(t, spy.Driver, "v", 0, false)
	for range 2 {
		_, err := s.Read(t.Context(), p, []*feature.Column{ids(1)}, online.ReadOptions{})
		require.Equal(t, fault.Corrupt, fault.KindOf(err))
		for _, part := range []string{`view "v"`, `user "0"`, fmt.Sprintf("%016x", fingerprint), "twofold sync"} {
			require.ErrorContains(t, err, part)
		}
	}
	foreign(t, spy.Driver, "v", 0, true) // once it is there, it is found
	_, err := s.Read(t.Context(), p, []*feature.Column{ids(1)}, online.ReadOptions{})
	require.NoError(t, err)
}

func TestDamagedRowIsNamed(t *testing.T) {
	s, spy := newStore(t)
	v := aView("v", "x")
	row, err := storedrow.AppendRow(nil, storedrow.SchemaOf(v), 1, 0, []*feature.Column{ids(1)}, 0)
	require.NoError(t, err)
	_, err = spy.Driver.Write(t.Context(), []driver.Row{{Entity: driver.Entity{Name: "user", Key: []byte("1")}, View: "v", Value: row[:len(row)-1]}})
	require.NoError(t, err)
	_, err = s.Read(t.Context(), plan(t, []string{"v:x"}, v), []*feature.Column{ids(2)}, online.ReadOptions{})
	require.Equal(t, fault.Corrupt, fault.KindOf(err))
	require.ErrorContains(t, err, `view "v", entity user "1"`)
}

// TestSchemaIsLoadedOnce: many requests that meet an older row at once share one load, and one that gives up does not end it.
func TestSchemaIsLoadedOnce(t *testing.T) {
	s, spy := newStore(t)
	foreign(t, spy.Driver, "v", 0, true)
	spy.hold, spy.waiting = make(chan struct{}), make(chan struct{}, 1)
	read := func(ctx context.Context) error {
		got, err := s.Read(ctx, plan(t, []string{"v:x"}, aView("v", "x")), []*feature.Column{ids(1)}, online.ReadOptions{})
		if err == nil && !got.Columns[0].IsPresent(0) {
			err = errors.New("the value is not there")
		}
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- read(ctx) }()
	<-spy.waiting
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { errs[i] = read(t.Context()) })
	}
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
	close(spy.hold)
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.NoError(t, read(t.Context()))
	require.EqualValues(t, 1, spy.getMetas.Load())
}

func TestNullKeysAskNothing(t *testing.T) {
	s, spy := newStore(t)
	keys := feature.NewColumn(feature.Int64, 1)
	keys.AppendMissing(feature.Null)
	got, err := s.Read(t.Context(), plan(t, []string{"v:x"}, aView("v", "x")), []*feature.Column{keys}, online.ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, []feature.Status{feature.NotFound}, got.Columns[0].Status)
	require.Zero(t, spy.reads.Load())
}

// TestEntitiesWithEqualKeys: user 1 and item 1 have the same stored key, and still each has its own rows.
func TestEntitiesWithEqualKeys(t *testing.T) {
	s, spy := newStore(t)
	users := aView("users", "x")
	items := aView("items", "x")
	items.Entity = &feature.Entity{Name: "item", Keys: []feature.Key{{Name: "item_id", Type: feature.Int64}}}
	_, err := s.Write(t.Context(), rowsOf(users, 3))
	require.NoError(t, err)
	rows := rowsOf(items, 3)
	rows.Features[0].Int64s = []int64{10, 11, 12}
	_, err = s.Write(t.Context(), rows)
	require.NoError(t, err)

	registry := feature.NewRegistry([]*feature.Entity{user, items.Entity}, []*feature.View{users, items}, nil, "")
	selection, err := registry.Select(feature.SelectionQuery{Features: []string{"users:x", "items:x"}})
	require.NoError(t, err)
	p, err := online.NewPlan(selection)
	require.NoError(t, err)
	keys := []*feature.Column{ids(3), feature.NewColumn(feature.Int64, 3)}
	for _, item := range []int64{1, 1, 2} {
		keys[1].AppendInt64(item)
	}
	got, err := s.Read(t.Context(), p, keys, online.ReadOptions{AsOf: feature.AsOf(time.Now().UnixMicro())})
	require.NoError(t, err)
	require.Equal(t, []int64{0, 1, 2}, got.Columns[0].Int64s)
	require.Equal(t, []int64{11, 11, 12}, got.Columns[1].Int64s)
	require.EqualValues(t, 1, spy.reads.Load())
}

// TestNullCreatedTime: a null created time is none, whatever lies in the column under it, so a row that has one is newer.
func TestNullCreatedTime(t *testing.T) {
	s, _ := newStore(t)
	v := aView("v", "x")
	rows := rowsOf(v, 1)
	rows.CreatedTimes = &feature.Column{Type: feature.Timestamp, Int64s: []int64{1 << 60}, Status: []feature.Status{feature.Null}}
	stats, err := s.Write(t.Context(), rows)
	require.NoError(t, err)
	require.Equal(t, online.WriteStats{Written: 1}, stats)
	rows.CreatedTimes = feature.NewColumn(feature.Timestamp, 1)
	rows.CreatedTimes.AppendInt64(1)
	stats, err = s.Write(t.Context(), rows)
	require.NoError(t, err)
	require.Equal(t, online.WriteStats{Written: 1}, stats)
}

// TestSchemaOfAnotherName: a schema that is stored under the fingerprint of another would give the features each other's values.
func TestSchemaOfAnotherName(t *testing.T) {
	s, spy := newStore(t)
	fingerprint := foreign(t, spy.Driver, "v", 0, true)
	swapped := &storedrow.Schema{Features: []storedrow.Feature{{Name: "x", Type: feature.Int64}, {Name: "older", Type: feature.Int64}}}
	require.NoError(t, s.PutMeta(t.Context(), fmt.Sprintf("schema/v/%016x", fingerprint), swapped.AppendProto(nil)))
	_, err := s.Read(t.Context(), plan(t, []string{"v:x"}, aView("v", "x")), []*feature.Column{ids(1)}, online.ReadOptions{})
	require.Equal(t, fault.Corrupt, fault.KindOf(err))
	require.ErrorContains(t, err, fmt.Sprintf("%016x", swapped.Fingerprint()))
}

// TestSchemaIsRegisteredAgain: a store that was emptied while a process wrote to it has the schema back after a minute.
func TestSchemaIsRegisteredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &forgetful{}
		s := online.NewStore(d, online.Options{})
		v := aView("v", "x")
		for _, want := range []int{1, 1, 2} {
			_, err := s.Write(t.Context(), rowsOf(v, 1))
			require.NoError(t, err)
			require.Equal(t, want, d.schemas)
			time.Sleep(35 * time.Second) // of the test's own clock
		}
	})
}

// forgetful is a driver that stores nothing and counts the schemas that it is given.
type forgetful struct {
	driver.Driver
	schemas int
}

func (f *forgetful) Write(_ context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	return slices.Repeat([]driver.Outcome{driver.Written}, len(rows)), nil
}

func (f *forgetful) PutMeta(context.Context, string, []byte) error {
	f.schemas++
	return nil
}

func TestWriteStatsAdd(t *testing.T) {
	s := online.WriteStats{Written: 1, Older: 2, Unchanged: 3, Expired: 4}
	s.Add(online.WriteStats{Written: 10, Older: 20, Unchanged: 30, Expired: 40})
	require.Equal(t, online.WriteStats{Written: 11, Older: 22, Unchanged: 33, Expired: 44}, s)
}

func BenchmarkRead(b *testing.B) {
	d, err := pebblestore.Open(pebblestore.Options{InMemory: true})
	require.NoError(b, err)
	s := online.NewStore(d, online.Options{})
	defer s.Close()
	var views []*feature.View
	var features []string
	for i := range 5 {
		v := aView(fmt.Sprint("v", i), "a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
		_, err := s.Write(b.Context(), rowsOf(v, 100))
		require.NoError(b, err)
		views = append(views, v)
		features = append(features, v.Name+":*")
	}
	selection, err := feature.NewRegistry([]*feature.Entity{user}, views, nil, "").Select(feature.SelectionQuery{Features: features})
	require.NoError(b, err)
	p, err := online.NewPlan(selection)
	require.NoError(b, err)
	keys := []*feature.Column{ids(100)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Read(b.Context(), p, keys, online.ReadOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestBatchSizeOfTheRows(t *testing.T) {
	s, spy := newStore(t)
	for size, calls := range map[int]int64{0: 3, 4: 7, 1000: 1} {
		rows := rowsOf(aView("v", "x"), 25)
		rows.BatchSize = size
		before := spy.writes.Load()
		_, err := s.Write(t.Context(), rows)
		require.NoError(t, err)
		require.Equal(t, calls, spy.writes.Load()-before, "batches of %d", size)
	}
}
