package syncstate_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/syncstate"
)

func entity(name string, keys ...feature.Key) *feature.Entity {
	return &feature.Entity{Name: name, Keys: keys}
}

func key(name string, t feature.Type) feature.Key { return feature.Key{Name: name, Type: t} }

func numbers(values ...int64) *feature.Column {
	c := feature.NewColumn(feature.Int64, len(values))
	for _, v := range values {
		c.AppendInt64(v)
	}
	return c
}

func texts(values ...string) *feature.Column {
	c := feature.NewColumn(feature.String, len(values))
	for _, v := range values {
		c.AppendString(v)
	}
	return c
}

// matches says which rows of an entity are forgotten; none where no row can be.
func matches(f *syncstate.Forgotten, e *feature.Entity, keys ...*feature.Column) []bool {
	m := f.Matcher(e)
	if m == nil {
		return make([]bool, keys[0].Len())
	}
	return m.Match(keys)
}

// TestForgotten: what is put into the list by one process matches in another, under every entity that has the keys, and no more once it is taken off.
func TestForgotten(t *testing.T) {
	eachStore(t, func(t *testing.T, a, b *syncstate.Store, values *online.Store) {
		empty, err := b.Forgotten(t.Context())
		require.NoError(t, err)
		user, id := entity("user", key("user_id", feature.Int64)), syncstate.Scope{Keys: []string{"user_id"}}
		require.Nil(t, empty.Matcher(user))
		list, err := a.PrepareForget(t.Context(), id)
		require.NoError(t, err)
		some, hashes := list.Only(id, []*feature.Column{numbers(42, -7)})
		added, err := a.Forget(t.Context(), some)
		require.NoError(t, err)
		require.Equal(t, 2, added)
		added, err = a.Forget(t.Context(), some)
		require.NoError(t, err)
		require.Zero(t, added)

		exact := syncstate.Scope{Keys: []string{"user_id"}, Entity: "user"}
		list, err = b.PrepareForget(t.Context(), exact)
		require.NoError(t, err)
		require.True(t, list.Has(hashes[0]))
		only, _ := list.Only(exact, []*feature.Column{numbers(5)})
		_, err = b.Forget(t.Context(), only)
		require.NoError(t, err)

		now, err := a.ForgottenSince(t.Context(), empty)
		require.NoError(t, err)
		require.Equal(t, 3, now.Len())
		same, err := a.ForgottenSince(t.Context(), now)
		require.NoError(t, err)
		require.Same(t, now, same)
		null := numbers(42)
		null.AppendMissing(feature.Null)
		require.Equal(t, []bool{true, false}, matches(now, user, null))
		require.Equal(t, []bool{true, false, true, true}, matches(now, user, numbers(42, 43, -7, 5)))
		require.Equal(t, []bool{true, false, true, false}, matches(now, entity("account", key("user_id", feature.String)), texts("42", "042", "-7", "5")))
		item := entity("user_item", key("item", feature.String), key("user_id", feature.Int64))
		require.Equal(t, []bool{true, false, false}, matches(now, item, texts("42", "42", "x"), numbers(42, 1, 5)))
		require.Nil(t, now.Matcher(entity("device", key("device_id", feature.Int64))))

		removed, err := b.Allow(t.Context(), some)
		require.NoError(t, err)
		require.Equal(t, 2, removed)
		now, err = a.ForgottenSince(t.Context(), now)
		require.NoError(t, err)
		require.Equal(t, []bool{false, true}, matches(now, user, numbers(42, 5)))
		stored, err := values.GetMeta(t.Context(), []string{"forgotten"})
		require.NoError(t, err)
		require.NotContains(t, string(stored[0]), "42")
	})
}

// TestForgottenKeysAreNotMixedUp: keys whose texts together are the same are other entities.
func TestForgottenKeysAreNotMixedUp(t *testing.T) {
	scope := syncstate.Scope{Keys: []string{"a", "b"}}
	e := entity("pair", key("b", feature.String), key("a", feature.String))
	some, _ := new(syncstate.Forgotten).Only(scope, []*feature.Column{texts("x"), texts("yz")})
	require.Equal(t, []bool{true, false, false, false}, matches(some, e, texts("yz", "z", "x", "xyz"), texts("x", "xy", "yz", "")))
}

