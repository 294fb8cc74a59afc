package main

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// dialFeatures connects to a server.
func dialFeatures(t *testing.T, d *daemon) twofoldv1.FeatureServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(d.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return twofoldv1.NewFeatureServiceClient(conn)
}

// aircraft asks for the model of an aircraft.
func aircraft(ctx context.Context, c twofoldv1.FeatureServiceClient) (string, error) {
	resp, err := c.GetOnlineFeatures(ctx, &twofoldv1.GetOnlineFeaturesRequest{
		Features: []string{"aircraft:model"}, Entities: []*twofoldv1.Column{client.Strings("tail_number", "N514UA")},
	})
	if err != nil {
		return "", err
	}
	model, _ := client.String(client.Find(resp.GetColumns(), "aircraft:model"), 0)
	return model, nil
}

// awaitModel asks until the error, nil for the right answer, is as wanted. No answer may ever be wrong.
func awaitModel(t *testing.T, c twofoldv1.FeatureServiceClient, ok func(error) bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; <-time.After(5 * time.Millisecond) {
		got, err := aircraft(t.Context(), c)
		if err == nil {
			require.Equal(t, "757-222", got)
		} else {
			require.Equal(t, codes.Unavailable, status.Code(err), err)
		}
		if ok(err) {
			return
		}
		require.True(t, time.Now().Before(deadline), "the last answer: %v", err)
	}
}

// While Redis is away, requests fail at once and say why, the log and the metrics say it once, and all is well again when it comes back. Another
// server has no breaker, as it was told.
func TestBreaker(t *testing.T) {
	redis := testenv.Redis(t, "--appendonly", "yes")
	env := append(replay(t), "ONLINE_STORE_REDIS="+redis.URL)
	twofold(t, env, "sync", "--once").ok(t)
	d, plain := start(t, env, "serve"), start(t, append(env, "TWOFOLD_ONLINE_STORE_BREAKER_ENABLED=false"), "serve")
	features, plainFeatures := dialFeatures(t, d), dialFeatures(t, plain)
	well := func(err error) bool { return err == nil }
	awaitModel(t, features, well)
	awaitModel(t, plainFeatures, well)

	redis.Kill()
	shed := func(err error) bool { return err != nil && strings.Contains(err.Error(), " is not asked since ") }
	awaitModel(t, features, shed)
	for range 20 {
		awaitModel(t, plainFeatures, func(err error) bool { return err != nil && !shed(err) })
	}
	_, metrics := fetch(t, d.http, "/metrics")
	require.Contains(t, metrics, "\ntwofold_online_store_breaker_opened_total 1\n")
	require.Regexp(t, `(?m)^twofold_online_store_breaker_state [12]$`, metrics)
	require.Regexp(t, `(?m)^twofold_online_store_breaker_rejected_total [1-9]`, metrics)
	_, metrics = fetch(t, plain.http, "/metrics")
	require.NotContains(t, metrics, "breaker")

	redis.Restart(t)
	awaitModel(t, features, well)
	awaitModel(t, plainFeatures, well)
	d.wait(t, `"msg":"online store: it answers again"`)
	require.Equal(t, 1, strings.Count(d.log(), "calls fail at once until it answers again"), d.log())
	require.NotContains(t, plain.log(), "calls fail at once")
	d.stop(t, syscall.SIGTERM)
	plain.stop(t, syscall.SIGTERM)
}

// A server starts with a password that is wrong, says so to whoever asks, never which, and answers when Redis has it.
func TestWrongPassword(t *testing.T) {
	redis := testenv.Redis(t, "--requirepass", "other")
	env := append(replay(t), "ONLINE_STORE_REDIS=redis://:hunter2@"+redis.Addr)
	d := start(t, env, "serve")
	features := dialFeatures(t, d)
	awaitModel(t, features, func(err error) bool {
		return err != nil && strings.Contains(err.Error(), "WRONGPASS") && strings.Contains(err.Error(), "check the user and password of the Redis URL")
	})
	d.wait(t, `"msg":"not ready"`)
	r := twofold(t, env, "sync", "--once")
	require.Equal(t, exitFailure, r.code, "waiting does not help: %s", r.stderr)
	redis.RestartWith(t, "--requirepass", "hunter2")
	twofold(t, env, "sync", "--once").ok(t)
	awaitModel(t, features, func(err error) bool { return err == nil })
	d.stop(t, syscall.SIGTERM)
	require.NotContains(t, d.log()+r.out+r.stderr, "hunter2")
}
