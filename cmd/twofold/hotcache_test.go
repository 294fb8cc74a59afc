package main

import (
	"net/http"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A server that keeps rows in memory answers the same from there as from the store.
func TestHotCache(t *testing.T) {
	d := start(t, append(replay(t), "TWOFOLD_HOT_CACHE_MAX_BYTES=8MiB", "TWOFOLD_HOT_CACHE_MAX_STALENESS=1h"), "serve")
	require.Contains(t, d.log(), "keeping rows in memory")
	d.synced(t)
	d.wait(t, `"msg":"ready"`)
	get := func() string {
		return twofold(t, nil, "get", "departure_delay_v1", "origin=EWR", "carrier=UA", "tail_number=N514UA,none", "-o", "csv", "--server", d.grpc).ok(t)
	}
	first := get()
	require.Contains(t, first, "BOEING")
	require.Equal(t, first, get())
	code, body := fetch(t, d.http, "/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Regexp(t, `(?m)^twofold_hot_cache_rows_total\{result="hit"\} [1-9]`, body)
	require.Regexp(t, `(?m)^twofold_hot_cache_entities [1-9]`, body)
	require.Regexp(t, `(?m)^twofold_hot_cache_max_bytes 8.388608e\+06$`, body)
	d.stop(t, syscall.SIGTERM)
}
