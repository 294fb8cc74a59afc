package redisstore

import (
	"context"
	_ "embed"
	"encoding/binary"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/online/driver"
)

//go:embed remove.lua
var removeSource string

// removeScript removes what is old enough; see remove.lua.
var removeScript = redis.NewScript(rowSource + removeSource)

// Remove implements driver.Driver with one pipeline: an HDEL for each row of layout LATEST, whose entity goes with its last view, and a DEL for
// each history; and, for those that may be spared, script calls as Write's.
func (s *Store) Remove(ctx context.Context, rows []driver.Removal) (int, error) {
	if len(rows) == 0 {
		return 0, s.doneErr(ctx)
	}
	return do(ctx, s, "write to", func(ctx context.Context) (removed int, err error) {
		pipe, calls := s.client.Pipeline(), s.newCalls(len(rows))
		var answers []*redis.IntCmd
		for i := range rows {
			switch r := &rows[i]; {
			case r.EventBefore != nil:
				s.addRemoval(calls, i, r)
			case r.History:
				answers = append(answers, pipe.Del(ctx, s.historyKey(r.Entity, r.View)))
			default:
				answers = append(answers, pipe.HDel(ctx, s.entityKey(r.Entity), r.View))
			}
		}
		if removed, err = s.removeOld(ctx, calls); err != nil || len(answers) == 0 {
			return removed, err
		}
		// The error is the first of the answers', or one of the connection, which the answers need not have.
		if _, err := pipe.Exec(ctx); err != nil {
			return removed, err
		}
		for _, answer := range answers {
			removed += int(answer.Val())
		}
		return removed, nil
	})
}

// addRemoval adds removal i, of what is old enough, to the script calls.
func (s *Store) addRemoval(calls *calls, i int, r *driver.Removal) {
	key, view := s.entityKey(r.Entity), r.View
	if r.History {
		key, view = s.historyKey(r.Entity, r.View), ""
	}
	g := group{script: removeScript}
	if s.cluster {
		g.slot = slotOf(key)
	}
	c := calls.add(i, key, g)
	c.args = append(c.args, view, binary.LittleEndian.AppendUint64(nil, uint64(*r.EventBefore)))
}

// removeOld makes script calls and returns how many of their rows were removed.
func (s *Store) removeOld(ctx context.Context, calls *calls) (removed int, err error) {
	if len(calls.all) == 0 {
		return 0, nil
	}
	outcomes, err := s.call(ctx, calls.all, calls.rows)
	for _, outcome := range outcomes {
		if outcome == driver.Written {
			removed++
		}
	}
	return removed, err
}
