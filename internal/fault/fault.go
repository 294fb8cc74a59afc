// Package fault is the one vocabulary of errors that cross package borders. Whoever answers a caller (gRPC, command line) maps a
// Kind to its own codes in one place; everybody else adds context with fmt.Errorf("…: %w", err).
package fault

import (
	"errors"
	"fmt"
)

// Kind says whose fault an error is and whether trying again can help.
type Kind uint8

const (
	// Internal is a bug or a condition that nobody foresaw. It is the kind of every error without one.
	Internal Kind = iota
	// Invalid is a request or input that is wrong in itself.
	Invalid
	// NotDefined is a name that the definitions do not have.
	NotDefined
	// Precondition is a valid request that the definitions or the state of the system do not allow.
	Precondition
	// Exhausted is a request past a limit.
	Exhausted
	// Unavailable is a store or server that cannot be reached or does not answer; trying again may help.
	Unavailable
	// Corrupt is stored bytes that cannot be read: a broken file, an unknown row schema.
	Corrupt
)

// String returns the kind's name.
func (k Kind) String() string {
	names := [...]string{"internal", "invalid", "not defined", "precondition", "exhausted", "unavailable", "corrupt"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Error is an error with a kind. Its text says what is wrong, where, and how to mend it.
type Error struct {
	// Kind is the error's kind.
	Kind Kind
	// Field is the path of the request field at fault, for example "entities[0].values"; empty where there is none.
	Field string
	// Err is what went wrong.
	Err error
}

// Error returns the text of the error, without its kind.
func (e *Error) Error() string {
	if e.Field != "" {
		return e.Field + ": " + e.Err.Error()
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of a kind. format and args are those of fmt.Errorf, %w included.
func New(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// InvalidField returns an error of kind Invalid about one field of a request.
func InvalidField(field, format string, args ...any) error {
	return &Error{Kind: Invalid, Field: field, Err: fmt.Errorf(format, args...)}
}

// KindOf returns the kind of the outermost Error in err's chain; Internal where there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
