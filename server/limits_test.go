package server_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
)

func TestPushLimit(t *testing.T) {
	env := start(t, func(c *servertest.Config) { c.Change = func(o *server.Options) { o.MaxRows = 2 } })
	rows := func(users ...int64) *twofoldv1.PushFeaturesRequest {
		req := &twofoldv1.PushFeaturesRequest{FeatureView: "profile", Columns: []*twofoldv1.Column{client.Int64s("user_id", users...)}}
		times, ages, names := make([]time.Time, len(users)), make([]int32, len(users)), make([]string, len(users))
		for i := range times {
			times[i] = now
		}
		req.Columns = append(req.Columns, client.Timestamps("event_timestamp", times...), client.Int32s("age", ages...), client.Strings("name", names...))
		return req
	}
	if resp, err := env.Client.Push(t.Context(), rows(1, 2)); err != nil || resp.GetRowsWritten() != 2 {
		t.Errorf("as many rows as may be: %v, %v", resp, err)
	}
	_, err := env.Client.Push(t.Context(), rows(3, 4, 5))
	wantError(t, err, codes.ResourceExhausted, "columns[0]", "limit of 2")
	if got := age(t, env, 4); got != "NOT_FOUND" {
		t.Errorf("a refused push was stored: age %s", got)
	}
}