// TestForgottenIsWholeOrNothing: a list of which a part is lost or damaged is an error, and never taken for nobody; an exported one mends it.
func TestForgottenIsWholeOrNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, a, _ *syncstate.Store, values *online.Store) {
		scope := syncstate.Scope{Keys: []string{"user_id"}}
		list, err := a.PrepareForget(t.Context(), scope)
		require.NoError(t, err)
		var all []int64
		for i := range int64(2000) {
			all = append(all, i)
		}
		some, hashes := list.Only(scope, []*feature.Column{numbers(all...)})
		_, err = a.Forget(t.Context(), some)
		require.NoError(t, err)
		list, err = a.Forgotten(t.Context())
		require.NoError(t, err)
		exported := list.Export()
		for _, name := range []string{"forgotten", fmt.Sprintf("forgotten/%d", hashes[0][0])} {
			for _, damage := range [][]byte{nil, {1, 2, 3}, []byte("\x0a\x03abc")} {
				stored, err := values.GetMeta(t.Context(), []string{name})
				require.NoError(t, err)
				swapped, err := values.SwapMeta(t.Context(), name, stored[0], damage)
				require.NoError(t, err)
				require.True(t, swapped)
				_, err = a.ForgottenSince(t.Context(), nil)
				require.Equal(t, fault.Corrupt, fault.KindOf(err), "%v", err)
				require.ErrorContains(t, err, "--import")
				_, err = a.PrepareForget(t.Context(), scope)
				require.Equal(t, fault.Corrupt, fault.KindOf(err))
				if name == "forgotten" && damage != nil {
					require.NoError(t, values.PutMeta(t.Context(), name, stored[0]))
					continue // only a new list mends it
				}
				again, err := syncstate.ImportForgotten(exported)
				require.NoError(t, err)
				_, err = a.PutForgotten(t.Context(), again)
				require.NoError(t, err)
				mended, err := a.Forgotten(t.Context())
				require.NoError(t, err)
				require.True(t, proto.Equal(exported, mended.Export()))
			}
		}
		other := proto.CloneOf(exported)
		other.Key[0]++
		apart, err := syncstate.ImportForgotten(other)
		require.NoError(t, err)
		_, err = a.PutForgotten(t.Context(), apart)
		require.ErrorContains(t, err, "has a list of its own")
		require.NoError(t, a.ClearForgotten(t.Context()))
		list, err = a.Forgotten(t.Context())
		require.NoError(t, err)
		require.Zero(t, list.Len())
		_, err = a.PutForgotten(t.Context(), apart)
		require.NoError(t, err)
	})
}

// noSwaps is a store of which the last part of a change is never made.
type noSwaps struct {
	syncstate.Values
	name string
}

func (n noSwaps) SwapMeta(ctx context.Context, name string, old, value []byte) (bool, error) {
	if name == n.name {
		return false, fault.New(fault.Unavailable, "gone")
	}
	return n.Values.SwapMeta(ctx, name, old, value)
}

// TestForgetBegun: a list of which only the parts were made is an empty one.
func TestForgetBegun(t *testing.T) {
	eachStore(t, func(t *testing.T, a, _ *syncstate.Store, values *online.Store) {
		_, err := syncstate.New(noSwaps{values, "forgotten"}).PrepareForget(t.Context(), syncstate.Scope{Keys: []string{"k"}})
		require.Error(t, err)
		list, err := a.Forgotten(t.Context())
		require.NoError(t, err)
		require.Zero(t, list.Len())
	})
}

// TestCarried: views are listed by name, and those without places are not.
func TestCarried(t *testing.T) {
	eachStore(t, func(t *testing.T, a, b *syncstate.Store, _ *online.Store) {
		place := func(view string, places ...*twofoldv1.RowPlace) {
			require.NoError(t, a.UpdateCarried(t.Context(), view, func(c *twofoldv1.CarriedView) bool {
				c.Places = places
				return true
			}))
		}
		names := func() string {
			all, err := b.Carried(t.Context())
			require.NoError(t, err)
			var names []string
			for _, c := range all {
				names = append(names, c.GetFeatureView())
			}
			return strings.Join(names, " ")
		}
		user := &feature.View{Name: "v", Entity: entity("user", key("id", feature.Int64), key("day", feature.Int32)), HistoryVersions: 3}
		place("c", syncstate.PlaceOf(user))
		place("a", syncstate.PlaceOf(user))
		place("b")
		require.Equal(t, "a c", names())
		require.NoError(t, a.UpdateCarried(t.Context(), "a", func(*twofoldv1.CarriedView) bool { return false }))
		place("a")
		require.Equal(t, "c", names())
		all, err := b.Carried(t.Context())
		require.NoError(t, err)
		at := syncstate.ViewAt("c", all[0].GetPlaces()[0])
		require.Equal(t, user.Entity, at.Entity)
		require.Positive(t, at.HistoryVersions)
	})
}

func TestKeysOfPlaces(t *testing.T) {
	place := func(keys ...feature.Key) *twofoldv1.RowPlace {
		return syncstate.PlaceOf(&feature.View{Entity: entity("e", keys...)})
	}
	a, b := key("a", feature.Int64), key("b", feature.Int64)
	require.True(t, syncstate.IsSameKey(place(a, b), place(a, b)))
	require.True(t, syncstate.IsSameKey(place(a, b), place(a, key("c", feature.Int64))), "only named anew")
	require.False(t, syncstate.IsSameKey(place(a, b), place(b, a)))
	require.False(t, syncstate.IsSameKey(place(a, b), place(b, key("c", feature.Int64))))
	require.False(t, syncstate.IsSameKey(place(a), place(key("a", feature.String))))
}
