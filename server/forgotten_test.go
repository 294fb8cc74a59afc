package server_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
)

const forgetDefinitions = `
entities: [{name: user, keys: [{name: user_id, type: INT64}]}]
feature_views:
  - {name: v, entity: user, source: {path: none, event_time_column: at}, sync: {enabled: false}, features: [{name: x, type: INT64}]}
`

// during is a store in which something happens while rows are written.
type during struct {
	driver.Driver
	then atomic.Pointer[func()]
}

func (d *during) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	if then := d.then.Swap(nil); then != nil {
		(*then)()
	}
	return d.Driver.Write(ctx, rows)
}

// forgetIn puts users into a store's list of forgotten entities, and does no more.
func forgetIn(t *testing.T, store *online.Store, users ...int64) {
	state, scope := syncstate.New(store), syncstate.Scope{Keys: []string{"user_id"}}
	list, err := state.PrepareForget(t.Context(), scope)
	require.NoError(t, err)
	keys := feature.NewColumn(feature.Int64, len(users))
	for _, user := range users {
		keys.AppendInt64(user)
	}
	some, _ := list.Only(scope, []*feature.Column{keys})
	_, err = state.Forget(t.Context(), some)
	require.NoError(t, err)
}

func pushUsers(users ...int64) *twofoldv1.PushFeaturesRequest {
	var times []time.Time
	for range users {
		times = append(times, time.Now().Add(-time.Minute))
	}
	return &twofoldv1.PushFeaturesRequest{FeatureView: "v", Columns: []*twofoldv1.Column{
		client.Int64s("user_id", users...), client.Timestamps("event_timestamp", times...), client.Int64s("x", users...),
	}}
}

func userStatuses(t *testing.T, env *servertest.Env, users ...int64) []string {
	answer, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"v:x"}, Entities: []*twofoldv1.Column{client.Int64s("user_id", users...)}, OmitEntities: true})
	require.NoError(t, err)
	var statuses []string
	for i := range users {
		statuses = append(statuses, client.Status(answer.GetColumns()[0], i).String())
	}
	return statuses
}

const isPresent, isNotFound = "VALUE_STATUS_PRESENT", "VALUE_STATUS_NOT_FOUND"

// TestPushForgotten: rows of entities that were forgotten are left out and counted; errors name rows as the request numbers them; a list that is damaged lets nothing through.
func TestPushForgotten(t *testing.T) {
	env := servertest.Start(t, servertest.Config{Definitions: forgetDefinitions, Change: func(o *server.Options) { o.ForgottenMaxAge = time.Nanosecond }})
	forgetIn(t, env.Online, 2, 4)
	answer, err := env.Client.Push(t.Context(), pushUsers(1, 2, 3, 4, 2))
	require.NoError(t, err)
	require.Equal(t, []uint64{2, 3}, []uint64{answer.GetRowsWritten(), answer.GetRowsForgotten()})
	require.Equal(t, []string{isPresent, isNotFound, isPresent, isNotFound}, userStatuses(t, env, 1, 2, 3, 4))
	answer, err = env.Client.Push(t.Context(), pushUsers(2))
	require.NoError(t, err)
	require.Equal(t, uint64(1), answer.GetRowsForgotten())

	null := pushUsers(2, 4, 5)
	null.Columns[0].Statuses = []twofoldv1.ValueStatus{twofoldv1.ValueStatus_VALUE_STATUS_PRESENT, twofoldv1.ValueStatus_VALUE_STATUS_PRESENT, twofoldv1.ValueStatus_VALUE_STATUS_NULL}
	_, err = env.Client.Push(t.Context(), null)
	wantError(t, err, codes.InvalidArgument, "", "row 2", "user_id")

	require.NoError(t, env.Online.PutMeta(t.Context(), "forgotten", []byte{1}))
	_, err = env.Client.Push(t.Context(), pushUsers(1))
	require.ErrorContains(t, err, "forgotten entities")
	require.NotEqual(t, codes.OK, status.Code(err))
}

// TestPushWhileForgotten: a push that took longer than a list counts takes back what it should not have written.
func TestPushWhileForgotten(t *testing.T) {
	store := &during{Driver: servertest.Memory(t)}
	env := servertest.Start(t, servertest.Config{Definitions: forgetDefinitions, Online: store, Change: func(o *server.Options) { o.ForgottenMaxAge = time.Nanosecond }})
	forgetIn(t, env.Online, 9)
	forget := func() { forgetIn(t, env.Online, 2) }
	store.then.Store(&forget)
	_, err := env.Client.Push(t.Context(), pushUsers(1, 2, 9))
	wantError(t, err, codes.Unavailable, "", "1 of the rows were forgotten")
	require.Equal(t, []string{isPresent, isNotFound, isNotFound}, userStatuses(t, env, 1, 2, 9))
	answer, err := env.Client.Push(t.Context(), pushUsers(1, 2, 9))
	require.NoError(t, err)
	require.Equal(t, []uint64{1, 2}, []uint64{answer.GetRowsWritten() + answer.GetRowsUnchanged() + answer.GetRowsOlder(), answer.GetRowsForgotten()})
}
