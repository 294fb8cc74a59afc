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

// Read implements driver.Driver with one pipeline of HMGET. On one server it shares the pipeline with the reads of other callers that
// come while earlier ones are under way, and takes the rows out of the answer's bytes as they are; whatever is out of the
// ordinary there is asked again in a pipeline of its own, where the client follows redirections, tries again and tells errors apart.
func (s *Store) Read(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	if len(reads) == 0 {
		return nil, s.doneErr(ctx)
	}
	if slices.ContainsFunc(reads, func(r driver.Read) bool { return r.History }) {
		return s.readWithHistory(ctx, reads)
	}
	if s.lanes != nil {
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

// rowsRead is what was read, and why some reads failed: nil, or one element a read.
type rowsRead struct {
	rows [][]byte
	errs []error
}

// readAlone reads in a pipeline of the call's own.
func (s *Store) readAlone(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	read, err := do(ctx, s, "read from", func(ctx context.Context) (rowsRead, error) { return s.pipelined(ctx, reads) })
	if err != nil {
		return nil, err
	}
	if read.errs == nil {
		return read.rows, nil
	}
	for i, err := range read.errs {
		if err != nil {
			read.errs[i] = s.fail(ctx, "read from", err)
		}
	}
	return read.rows, &driver.PartialError{Errs: read.errs}
}

// pipelined sends one pipeline. Its error is that all reads failed.
func (s *Store) pipelined(ctx context.Context, reads []driver.Read) (rowsRead, error) {
	pipe := s.client.Pipeline()
	answers := make([]*redis.SliceCmd, len(reads))
	views := 0
	for i, r := range reads {
		answers[i] = pipe.HMGet(ctx, s.entityKey(r.Entity), r.Views...)
		views += len(r.Views)
	}
	_, pipeErr := pipe.Exec(ctx)
	read := rowsRead{rows: make([][]byte, 0, views)}
	failed := 0
	for i, answer := range answers {
		rows, err := appendValues(read.rows, answer, len(reads[i].Views), pipeErr)
		if err != nil {
			if read.errs == nil {
				read.errs = make([]error, len(reads))
			}
			read.errs[i] = err
			failed++
		}
		read.rows = rows
	}
	if failed == len(reads) {
		return rowsRead{}, read.errs[0]
	}
	return read, nil
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
