package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/online/driver"
)

// Remove implements driver.Driver with one pipeline: an HDEL for each row of layout LATEST, whose entity goes with its last view, and a DEL for
// each history.
func (s *Store) Remove(ctx context.Context, rows []driver.Removal) (int, error) {
	if len(rows) == 0 {
		return 0, s.doneErr(ctx)
	}
	return do(ctx, s, "write to", func(ctx context.Context) (removed int, err error) {
		pipe := s.client.Pipeline()
		answers := make([]*redis.IntCmd, len(rows))
		for i := range rows {
			if r := &rows[i]; r.History {
				answers[i] = pipe.Del(ctx, s.historyKey(r.Entity, r.View))
			} else {
				answers[i] = pipe.HDel(ctx, s.entityKey(r.Entity), r.View)
			}
		}
		// The error is the first of the answers', or one of the connection, which the answers need not have.
		if _, err := pipe.Exec(ctx); err != nil {
			return 0, err
		}
		for _, answer := range answers {
			removed += int(answer.Val())
		}
		return removed, nil
	})
}
