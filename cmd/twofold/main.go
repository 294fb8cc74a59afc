// Command twofold serves features online and point-in-time for training, and carries them from Parquet to the online
// store. Run `twofold --help`.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, yield: yieldToOthers}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks the process to stop; a second one ends it at once.
	context.AfterFunc(ctx, stop)
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// app is one run of the program.
type app struct {
	in       io.Reader
	out, err io.Writer
	// yield has the process take less of the machine, once a command knows that others come first; nil where the process is not the program's alone.
	yield func()
}

// run runs one command line and returns the exit code. ctx is done when the process was told to stop.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	return a.report(ctx, command, err)
}
