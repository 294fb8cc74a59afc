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
		outcomes := make([]driver.Outcome, len(rows))
		unknown, err := s.run(ctx, s.group(rows), (*redis.Script).EvalSha, outcomes)
		if err == nil && len(unknown) > 0 {
			unknown, err = s.run(ctx, unknown, (*redis.Script).Eval, outcomes)
		}
		if err == nil && len(unknown) > 0 {
			err = fault.New(fault.Internal, "the server forgot the write script while it was given")
		}
		if err != nil {
			return nil, err
		}
		return outcomes, nil
	})
}

// call is one call of the script.
type call struct {
	slot uint16
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
			c = &call{slot: slot}
			if !s.cluster {
				n := min(s.o.RowsPerCall, len(rows)-i)
				c.rows, c.keys, c.args = make([]int, 0, n), make([]string, 0, n), make([]any, 0, 3*n)
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

// run sends all calls in one pipeline and fills in the outcomes of their rows. It returns the calls that are to be sent again with
// the script's text, because their server does not know it: those, and later ones of the same slot, so that rows of one entity keep their order.
func (s *Store) run(ctx context.Context, calls []*call, send func(*redis.Script, context.Context, redis.Scripter, []string, ...any) *redis.Cmd, outcomes []driver.Outcome) (unknown []*call, err error) {
	pipe := s.client.Pipeline()
	answers := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		answers[i] = send(writeScript, ctx, pipe, c.keys, c.args...)
	}
	// The error is the first of the answers', or one of the connection, which the answers need not have.
	if _, err := pipe.Exec(ctx); err != nil && !redis.HasErrorPrefix(err, "NOSCRIPT") {
		return nil, err
	}
	again := map[uint16]bool{}
	for i, answer := range answers {
		c := calls[i]
		text, err := answer.Text()
		switch {
		case redis.HasErrorPrefix(err, "NOSCRIPT"), err == nil && again[c.slot]:
			again[c.slot] = true
			unknown = append(unknown, c)
		case err != nil:
			return nil, err
		default:
			if err := c.read(text, outcomes); err != nil {
				return nil, err
			}
		}
	}
	return unknown, nil
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
