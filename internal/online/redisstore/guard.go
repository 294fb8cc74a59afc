package redisstore

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Guard stands before every call of one server. It makes the call, or refuses to with an error of its own. The error that it is given by the call
// is nil unless the server cannot be reached or does not answer; then its kind is fault.Unavailable.
type Guard func(ctx context.Context, call func(context.Context) error) error

// guardNodes puts a guard before each node of a cluster.
func (s *Store) guardNodes(c *redis.ClusterClient) {
	c.OnNewNode(func(node *redis.Client) {
		address := node.Options().Addr
		node.AddHook(guardHook{s.o.GuardNode("Redis Cluster node " + address)})
	})
}

// guardHook is the place where the client lets a guard stand.
type guardHook struct{ guard Guard }

var _ redis.Hook = guardHook{}

// DialHook implements redis.Hook.
func (guardHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h guardHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		return h.call(ctx, func(ctx context.Context) error { return next(ctx, command) }, func(err error) { command.SetErr(err) })
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h guardHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		return h.call(ctx, func(ctx context.Context) error { return next(ctx, commands) }, func(err error) {
			for _, command := range commands {
				command.SetErr(err)
			}
		})
	}
}

// passed marks the context of a call that a guard makes: the client gives the commands that set up its connection to the hooks too, and they are
// part of the call.
type passed struct{}

// call lets the guard make the call. A call that was made has the error that it gave, whatever the guard was told.
func (h guardHook) call(ctx context.Context, next func(context.Context) error, refuse func(error)) error {
	if ctx.Value(passed{}) != nil {
		return next(ctx)
	}
	ctx = context.WithValue(ctx, passed{}, true)
	made := false
	var answer error
	err := h.guard(ctx, func(ctx context.Context) error {
		made = true
		answer = next(ctx)
		return sickness(answer)
	})
	if made {
		return answer
	}
	refuse(err)
	return err
}

// sickness returns an error of kind fault.Unavailable where the error of a call says that its server is sick, else nil. A node that answers,
// even that a key has moved or that the cluster is incomplete, is well itself.
func sickness(err error) error {
	if _, ok := errors.AsType[redis.Error](err); err == nil || (ok && !redis.IsLoadingError(err) && !redis.IsMaxClientsError(err)) {
		return nil
	}
	if errors.Is(err, redis.ErrClosed) || errors.Is(err, net.ErrClosed) {
		return nil // by us
	}
	return fault.New(fault.Unavailable, "%w", err)
}
