package offline

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
)

// TestS3BodiesThatBreakOff: a body that breaks off is asked for again from where it ended, and only of the same version. The server is a
// fake because no real one breaks off when told to.
func TestS3BodiesThatBreakOff(t *testing.T) {
	data := make([]byte, 1000)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	for name, c := range map[string]struct {
		// give is how many bytes each answer gives, etags its version.
		give  []int
		etags []string
		want  string // in the text of the error; empty where there is none
	}{
		"whole":             {[]int{600}, []string{`"a"`}, ""},
		"in pieces":         {[]int{100, 1, 499}, []string{`"a"`, `"a"`, `"a"`}, ""},
		"nothing at first":  {[]int{0, 600}, []string{`"a"`, `"a"`}, ""},
		"another version":   {[]int{100, 500}, []string{`"a"`, `"b"`}, "was replaced"},
		"again and again":   {[]int{1, 1, 1, 1, 596}, []string{`"a"`, `"a"`, `"a"`, `"a"`, `"a"`}, "unexpected EOF"},
		"replaced at first": {[]int{600}, []string{`"b"`}, "was replaced"},
	} {
		t.Run(name, func(t *testing.T) {
			var answers atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				i := int(answers.Add(1)) - 1
				var from, to int
				if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil || i >= len(c.give) {
					t.Errorf("request %d: range %q", i, r.Header.Get("Range"))
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				w.Header().Set("ETag", c.etags[i])
				w.Header().Set("Content-Length", fmt.Sprint(to+1-from))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(data[from : from+c.give[i]]) // a client that went away is no fault of the fake
			}))
			defer server.Close()
			d, err := newS3Driver(t.Context(), S3Config{Endpoint: server.URL, PathStyle: true, AccessKeyID: "a", SecretAccessKey: "b"})
			require.NoError(t, err)
			r, err := d.open(t.Context(), object{at: location{bucket: "b", path: "x"}, size: 1000, etag: `"a"`})
			require.NoError(t, err)
			got := make([]byte, 600)
			err = r.readAt(t.Context(), got, 200)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				require.Equal(t, fault.Unavailable, fault.KindOf(err))
				return
			}
			require.NoError(t, err)
			require.True(t, bytes.Equal(data[200:800], got), "other bytes than those asked for")
			require.EqualValues(t, len(c.give), answers.Load())
		})
	}
}

// TestS3BodiesThatStall: a body that stops half way, on a connection that stays open, is given up and the rest asked for again.
func TestS3BodiesThatStall(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 100)
	var answers atomic.Int64
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var from, to int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil {
			t.Errorf("range %q", r.Header.Get("Range"))
		}
		w.Header().Set("ETag", `"a"`)
		w.Header().Set("Content-Length", fmt.Sprint(to+1-from))
		w.WriteHeader(http.StatusPartialContent)
		if answers.Add(1) > 1 {
			_, _ = w.Write(data[from : to+1])
			return
		}
		_, _ = w.Write(data[from : from+10])
		_ = http.NewResponseController(w).Flush()
		<-over
	}))
	defer server.Close()
	defer close(over)
	d, err := newS3Driver(t.Context(), S3Config{Endpoint: server.URL, PathStyle: true, AccessKeyID: "a", SecretAccessKey: "b"})
	require.NoError(t, err)
	d.patience = 100 * time.Millisecond
	r, err := d.open(t.Context(), object{at: location{bucket: "b", path: "x"}, size: 1000, etag: `"a"`})
	require.NoError(t, err)
	got := make([]byte, 600)
	require.NoError(t, r.readAt(t.Context(), got, 200))
	require.Equal(t, data[200:800], got)
	require.EqualValues(t, 2, answers.Load())
}
