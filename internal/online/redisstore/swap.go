package redisstore

import (
	"context"
	_ "embed"

	"github.com/redis/go-redis/v9"
)

//go:embed swap.lua
var swapSource string

// swapScript compares and swaps a small value; see swap.lua.
var swapScript = redis.NewScript(swapSource)

// SwapMeta implements driver.Driver with one script call.
func (s *Store) SwapMeta(ctx context.Context, name string, old, value []byte) (swapped bool, err error) {
	args := appendSwapArg(appendSwapArg(nil, old), value)
	return do(ctx, s, "write to", func(ctx context.Context) (bool, error) {
		swapped, err := swapScript.Run(ctx, s.client, []string{s.metaKey(name)}, args...).Bool()
		return swapped, refusedInScript(err)
	})
}

// appendSwapArg appends a value as swap.lua needs it; nil is none. It is copied, because a call that was given up may still send it.
func appendSwapArg(args []any, value []byte) []any {
	if value == nil {
		return append(args, "0", "")
	}
	return append(args, "1", string(value))
}
