package onlinetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/online/driver"
)

func testReads(t *testing.T, h Harness) {
	d := h.open(t)
	t.Run("nothing", func(t *testing.T) {
		rows, err := d.Read(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, rows)
		outcomes, err := d.Write(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, outcomes)
	})
	t.Run("order, duplicates and missing rows", func(t *testing.T) {
		write(t, d, row("a", "v1", value(1, 0, "a1")), row("a", "v2", value(1, 0, "a2")), row("b", "v1", value(1, 0, "b1")))
		got, err := d.Read(t.Context(), []driver.Read{
			{Entity: entity("b"), Views: []string{"v2", "v1"}},
			{Entity: entity("nobody"), Views: []string{"v1"}},
			{Entity: entity("a"), Views: []string{"v2", "none", "v1"}},
			{Entity: entity("b"), Views: []string{"v1"}},
			{Entity: entity("a"), Views: []string{"v2"}},
			{Entity: driver.Entity{Name: "other", Key: []byte("a")}, Views: []string{"v1"}},
		})
		require.NoError(t, err)
		require.Equal(t, [][]byte{
			nil, value(1, 0, "b1"),
			nil,
			value(1, 0, "a2"), nil, value(1, 0, "a1"),
			value(1, 0, "b1"),
			value(1, 0, "a2"),
			nil,
		}, got)
	})
	t.Run("appending to a row reaches no other", func(t *testing.T) {
		write(t, d, row("mine", "v", value(1, 0, "x")), row("mine", "w", value(1, 0, "y")))
		want := [][]byte{value(1, 0, "x"), value(1, 0, "y")}
		got := read(t, d, "mine", "v", "w")
		for i := range got {
			_ = append(got[i], 0xff, 0xff, 0xff, 0xff)
		}
		require.Equal(t, want, got)
		require.Equal(t, want, read(t, d, "mine", "v", "w"))
	})
	t.Run("rows stay as they were returned", func(t *testing.T) {
		write(t, d, row("kept", "v", value(1, 0, "x")), row("kept", "w", value(1, 0, "y")))
		got := read(t, d, "kept", "v", "w")
		write(t, d, row("kept", "v", value(2, 0, "z")), row("kept", "w", tombstone(2, 0)))
		require.Equal(t, [][]byte{value(2, 0, "z"), tombstone(2, 0)}, read(t, d, "kept", "v", "w"))
		require.Equal(t, [][]byte{value(1, 0, "x"), value(1, 0, "y")}, got)
	})
	t.Run("keys that would collide", testColliding(d))
	t.Run("large rows", func(t *testing.T) {
		large := strings.Repeat("0123456789abcdef", 1<<16)
		write(t, d, row("large", "v", value(1, 0, large+"x")))
		require.Equal(t, [][]byte{value(1, 0, large+"x")}, read(t, d, "large", "v"))
	})
	t.Run("10,000 keys", func(t *testing.T) {
		const n = 10_000
		rows := make([]driver.Row, n)
		reads := make([]driver.Read, n)
		want := make([][]byte, n)
		for i := range n {
			key := fmt.Sprintf("many-%d", i)
			want[i] = value(int64(i), 0, key)
			rows[i] = row(key, "v", want[i])
			reads[n-1-i] = driver.Read{Entity: entity(key), Views: []string{"v"}}
		}
		for _, o := range write(t, d, rows...) {
			require.Equal(t, driver.Written, o)
		}
		got, err := d.Read(t.Context(), reads)
		require.NoError(t, err)
		require.Len(t, got, n)
		for i := range n {
			require.Equal(t, want[i], got[n-1-i])
		}
	})
}

// collidingEntities and collidingViews are entities and views whose names and keys, put one after the other, are the same.
var (
	collidingEntities = []driver.Entity{
		{Name: "a", Key: []byte("b:c")}, {Name: "a", Key: []byte("b")}, {Name: "ab", Key: []byte(":c")}, {Name: "a", Key: nil},
		{Name: "a", Key: []byte("1:b,c")}, {Name: "a", Key: []byte("2:bc,")}, {Name: "a", Key: []byte{0}}, {Name: "a", Key: []byte{0, 0}},
		{Name: "a", Key: []byte{0xff, 0xfe, '\n'}}, {Name: "a", Key: []byte("{b}c")}, {Name: "a", Key: []byte("bv")}, {Name: "meta", Key: []byte("x")},
	}
	collidingViews = []string{"v", "vv", "c", "bv"}
)

// testColliding writes rows of entities and views that are easily taken for each other.
func testColliding(d driver.Driver) func(t *testing.T) {
	return func(t *testing.T) {
		var rows []driver.Row
		var reads []driver.Read
		for i, e := range collidingEntities {
			reads = append(reads, driver.Read{Entity: e, Views: collidingViews})
			for _, v := range collidingViews {
				rows = append(rows, driver.Row{Entity: e, View: v, Value: value(1, 0, fmt.Sprint(i, v))})
			}
		}
		write(t, d, rows...)
		got, err := d.Read(t.Context(), reads)
		require.NoError(t, err)
		require.Len(t, got, len(rows))
		for i := range rows {
			require.Equal(t, rows[i].Value, got[i], "entity %q view %q", rows[i].Entity, rows[i].View)
		}
	}
}
