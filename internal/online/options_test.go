package online_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// partly answers reads of some entities with an error.
type partly struct {
	driver.Driver
	lost map[string]bool
}

func (p partly) Read(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	rows, err := p.Driver.Read(ctx, reads)
	if err != nil {
		return nil, err
	}
	errs, at, failed := make([]error, len(reads)), 0, 0
	for i, r := range reads {
		if p.lost[string(r.Entity.Key)] {
			errs[i] = fault.New(fault.Unavailable, "node of %s is down", r.Entity.Key)
			clear(rows[at : at+len(r.Views)])
			failed++
		}
		at += len(r.Views)
	}
	switch failed {
	case 0:
		return rows, nil
	case len(reads):
		return nil, errs[0]
	}
	return rows, &driver.PartialError{Errs: errs}
}

func TestPartialAnswer(t *testing.T) {
	_, spy := newStore(t)
	store := online.NewStore(partly{spy, map[string]bool{"1": true, "3": true}}, online.Options{})
	a, b := aView("a", "x"), aView("b", "y")
	for _, v := range []*feature.View{a, b} {
		_, err := store.Write(t.Context(), rowsOf(v, 3))
		require.NoError(t, err)
	}
	p := plan(t, []string{"a:x", "b:y"}, a, b)
	now := feature.AsOf(time.Now().UnixMicro())

	_, err := store.Read(t.Context(), p, []*feature.Column{ids(3)}, online.ReadOptions{AsOf: now})
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "without AllowPartial the call fails")
	require.ErrorContains(t, err, "node of 1 is down")

	got, err := store.Read(t.Context(), p, []*feature.Column{ids(5)}, online.ReadOptions{AsOf: now, AllowPartial: true})
	require.NoError(t, err)
	present, unavailable, missing := feature.Present, feature.Unavailable, feature.NotFound
	for i, c := range got.Columns {
		require.Equal(t, []feature.Status{present, unavailable, present, unavailable, missing}, c.Status)
		require.Equal(t, []int64{0, 0, 2, 0, 0}, c.Int64s)
		require.ErrorContains(t, got.Faults[i], "node of 1 is down")
		require.Zero(t, got.EventTimes[i][1])
	}

	only := ids(2)
	only.Int64s = []int64{1, 3}
	_, err = store.Read(t.Context(), p, []*feature.Column{only}, online.ReadOptions{AsOf: now, AllowPartial: true})
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "an answer of nothing is none")
}

// TestUnknownView: a view whose rows cannot be told from missing ones is Unavailable as a whole, beside one that is answered.
func TestUnknownView(t *testing.T) {
	store, _ := newStore(t)
	a, b := aView("a", "x"), aView("b", "y")
	_, err := store.Write(t.Context(), rowsOf(a, 2))
	require.NoError(t, err)
	why := fault.New(fault.Unavailable, "not synced")
	p := plan(t, []string{"a:x", "b:y"}, a, b)
	got, err := store.Read(t.Context(), p, []*feature.Column{ids(2)}, online.ReadOptions{AllowPartial: true, Unknown: []error{nil, why}})
	require.NoError(t, err)
	require.Equal(t, []feature.Status{feature.Present, feature.Present}, got.Columns[0].Status)
	require.Equal(t, []feature.Status{feature.Unavailable, feature.Unavailable}, got.Columns[1].Status)
	require.NoError(t, got.Faults[0])
	require.ErrorIs(t, got.Faults[1], why)
	_, err = store.Read(t.Context(), p, []*feature.Column{ids(2)}, online.ReadOptions{AllowPartial: true, Unknown: []error{why, why}})
	require.ErrorIs(t, err, why)
}

// TestDamagedRowInPart: one damaged row is the only one that is Unavailable, and its view tells why.
func TestDamagedRowInPart(t *testing.T) {
	store, spy := newStore(t)
	v := aView("v", "x")
	_, err := store.Write(t.Context(), rowsOf(v, 3))
	require.NoError(t, err)
	rows, err := spy.Driver.Read(t.Context(), []driver.Read{{Entity: driver.Entity{Name: "user", Key: []byte("1")}, Views: []string{"v"}}})
	require.NoError(t, err)
	_, err = spy.Driver.Write(t.Context(), []driver.Row{{Entity: driver.Entity{Name: "user", Key: []byte("1")}, View: "v", Value: rows[0][:len(rows[0])-1]}})
	require.NoError(t, err)
	got, err := store.Read(t.Context(), plan(t, []string{"v:x"}, v), []*feature.Column{ids(3)}, online.ReadOptions{AllowPartial: true})
	require.NoError(t, err)
	require.Equal(t, []feature.Status{feature.Present, feature.Unavailable, feature.Present}, got.Columns[0].Status)
	require.Equal(t, []int64{0, 0, 2}, got.Columns[0].Int64s)
	require.Equal(t, fault.Corrupt, fault.KindOf(got.Faults[0]))
	require.ErrorContains(t, got.Faults[0], `entity user "1"`)
}

