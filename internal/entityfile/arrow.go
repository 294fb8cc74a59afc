package entityfile

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// arrowReadBytes is how much is read at once: a request, in S3. What is larger is one too.
const arrowReadBytes = 1 << 20

// arrowFile is an Arrow IPC stream, or an IPC file: such a stream between two magic words, before an index that is not needed here.
type arrowFile struct {
	from   source
	limits arrowwire.Limits
	schema *arrow.Schema
	// hasIndex says that it is an IPC file.
	hasIndex bool
}

func openArrow(ctx context.Context, from source, o Options) (*Reader, error) {
	a := &arrowFile{from: from, limits: arrowwire.Limits{BodyBytes: o.MaxBatchBytes}}
	r, _, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	a.schema = r.Schema()
	r.Release()
	return &Reader{schema: a.schema, rows: -1, each: a.each}, nil
}

// open starts at the first record. Arrow's reader may panic on damaged bytes.
func (a *arrowFile) open(ctx context.Context) (r *ipc.Reader, failing *failingInput, err error) {
	in := a.from.Bytes(ctx)
	var magic [8]byte
	if _, err := in.ReadAt(magic[:], 0); err != nil && !isEnd(err) {
		return nil, nil, err
	}
	a.hasIndex = string(magic[:len(arrowMagic)]) == arrowMagic
	if a.hasIndex {
		var end [len(arrowMagic)]byte
		if _, err := in.ReadAt(end[:], in.Size()-int64(len(end))); err != nil && !isEnd(err) {
			return nil, nil, err
		}
		if in.Size() < int64(len(magic)+len(end)) || string(end[:]) != arrowMagic {
			return nil, nil, fault.New(fault.Invalid, "the Arrow file is damaged: it does not end in %s; was it cut off?", arrowMagic)
		}
		// The magic word is padded to 8 bytes.
		if _, err := in.Seek(int64(len(magic)), io.SeekStart); err != nil {
			return nil, nil, err
		}
	}
	failing = &failingInput{in: bufio.NewReaderSize(in, int(min(in.Size(), arrowReadBytes)))}
	err = guard(func() error {
		r, err = arrowwire.NewReader(failing, a.limits)
		return err
	})
	if err != nil {
		return nil, nil, failing.fault("it is neither an Arrow file nor an Arrow stream", err)
	}
	return r, failing, nil
}

func (a *arrowFile) each(ctx context.Context, yield func(arrow.RecordBatch) error) error {
	r, in, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Release()
	for n := 0; ctx.Err() == nil; n++ {
		more := false
		err := guard(func() error {
			if more = r.Next(); more {
				return checkRecord(r.RecordBatch())
			}
			return r.Err()
		})
		if err != nil {
			return in.fault(fmt.Sprintf("the Arrow stream is damaged in record %d (counted from 0)", n), err)
		}
		if !more {
			return a.checkEnd(in)
		}
		if err := yield(r.RecordBatch()); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// checkEnd refuses an end that comes from a failure of reading, which Arrow may take for an end, and a stream after whose end more comes, such as another
// stream, whose rows would be lost.
func (a *arrowFile) checkEnd(in *failingInput) error {
	if in.err != nil || a.hasIndex {
		return in.err
	}
	var more [1]byte
	switch _, err := io.ReadFull(in, more[:]); {
	case err == nil:
		return fault.New(fault.Invalid, "more bytes follow the end of the Arrow stream; where they are another stream, make one of the two")
	case isEnd(err):
		return nil
	default:
		return err
	}
}

// fault gives the error of a decoder: why reading failed, or what is wrong with the bytes.
func (f *failingInput) fault(what string, err error) error {
	if f.err != nil {
		return f.err
	}
	kind := fault.KindOf(err)
	if kind == fault.Internal {
		kind = fault.Invalid
	}
	return fault.New(kind, "%s: %w", what, err)
}

// checkRecord refuses a record that contradicts itself, which nobody who reads it expects.
func checkRecord(record arrow.RecordBatch) error {
	for i, column := range record.Columns() {
		if err := array.ValidateFull(column); err != nil {
			return fmt.Errorf("column %q: %w", record.ColumnName(i), err)
		}
	}
	return nil
}

// guard turns a panic of a decoder into an error.
func guard(decode func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return decode()
}
