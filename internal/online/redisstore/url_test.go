package redisstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
)

func TestURLs(t *testing.T) {
	type want struct {
		addrs            []string
		user, password   string
		db               int
		master           string
		sentinelPassword string
		cluster, tls     bool
	}
	for text, w := range map[string]want{
		"redis://localhost":                                 {addrs: []string{"localhost:6379"}},
		"redis://":                                          {addrs: []string{"localhost:6379"}},
		"redis://h:1/3":                                     {addrs: []string{"h:1"}, db: 3},
		"redis://:p%40ss@h":                                 {addrs: []string{"h:6379"}, password: "p@ss"},
		"rediss://u:p@h:7?pool_size=5":                      {addrs: []string{"h:7"}, user: "u", password: "p", tls: true},
		"redis://[::1]:7":                                   {addrs: []string{"[::1]:7"}},
		"redis+cluster://u:p@h1:1,h2,[::1]:3":               {addrs: []string{"h1:1", "h2:6379", "[::1]:3"}, user: "u", password: "p", cluster: true},
		"redis+cluster://one":                               {addrs: []string{"one:6379"}, cluster: true},
		"rediss+sentinel://u:p@h1,h2:2/main?db=4":           {addrs: []string{"h1:26379", "h2:2"}, user: "u", password: "p", db: 4, master: "main", tls: true},
		"redis+sentinel://h1/main?sentinel_password=q&db=1": {addrs: []string{"h1:26379"}, db: 1, master: "main", sentinelPassword: "q"},
	} {
		u, target, err := Options{URL: text}.withDefaults().universal()
		require.NoError(t, err, text)
		got := want{u.Addrs, u.Username, u.Password, u.DB, u.MasterName, u.SentinelPassword, u.IsClusterMode, u.TLSConfig != nil}
		require.Equal(t, w, got, text)
		require.True(t, u.ContextTimeoutEnabled)
		require.Equal(t, 3*time.Second, u.ReadTimeout)
		require.Contains(t, target, u.Addrs[0])
		if len(u.Addrs) > 1 && w.tls {
			require.Empty(t, u.TLSConfig.ServerName)
		}
	}
}

func TestBadURLs(t *testing.T) {
	for _, text := range []string{
		"", "localhost:6379", "http://u:hunter2@h", "redis+ring://u:hunter2@h", "redis://u:hunter2@h:port", "redis://u:hun/ter2@h", "redis://u:hunter2%zz@h",
		"redis://u:hunter2@h/db", "redis://u:hunter2@a,b", "redis+sentinel://u:hunter2@h", "redis+cluster://u:hunter2@h/3", "redis://u:hunter2@h?hunter2=1",
		"redis://u:hunter2@::1:7", "redis+sentinel://h/main/hunter2", "redis://hunter2?x@h:h",
	} {
		_, err := Open(Options{URL: text})
		require.Equal(t, fault.Invalid, fault.KindOf(err), text)
		require.NotContains(t, err.Error(), "hunter2", text)
		require.NotContains(t, err.Error(), "ter2", text)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", Options{URL: text}, Options{URL: text}, Options{URL: text}, Options{URL: text}), "hunter2", text)
	}
	s, err := Open(Options{URL: "redis://u:hunter2@h"})
	require.NoError(t, err)
	require.Equal(t, "Redis h:6379", s.String())
	require.NoError(t, s.Close())
	require.Equal(t, "Redis h:6379", fmt.Sprint(Options{URL: "redis://u:hunter2@h"}))
}

// FuzzURL: no text as a password makes Open panic or repeat it, and neither does any text as a whole URL.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{"redis://u:p@h:1/2?db=3", "rediss+sentinel://a,b/m?sentinel_password=x", "redis+cluster://[::1]:1,b", "redis://%zz@", "/?#@:%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, whole := range []string{text, "redis://user:hunter2" + text + "@h"} {
			s, err := Open(Options{URL: whole})
			if err == nil {
				require.NotContains(t, s.String(), "hunter2")
				require.NoError(t, s.Close())
				continue
			}
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			require.NotContains(t, err.Error(), "hunter2")
		}
	})
}

func TestSlots(t *testing.T) {
	for key, slot := range map[string]uint16{"123456789": 0x31c3, "foo": 12182, "{foo}bar": 12182, "x{foo}{bar}": 12182, "": 0} {
		if got := slotOf(key); got != slot {
			t.Errorf("slot of %q is %d, want %d", key, got, slot)
		}
	}
	require.NotEqual(t, slotOf("foo"), slotOf("{}foo"), "an empty tag is none")
}
