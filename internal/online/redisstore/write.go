package redisstore

import (
	"context"
	_ "embed"
	"errors"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

//go:embed row.lua
var rowSource string

//go:embed write.lua
var writeSource string

// writeScript decides and writes; see write.lua.
var writeScript = redis.NewScript(rowSource + writeSource)

// Write implements driver.Driver with one pipeline of script calls: one for each Options.RowsPerCall rows of a layout, in a cluster for
// each slot.
func (s *Store) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	return do(ctx, s, "write to", func(ctx context.Context) ([]driver.Outcome, error) {
		calls, err := s.group(rows)
		if err != nil {
			return nil, err
		}
		return s.call(ctx, calls, len(rows))
	})
}

// call makes script calls and returns what became of each of their rows.
func (s *Store) call(ctx context.Context, calls []*call, rows int) ([]driver.Outcome, error) {
	outcomes := make([]driver.Outcome, rows)
	unknown, err := s.run(ctx, calls, (*redis.Script).EvalSha, outcomes)
	if err == nil && len(unknown) > 0 {
		unknown, err = s.run(ctx, unknown, (*redis.Script).Eval, outcomes)
	}
	if err == nil && len(unknown) > 0 {
		err = fault.New(fault.Internal, "the server forgot the script while it was given")
	}
	if err != nil {
		return nil, err
	}
	return outcomes, nil
}

// group is what the rows of one script call have in common.
type group struct {
	slot   uint16
	script *redis.Script
	view   string // of layout LATEST
}

// call is one call of a script.
type call struct {
	group
	rows []int // indices of the rows
	keys []string
	args []any
	// times from which rows of layout LATEST may be dropped; see write.lua.
	times []int64
}

// group divides the rows into script calls of one layout, and LATEST ones of one view, whose keys share a slot; rows of one key keep their order.
func (s *Store) group(rows []driver.Row) ([]*call, error) {
	calls := s.newCalls(len(rows))
	for i := range rows {
		key, g := s.place(&rows[i])
		if err := calls.add(i, key, g).addArgs(&rows[i]); err != nil {
			return nil, err
		}
	}
	return calls.all, nil
}

// calls are the script calls for some rows, while these are added.
type calls struct {
	store *Store
	rows  int // in all
	all   []*call
	open  map[group]*call
}

func (s *Store) newCalls(rows int) *calls {
	return &calls{store: s, rows: rows, open: map[group]*call{}}
}

// add adds row i, which is under that key, to a call of its group, and returns the call, whose arguments are to be added.
func (cs *calls) add(i int, key string, g group) *call {
	c, most := cs.open[g], cs.store.o.RowsPerCall
	if c == nil || len(c.rows) == most {
		n := 0
		if !cs.store.cluster {
			n = min(most, cs.rows-i)
		}
		c = newCall(g, n)
		cs.open[g] = c
		cs.all = append(cs.all, c)
	}
	c.rows = append(c.rows, i)
	c.keys = append(c.keys, key)
	return c
}

// place returns the key that holds a row, and the group that the row belongs to.
func (s *Store) place(r *driver.Row) (key string, g group) {
	if r.Versions > 0 {
		key, g.script = s.historyKey(r.Entity, r.View), historyScript
	} else {
		key, g.script, g.view = s.entityKey(r.Entity), writeScript, r.View
	}
	if s.cluster {
		g.slot = slotOf(key)
	}
	return key, g
}

// newCall returns a call of a group, with memory for so many rows.
func newCall(g group, rows int) *call {
	c := &call{group: g, rows: make([]int, 0, rows), keys: make([]string, 0, rows), args: make([]any, 0, 2*rows+2)}
	if g.script == writeScript {
		c.args, c.times = append(c.args, g.view), make([]int64, 0, rows)
	}
	return c
}

func (c *call) addArgs(r *driver.Row) (err error) {
	if c.script == historyScript {
		c.args, err = appendHistoryArgs(c.args, r)
		return err
	}
	c.args, c.times = append(c.args, r.Value), append(c.times, r.ExpireAtMillis)
	return nil
}

// allArgs are the arguments as the script takes them.
func (c *call) allArgs() []any {
	if c.script != writeScript {
		return c.args
	}
	return append(c.args, joinTimes(c.times))
}

// joinTimes gives times of equal width, one after the other, with spaces before those that are narrower than the widest.
func joinTimes(times []int64) []byte {
	var number [20]byte
	width := 0
	for _, at := range times {
		width = max(width, len(strconv.AppendInt(number[:0], at, 10)))
	}
	joined := make([]byte, 0, width*len(times))
	for _, at := range times {
		digits := strconv.AppendInt(number[:0], at, 10)
		for range width - len(digits) {
			joined = append(joined, ' ')
		}
		joined = append(joined, digits...)
	}
	return joined
}

// run sends all calls in one pipeline and fills in the outcomes of their rows. It returns the calls that are to be sent again with
// the script's text, because their server does not know it: those, and later ones of the same group, so that rows of one key keep their order.
func (s *Store) run(ctx context.Context, calls []*call, send func(*redis.Script, context.Context, redis.Scripter, []string, ...any) *redis.Cmd, outcomes []driver.Outcome) (unknown []*call, err error) {
	pipe := s.client.Pipeline()
	answers := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		answers[i] = send(c.script, ctx, pipe, c.keys, c.allArgs()...)
	}
	// The error is the first of the answers', or one of the connection, which the answers need not have.
	if _, err := pipe.Exec(ctx); err != nil && !redis.HasErrorPrefix(err, "NOSCRIPT") {
		return nil, refusedInScript(err)
	}
	again := map[group]bool{}
	for i, answer := range answers {
		c := calls[i]
		text, err := answer.Text()
		switch {
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			again[c.group] = true
			unknown = append(unknown, c)
			continue
		case err != nil:
			return nil, refusedInScript(err)
		}
		if err := c.read(text, outcomes); err != nil {
			return nil, err
		}
		if again[c.group] { // another writer gave the server the script in the middle of the pipeline
			unknown = append(unknown, c)
		}
	}
	return unknown, nil
}

// refusedInScript gives an error its kind where the user may not run a command that a script runs, which the server tells with ERR.
func refusedInScript(err error) error {
	for _, text := range []string{"The user executing the script", "ACL failure in script"} { // before and since Redis 7.2
		if _, ok := errors.AsType[redis.Error](err); ok && strings.Contains(err.Error(), text) {
			return fault.New(fault.Precondition, "%w; give the user of the Redis URL the rights that the documentation of the Redis store lists", &RefusedError{err})
		}
	}
	return err
}

// read puts the script's answer, one character a row, in the rows' places.
func (c *call) read(answer string, outcomes []driver.Outcome) error {
	if len(answer) != len(c.rows) || strings.Trim(answer, "123") != "" {
		return fault.New(fault.Internal, "a script answered %q for %d rows", answer, len(c.rows))
	}
	for i, row := range c.rows {
		if outcomes[row] != driver.Written { // else it was written, or removed, by the same call sent before
			outcomes[row] = driver.Outcome(answer[i] - '0')
		}
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
