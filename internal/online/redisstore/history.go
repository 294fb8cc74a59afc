package redisstore

import (
	"context"
	_ "embed"
	"encoding/binary"
	"math"
	"strconv"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

//go:embed history.lua
var historySource string

// historyScript adds versions; see history.lua.
var historyScript = redis.NewScript(rowSource + historySource)

// exact is the number of microseconds from the epoch up to which a score, a double, tells every two event times apart: to the
// year 2255.
const exact = 1 << 53

// droppedMember begins a history, with score -inf, where older versions than those that follow were given and are not kept.
const droppedMember = "dropped"

// widePrefixSize is the length of what stands in front of a row whose event time its score does not hold exactly: a zero byte, with which
// no StoredRow begins, and the event time, big-endian with its sign flipped, so that Redis, which orders members of one score by their
// bytes, orders such rows by event time too.
const widePrefixSize = 9

func (s *Store) historyKey(e driver.Entity, view string) string {
	return s.o.Prefix + "::history:" + e.Name + ":" + view + ":" + string(e.Key)
}

func isWide(micros int64) bool { return micros <= -exact || micros >= exact }

// score returns the score of an event time.
func score(micros int64) string {
	if isWide(micros) {
		return strconv.FormatFloat(float64(micros), 'f', -1, 64)
	}
	return strconv.FormatInt(micros, 10)
}

// memberOf returns the member that holds a row.
func memberOf(event feature.EventTime, row []byte) []byte {
	var dst []byte
	if isWide(int64(event)) {
		dst = append(dst, 0)
		dst = binary.BigEndian.AppendUint64(dst, uint64(event)^1<<63)
	}
	return append(dst, row...)
}

// splitMember is the reverse of memberOf. It reports whether the member has its event time in front.
func splitMember(member []byte) (event feature.EventTime, wide bool, row []byte, err error) {
	if len(member) > 0 && member[0] != 0 {
		return 0, false, member, nil
	}
	if len(member) < widePrefixSize {
		return 0, false, nil, fault.New(fault.Corrupt, "a member of %d bytes is no version of a row", len(member))
	}
	return feature.EventTime(binary.BigEndian.Uint64(member[1:]) ^ 1<<63), true, member[widePrefixSize:], nil
}

// appendHistoryArgs appends what history.lua needs of a row.
func appendHistoryArgs(args []any, r *driver.Row) ([]any, error) {
	h, err := storedrow.ParseHeader(r.Value)
	if err != nil {
		return nil, fault.New(fault.Internal, "a row of entity %s %q, view %q, is not a stored row: %w", r.Entity.Name, r.Entity.Key, r.View, err)
	}
	member := r.Value
	if isWide(int64(h.EventTime)) {
		member = memberOf(h.EventTime, r.Value)
	}
	return append(args, score(int64(h.EventTime)), member, strconv.Itoa(r.Versions), strconv.FormatInt(r.ExpireAtMillis, 10)), nil
}

// historyAnswers are the answers to one History read: one for each of its views.
type historyAnswers []*redis.StringSliceCmd

// historyCommands puts the commands of a History read into a pipeline: one ZREVRANGEBYSCORE a view. The answers are there once the pipeline was
// executed; appendRows reads them.
func (s *Store) historyCommands(ctx context.Context, pipe redis.Pipeliner, r *driver.Read) historyAnswers {
	answers := make(historyAnswers, len(r.Views))
	for i, view := range r.Views {
		args := []any{"zrevrangebyscore", s.historyKey(r.Entity, view), "+inf", "-inf", "limit", "0", "1"}
		switch {
		case r.AsOfMicros == math.MaxInt64:
		case isWide(r.AsOfMicros):
			// Versions of the same score may be later, so all are asked for: a case for times that nobody has seen or will see soon.
			args[2] = score(r.AsOfMicros)
			args = args[:4]
		default:
			args[2] = score(r.AsOfMicros)
		}
		answers[i] = redis.NewStringSliceCmd(ctx, args...)
		_ = pipe.Process(ctx, answers[i]) // a pipeline's Process cannot fail: it puts the command in line
	}
	return answers
}

// appendRows appends the rows that answer a History read, one for each of its views, nil where no row is stored. On error, which is for
// this read alone, all of them are nil: driver.NotKept, or what the server answered. pipeErr is the error of the whole pipeline.
func (a historyAnswers) appendRows(rows [][]byte, r *driver.Read, pipeErr error) ([][]byte, error) {
	start := len(rows)
	for i, answer := range a {
		members, err := answer.Result()
		if err == nil && members == nil {
			// The client says why on the pipeline only where it never sent the command.
			if err = pipeErr; err == nil {
				err = fault.New(fault.Internal, "ZREVRANGEBYSCORE was not answered")
			}
		}
		var row []byte
		if err == nil {
			row, err = newestAsOf(members, r, r.Views[i])
		}
		if err != nil {
			return append(rows[:start], make([][]byte, len(a))...), err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// newestAsOf returns the row of the first member, the newest, that is not later than the moment of the read.
func newestAsOf(members []string, r *driver.Read, view string) ([]byte, error) {
	for _, member := range members {
		if member == droppedMember {
			return nil, driver.NotKept(r, view)
		}
		// go-redis made this string for us alone, so its bytes can be given away without a copy.
		event, wide, row, err := splitMember(unsafe.Slice(unsafe.StringData(member), len(member)))
		if err != nil {
			return nil, fault.New(fault.KindOf(err), "entity %s %q, view %q: %w; write its rows again: twofold sync --once", r.Entity.Name, r.Entity.Key, view, err)
		}
		if !wide || int64(event) <= r.AsOfMicros {
			return row[:len(row):len(row)], nil
		}
	}
	return nil, nil
}
