package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/twofold-ml/twofold/internal/fault"
)

// retryDelay is what a client is told to wait before it calls again after UNAVAILABLE.
const retryDelay = time.Second

// retryable is an error that knows better when to try again: that of a store which is not asked for a while (breaker.OpenError).
type retryable interface {
	error
	RetryAfter() time.Duration
}

// refusal is an error by which the store refuses whatever is asked, or all that is written (redisstore.RefusedError). The operator has to mend it; a
// caller has done nothing wrong and may try again, as with a store that does not answer.
type refusal interface {
	error
	StoreRefuses()
}

var codeOf = map[fault.Kind]codes.Code{
	fault.Invalid:      codes.InvalidArgument,
	fault.NotDefined:   codes.NotFound,
	fault.Precondition: codes.FailedPrecondition,
	fault.Exhausted:    codes.ResourceExhausted,
	fault.Unavailable:  codes.Unavailable,
	fault.Corrupt:      codes.DataLoss,
	fault.Internal:     codes.Internal,
}

// statusError turns an error into what the caller sees: the one place where kinds become gRPC codes. The text of an
// internal error stays in the log, under an id that the caller gets.
func (e *endpoint) statusError(ctx context.Context, method string, err error) error {
	if limit, ok := errors.AsType[*limitError](err); ok {
		e.calls.refused.WithLabelValues(limit.setting).Inc()
	}
	return statusError(ctx, e.logger, &e.failures, method, err)
}

func statusError(ctx context.Context, log *slog.Logger, failures *failureLog, method string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	kind := fault.KindOf(err)
	if _, ok := errors.AsType[refusal](err); ok {
		kind = fault.Unavailable
	}
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return status.Error(codes.Canceled, "the call was cancelled")
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return status.Error(codes.DeadlineExceeded, "deadline exceeded: "+err.Error())
	case kind == fault.Internal:
		id := errorID()
		log.ErrorContext(ctx, "internal error", "method", method, "error_id", id, "error", err)
		return status.Errorf(codes.Internal, "internal error %s; the server's log has its cause under this id", id)
	}
	if kind == fault.Unavailable || kind == fault.Corrupt {
		level := slog.LevelWarn
		if _, ok := errors.AsType[retryable](err); ok {
			level = slog.LevelDebug // whoever knows when to try again has told the log why
		}
		if leftOut, ok := failures.admit(method, err.Error(), time.Now()); ok {
			log.Log(ctx, level, "call failed", "method", method, "kind", kind.String(), "error", err, "like_it_not_told", leftOut)
		}
	}
	return withDetails(status.New(codeOf[kind], validText(err.Error())), kind, err)
}

// withDetails adds the standard machine-readable details: the field at fault, the limit, and when to try again.
func withDetails(st *status.Status, kind fault.Kind, err error) error {
	var details []protoadapt.MessageV1
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Field != "" && (kind == fault.Invalid || kind == fault.Exhausted) {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: e.Field, Description: validText(e.Err.Error())}}})
	}
	retry := time.Duration(0)
	if kind == fault.Unavailable {
		retry = retryDelay
		if e, ok := errors.AsType[retryable](err); ok {
			retry = e.RetryAfter()
		}
	}
	if limit, ok := errors.AsType[*limitError](err); ok {
		details = append(details, &errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{
			Subject: "server", Description: limit.text, QuotaId: "limits." + limit.setting, QuotaValue: int64(limit.limit),
		}}})
		retry = limit.retryAfter
	}
	if retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	}
	if len(details) > 0 {
		if detailed, err := st.WithDetails(details...); err == nil {
			st = detailed
		}
	}
	return st.Err()
}

// validText makes text fit for protobuf: a store may answer with any bytes, and a status that cannot be encoded would hide it.
func validText(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

func errorID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails, by its contract
	return hex.EncodeToString(b[:])
}