func TestIncludeExpired(t *testing.T) {
	store, _ := newStore(t)
	v := aView("v", "x", "y")
	v.TTL = feature.TTLOf(time.Hour)
	v.ExpiredRetention = time.Hour
	rows := rowsOf(v, 2)
	rows.EventTimes.Int64s[1] -= time.Hour.Microseconds() + time.Minute.Microseconds()
	rows.Features[1].Status[1], rows.Features[1].Int64s[1] = feature.Null, 0
	_, err := store.Write(t.Context(), rows)
	require.NoError(t, err)
	p := plan(t, []string{"v:x", "v:y"}, v)
	o := online.ReadOptions{AsOf: feature.AsOf(time.Now().UnixMicro())}
	for _, include := range []bool{false, true} {
		o.IncludeExpired = include
		got, err := store.Read(t.Context(), p, []*feature.Column{ids(3)}, o)
		require.NoError(t, err)
		x, y := got.Columns[0], got.Columns[1]
		require.Equal(t, []feature.Status{feature.Present, feature.Expired, feature.NotFound}, x.Status)
		require.Equal(t, rows.EventTimes.Int64s[1], got.EventTimes[0][1])
		if include {
			require.Equal(t, []int64{0, 1, 0}, x.Int64s)
			require.Equal(t, feature.Null, y.Status[1], "a null stays null")
		} else {
			require.Equal(t, []int64{0, 0, 0}, x.Int64s)
			require.Equal(t, feature.Expired, y.Status[1])
		}
	}
}

// TestMemoryIsUsedAgain: an answer in the memory of an earlier one has nothing of it, whatever their sizes.
func TestMemoryIsUsedAgain(t *testing.T) {
	store, _ := newStore(t)
	texts := &feature.View{Name: "texts", Entity: user, Features: []feature.Feature{
		{Name: "s", Type: feature.String, Column: "s", Online: true}, {Name: "l", Type: feature.StringList, Column: "l", Online: true},
	}}
	rows := online.Rows{View: texts, Keys: []*feature.Column{ids(40)}, EventTimes: feature.NewColumn(feature.Timestamp, 40),
		Features: []*feature.Column{feature.NewColumn(feature.String, 40), feature.NewColumn(feature.StringList, 40)}}
	for i := range 40 {
		rows.EventTimes.AppendInt64(int64(1000 + i))
		rows.Features[0].AppendString(fmt.Sprint("text ", i))
		rows.Features[1].AppendList(func(e *feature.Column) {
			for n := range i % 4 {
				e.AppendString(fmt.Sprint(i, n))
			}
		})
	}
	_, err := store.Write(t.Context(), rows)
	require.NoError(t, err)
	p := plan(t, []string{"texts:s", "texts:l"}, texts)
	for _, first := range []int{0, 35, 7, 50, 3, 39} {
		keys := ids(20 + first%3)
		for i := range keys.Int64s {
			keys.Int64s[i] = int64(first + i)
		}
		got, err := store.Read(t.Context(), p, []*feature.Column{keys}, online.ReadOptions{})
		require.NoError(t, err)
		for i, id := range keys.Int64s {
			if id >= 40 {
				require.Equal(t, feature.NotFound, got.Columns[0].Status[i])
				require.Zero(t, got.EventTimes[0][i])
				continue
			}
			require.Equal(t, fmt.Sprint("text ", id), got.Columns[0].StringAt(i))
			require.Equal(t, int(id%4), got.Columns[1].Offsets[i+1]-got.Columns[1].Offsets[i])
			require.Equal(t, 1000+id, got.EventTimes[0][i])
		}
		got.Release()
	}
}

// TestPastNeedsVersions: a view that keeps the newest row only cannot say what was before it.
func TestPastNeedsVersions(t *testing.T) {
	store, _ := newStore(t)
	latest, history := aView("latest", "x"), aView("history", "x")
	history.HistoryVersions = 3
	history.TTL, history.ExpiredRetention = feature.TTLOf(time.Hour), time.Minute
	now := time.Now()
	_, err := store.Read(t.Context(), plan(t, []string{"history:x", "latest:x"}, latest, history), []*feature.Column{ids(1)},
		online.ReadOptions{AsOf: feature.AsOf(now.UnixMicro()), Past: true})
	require.Equal(t, fault.Precondition, fault.KindOf(err))
	require.ErrorContains(t, err, `"latest"`)

	p := plan(t, []string{"history:x"}, history)
	recent := online.ReadOptions{AsOf: feature.AsOf(now.Add(-30 * time.Second).UnixMicro()), Past: true}
	got, err := store.Read(t.Context(), p, []*feature.Column{ids(1)}, recent)
	require.NoError(t, err)
	require.Equal(t, []feature.Status{feature.NotFound}, got.Columns[0].Status)
	old := online.ReadOptions{AsOf: feature.AsOf(now.Add(-2 * time.Minute).UnixMicro()), Past: true}
	_, err = store.Read(t.Context(), p, []*feature.Column{ids(1)}, old)
	require.Equal(t, fault.Precondition, fault.KindOf(err), "its rows of then may have been dropped since")
}
