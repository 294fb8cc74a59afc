package redisstore

import (
	"context"
	"errors"
	"slices"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// Read implements driver.Driver with one pipeline: an HMGET an entity, and a ZREVRANGEBYSCORE for each view that keeps versions. On one server
// HMGETs share the pipeline with the reads of other callers that come while earlier ones are under way, and rows are taken out of the answer's bytes as
// they are; whatever is out of the ordinary there is asked again in a pipeline of its own, where the client follows redirections, tries
// again and tells errors apart.
func (s *Store) Read(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	if len(reads) == 0 {
		return nil, s.doneErr(ctx)
	}
	if s.lanes != nil && !slices.ContainsFunc(reads, func(r driver.Read) bool { return r.History }) {
		rows, err := s.lanes.read(ctx, reads)
		if !errors.Is(err, errAskAgain) {
			return rows, err
		}
	}
	return s.readAlone(ctx, reads)
}

// doneErr is the error of a context that is done.
func (s *Store) doneErr(ctx context.Context) error {
	if ctx.Err() != nil {
		return s.fail(ctx, "read from", ctx.Err())
	}
	return nil
}

// rowsRead is what was read, and why some reads failed: an element a read, nil where it did not.
type rowsRead struct {
	rows [][]byte
	errs []error
}

// readAlone reads in a pipeline of the call's own.
func (s *Store) readAlone(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	read, err := do(ctx, s, "read from", func(ctx context.Context) (rowsRead, error) { return s.pipelined(ctx, reads), nil })
	if err != nil {
		return nil, err
	}
	for i, err := range read.errs {
		if err != nil {
			read.errs[i] = s.fail(ctx, "read from", err)
		}
	}
	err = driver.Partly(read.errs)
	if _, ok := errors.AsType[*driver.PartialError](err); err != nil && !ok {
		return nil, err
	}
	return read.rows, err
}

// pipelined sends one pipeline.
func (s *Store) pipelined(ctx context.Context, reads []driver.Read) rowsRead {
	pipe := s.client.Pipeline()
	latest, histories := make([]*redis.SliceCmd, len(reads)), make([]historyAnswers, len(reads))
	views := 0
	for i := range reads {
		r := &reads[i]
		if r.History {
			histories[i] = s.historyCommands(ctx, pipe, r)
		} else {
			latest[i] = pipe.HMGet(ctx, s.entityKey(r.Entity), r.Views...)
		}
		views += len(r.Views)
	}
	_, pipeErr := pipe.Exec(ctx)
	read := rowsRead{rows: make([][]byte, 0, views), errs: make([]error, len(reads))}
	for i := range reads {
		if r := &reads[i]; r.History {
			read.rows, read.errs[i] = histories[i].appendRows(read.rows, r, pipeErr)
		} else {
			read.rows, read.errs[i] = appendValues(read.rows, latest[i], len(r.Views), pipeErr)
		}
	}
	return read
}

// appendValues appends the views' rows of one answer; nil ones where it has an error.
func appendValues(rows [][]byte, answer *redis.SliceCmd, views int, pipeErr error) ([][]byte, error) {
	err := answer.Err()
	values := answer.Val()
	if err == nil && len(values) != views {
		// The client says why on the pipeline only where it never sent the command.
		if err = pipeErr; err == nil {
			err = fault.New(fault.Internal, "HMGET of %d fields gave %d values", views, len(values))
		}
	}
	if err != nil {
		return append(rows, make([][]byte, views)...), err
	}
	for _, value := range values {
		text, ok := value.(string)
		if !ok {
			rows = append(rows, nil)
			continue
		}
		// go-redis made this string for us alone, so its bytes can be given away without a copy.
		rows = append(rows, unsafe.Slice(unsafe.StringData(text), len(text)))
	}
	return rows, nil
}
