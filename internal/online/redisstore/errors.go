package redisstore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/fault"
)

// fail gives an error of a call its kind and says what to do about it. Every error that is not an answer of the server (nobody
// there, no answer in time, no free connection) is Unavailable.
func (s *Store) fail(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fault.New(fault.Unavailable, "%s %s: %w", what, s.target, ctx.Err())
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return fault.New(f.Kind, "%s %s: %w", what, s.target, err)
	}
	if deadline, ok := ctx.Deadline(); ok && isTimeout(err) && time.Until(deadline) <= maxMargin {
		return fault.New(fault.Unavailable, "%s %s: it did not answer in time: %w", what, s.target, context.DeadlineExceeded)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		// Not the caller's deadline, so it is not to be found as one.
		return fault.New(fault.Unavailable, "%s %s: it did not answer within %v", what, s.target, s.o.Timeout)
	}
	kind, hint := classify(err)
	return fault.New(kind, "%s %s: %w%s", what, s.target, refused(err), hint)
}

// maxMargin is the most time that is kept back of a caller's deadline.
const maxMargin = 100 * time.Millisecond

// patience is how long to wait for the server: Options.Timeout, and somewhat less than the caller has, by a tenth, so that the caller can still be
// told that it did not answer, and what to do, before the caller stops listening.
func (s *Store) patience(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return s.o.Timeout
	}
	left := time.Until(deadline)
	return min(s.o.Timeout, left-min(left/10, maxMargin))
}

// RefusedError is an answer of the server by which it refuses whatever is asked, or all that is written: a wrong password, missing rights, no
// memory, a full disk. Its fault.Error is of kind Precondition, since somebody has to mend it; a caller who has nothing to do with the store may
// be told that the store is not available for now.
type RefusedError struct{ answer error }

// Error returns the server's words.
func (e *RefusedError) Error() string { return e.answer.Error() }

// Unwrap returns the server's answer.
func (e *RefusedError) Unwrap() error { return e.answer }

// StoreRefuses marks the error for those who do not know this package.
func (*RefusedError) StoreRefuses() {}

// refused returns err as a *RefusedError where it is one.
func refused(err error) error {
	if answer, ok := errors.AsType[redis.Error](err); ok {
		switch answerCode(answer.Error()) {
		case "WRONGPASS", "NOAUTH", "NOPERM", "OOM", "MISCONF":
			return &RefusedError{err}
		}
	}
	return err
}

// classify returns the kind of an error and what to do about it.
func classify(err error) (kind fault.Kind, hint string) {
	answer, ok := errors.AsType[redis.Error](err)
	if !ok {
		return fault.Unavailable, ""
	}
	switch answerCode(answer.Error()) {
	case "WRONGPASS", "NOAUTH":
		return fault.Precondition, "; check the user and password of the Redis URL"
	case "NOPERM":
		return fault.Precondition, "; give the user of the Redis URL the rights that the documentation of the Redis store lists"
	case "OOM":
		return fault.Precondition, "; give Redis more memory, or let fewer features be online"
	case "MISCONF":
		return fault.Precondition, "; Redis cannot save to its disk and refuses writes"
	case "WRONGTYPE":
		return fault.Precondition, "; another application uses the same keys: choose another prefix"
	case "NOSCRIPT", "ERR":
		return fault.Internal, ""
	case "LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "MOVED", "ASK":
		return fault.Unavailable, ""
	}
	if redis.IsMaxClientsError(err) {
		return fault.Unavailable, "; raise maxclients, or let fewer processes connect"
	}
	return fault.Internal, ""
}

// answerCode returns the first word of an error that the server answered. An error of a command that a script called may stand behind other words.
func answerCode(text string) string {
	if strings.HasPrefix(text, "ERR max number of clients") {
		return ""
	}
	for _, code := range []string{"OOM", "READONLY", "MISCONF", "WRONGTYPE", "NOPERM", "NOREPLICAS"} {
		if strings.Contains(text, ": -"+code+" ") || strings.Contains(text, "@user_script: "+code+" ") {
			return code
		}
	}
	code, _, _ := strings.Cut(text, " ")
	return code
}
