package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/fault"
)

// The exit codes; see longHelp.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitUnavailable = 3
	exitInterrupted = 130
)

// usageError is a command line that is wrong in itself.
type usageError struct {
	command *cobra.Command
	err     error
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// usagef returns a usage error; the text says what is wrong and how to mend it.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return usageError{cmd, fmt.Errorf(format, args...)}
}

// configError is a configuration that no process could run with.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

// callError is a failed call of a server.
type callError struct {
	server string
	err    error
}

func (e callError) Unwrap() error { return e.err }

func (e callError) Error() string {
	st, ok := status.FromError(e.err)
	if !ok {
		return e.err.Error()
	}
	switch st.Code() {
	case codes.Unavailable:
		if reason, ok := dialFailure(st.Message()); ok {
			return fmt.Sprintf("cannot reach a server at %s (%s); start one with `twofold serve`, or name another with --server", e.server, reason)
		}
		if reason, ok := strings.CutPrefix(st.Message(), "error reading from server: "); ok {
			return fmt.Sprintf("the connection to the server at %s was lost (%s); try again when it is back", e.server, reason)
		}
		return st.Message()
	case codes.DeadlineExceeded:
		return fmt.Sprintf("the server at %s did not answer in time; give it longer with --timeout", e.server)
	case codes.Unimplemented:
		return fmt.Sprintf("what answers at %s is not a Twofold server, or an older one (%s)", e.server, st.Message())
	default:
		return st.Message()
	}
}

// dialFailure returns the end of gRPC's long text about a connection that could not be made.
func dialFailure(text string) (string, bool) {
	for _, mark := range []string{"error while dialing: ", "Error while dialing: ", "name resolver error: ", "error reading server preface: "} {
		if _, reason, ok := strings.Cut(text, mark); ok {
			reason = strings.TrimPrefix(reason, "dial tcp ")
			return strings.TrimSuffix(reason, `"`), true
		}
	}
	return "", false
}

// report tells the user why a command failed, and returns its exit code.
func (a *app) report(ctx context.Context, command *cobra.Command, err error) int {
	code := exitCode(ctx, err)
	if code == exitInterrupted {
		a.complain("interrupted")
		return code
	}
	a.complain(err.Error())
	if _, ok := errors.AsType[usageError](err); ok && command != nil {
		a.complain(fmt.Sprintf("`%s --help` explains the command", command.CommandPath()))
	}
	return code
}

// complain writes each line of text as "twofold: …" to standard error.
func (a *app) complain(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintln(a.err, "twofold: "+strings.TrimRight(line, "\n"))
	}
}

func exitCode(ctx context.Context, err error) int {
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[configError](err); ok {
		return exitUsage
	}
	// cobra's own words for a command that does not exist.
	if strings.HasPrefix(err.Error(), "unknown command ") {
		return exitUsage
	}
	code := status.Code(err)
	if call, ok := errors.AsType[callError](err); ok {
		code = status.Code(call.err)
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || code == codes.Canceled) {
		return exitInterrupted
	}
	if code == codes.Unavailable || code == codes.DeadlineExceeded || fault.KindOf(err) == fault.Unavailable || errors.Is(err, context.DeadlineExceeded) {
		return exitUnavailable
	}
	return exitFailure
}

// load reads the configuration of a command and tells its warnings.
func (a *app) load(cmd *cobra.Command) (*config.Loaded, error) {
	loaded, err := config.Load(config.Input{Flags: cmd.Flags()})
	if err != nil {
		return nil, configError{err}
	}
	for _, warning := range loaded.Warnings {
		a.complain("warning: " + warning)
	}
	return loaded, nil
}
