package redisstore

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// TestSwapWhoseAnswerIsLost: a swap that was made and whose answer did not come is made when it is asked for again, by the client or by the caller.
func TestSwapWhoseAnswerIsLost(t *testing.T) {
	server := testenv.Redis(t)
	proxy := testenv.NewProxy(t, server.Addr)
	admin := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer admin.Close()
	require.NoError(t, swapScript.Load(t.Context(), admin).Err())
	stored := func() string { return admin.Get(t.Context(), "tf::meta:n").Val() }

	t.Run("by the caller", func(t *testing.T) {
		s := open(t, Options{URL: "redis://" + proxy.Addr + "?max_retries=-1", Prefix: "tf"})
		defer s.Close()
		require.NoError(t, s.Ping(t.Context())) // the connection is there
		proxy.BreakAfter(1)
		_, err := s.SwapMeta(t.Context(), "n", nil, []byte("1"))
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
		require.Equal(t, "1", stored(), "it was made all the same")
		proxy.BreakAfter(0)
		swapped, err := s.SwapMeta(t.Context(), "n", nil, []byte("1"))
		require.NoError(t, err)
		require.True(t, swapped)
	})
	t.Run("by the client", func(t *testing.T) {
		s := open(t, Options{URL: "redis://" + proxy.Addr + "?max_retries=1000&max_retry_backoff=20ms", Prefix: "tf", Timeout: 30 * time.Second})
		defer s.Close()
		require.NoError(t, s.Ping(t.Context()))
		proxy.BreakAfter(1)
		mended := make(chan struct{})
		go func() {
			defer close(mended)
			for stored() != "2" && t.Context().Err() == nil {
				<-time.After(time.Millisecond)
			}
			proxy.BreakAfter(0)
		}()
		swapped, err := s.SwapMeta(t.Context(), "n", []byte("1"), []byte("2"))
		require.NoError(t, err)
		require.True(t, swapped)
		<-mended
	})
}

// TestSwapErrors: a user who may not remove keys is told so, and another type under the key is not touched.
func TestSwapErrors(t *testing.T) {
	server := testenv.Redis(t, append(acl[:len(acl):len(acl)], "-del")...)
	admin := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer admin.Close()
	s := open(t, Options{URL: "redis://" + aclLogin + server.Addr, Prefix: "tf"})
	defer s.Close()
	swapped, err := s.SwapMeta(t.Context(), "n", nil, []byte("1"))
	require.NoError(t, err)
	require.True(t, swapped)
	_, err = s.SwapMeta(t.Context(), "n", []byte("1"), nil)
	require.Equal(t, fault.Precondition, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "rights")

	require.NoError(t, admin.RPush(t.Context(), "tf::meta:list", "x").Err())
	_, err = s.SwapMeta(t.Context(), "list", nil, []byte("1"))
	require.Equal(t, fault.Precondition, fault.KindOf(err), "%v", err)
	require.EqualValues(t, 1, admin.LLen(t.Context(), "tf::meta:list").Val())
}

// TestSwapScriptIsForgotten: a server that forgets its scripts is given this one again.
func TestSwapScriptIsForgotten(t *testing.T) {
	server := testenv.Redis(t)
	s := open(t, Options{URL: server.URL})
	defer s.Close()
	for _, c := range [][2][]byte{{nil, []byte("1")}, {[]byte("1"), []byte("2")}, {[]byte("2"), nil}} {
		server.Do(t, "SCRIPT", "FLUSH")
		swapped, err := s.SwapMeta(t.Context(), "n", c[0], c[1])
		require.NoError(t, err)
		require.True(t, swapped)
	}
}
