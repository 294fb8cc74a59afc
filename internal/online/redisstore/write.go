package redisstore

import (
	"context"
	_ "embed"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

//go:embed write.lua
var writeSource string

// writeScript decides and writes; see write.lua.
var writeScript = redis.NewScript(writeSource)

// Write implements driver.Driver with one pipeline of script calls: one for each Options.RowsPerCall rows, in a cluster for
// each slot.
func (s *Store) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	return do(ctx, s, "write to", func(ctx context.Context) ([]driver.Outcome, error) {
		calls := s.group(rows)
		outcomes, err := s.run(ctx, calls, len(rows), false)
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			// Some server does not know the script yet. All rows again, in order, so that rows of equal times keep their order.
			outcomes, err = s.run(ctx, calls, len(rows), true)
		}
		return outcomes, err
	})
}

// call is one call of the script.
type call struct {
	rows []int // indices of the rows
	keys []string
	args []any
}

// group divides the rows into script calls whose keys share a slot; rows of one entity keep their order.
func (s *Store) group(rows []driver.Row) []*call {
	var calls []*call
	open := map[uint16]*call{}
	for i := range rows {
		key := s.entityKey(rows[i].Entity)
		slot := uint16(0)
		if s.cluster {
			slot = slotOf(key)
		}
		c := open[slot]
		if c == nil || len(c.rows) == s.o.RowsPerCall {
			c = &call{}
			if !s.cluster {
				n := min(s.o.RowsPerCall, len(rows)-i)
				c = &call{make([]int, 0, n), make([]string, 0, n), make([]any, 0, 3*n)}
			}
			open[slot] = c
			calls = append(calls, c)
		}
		c.rows = append(c.rows, i)
		c.keys = append(c.keys, key)
		c.args = append(c.args, rows[i].View, rows[i].Value, strconv.FormatInt(rows[i].ExpireAtMillis, 10))
	}
	return calls
}

// run sends all calls in one pipeline, with the script's text or with its hash only.
func (s *Store) run(ctx context.Context, calls []*call, rows int, withText bool) ([]driver.Outcome, error) {
	pipe := s.client.Pipeline()
	answers := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		if withText {
			answers[i] = writeScript.Eval(ctx, pipe, c.keys, c.args...)
		} else {
			answers[i] = writeScript.EvalSha(ctx, pipe, c.keys, c.args...)
		}
	}
	_, execErr := pipe.Exec(ctx)
	outcomes := make([]driver.Outcome, rows)
	var firstErr error
	for i, answer := range answers {
		text, err := answer.Text()
		switch {
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			return nil, err
		case err == nil:
			err = calls[i].read(text, outcomes)
		}
		if err != nil && firstErr == nil {
			firstErr = err
		}
	}
	if firstErr == nil {
		firstErr = execErr
	}
	if firstErr != nil {
		return nil, firstErr
	}
	return outcomes, nil
}

// read puts the script's answer, one character a row, in the rows' places.
func (c *call) read(answer string, outcomes []driver.Outcome) error {
	if len(answer) != len(c.rows) || strings.Trim(answer, "123") != "" {
		return fault.New(fault.Internal, "the write script answered %q for %d rows", answer, len(c.rows))
	}
	for i, row := range c.rows {
		outcomes[row] = driver.Outcome(answer[i] - '0')
	}
	return nil
}

// slots is the number of slots in a Redis Cluster.
const slots = 16384

// slotOf returns the slot of a key: CRC16 (XMODEM) of the key, or of its hash tag, the text between the first "{" and the next
// "}", if there is any.
func slotOf(key string) uint16 {
	if _, tail, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(tail, "}"); ok && tag != "" {
			key = tag
		}
	}
	crc := uint16(0)
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % slots
}
