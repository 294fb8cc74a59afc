package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/syncer"
)

// forgetOptions are the flags of forget.
type forgetOptions struct {
	file, format         string
	exact, yes, dryRun   bool
	showKeys, allow      bool
	exportTo, importFrom string
	clearList            bool
	output               string
	settle               time.Duration
	// entity and keys are the arguments.
	entity string
	keys   []string
}

func (a *app) forgetCommand() *cobra.Command {
	var o forgetOptions
	cmd := &cobra.Command{
		Use:   "forget ENTITY KEY=VALUE[,VALUE…]…",
		Short: "Remove entities from the online store for good, for privacy requests",
		Long: `Removes entities from the online store: their rows in every feature view, every version and every generation, and the rows of all entities that
have the same keys and others beside (user_item of user_id and item_id, for a user_id; --exact leaves these alone). It works on the store itself, with the definitions that servers have.

The entities are put into a list first, which has hashes and no keys. Syncs and pushes leave out what is in it, so that rows which are still in the files do
not come back. --allow takes entities off the list again.

It shows what it is going to do and asks; scripts say --yes. In the end it reads back, and prints a receipt that says what was removed and what was not:
files, training sets and backups are yours to clean. Whatever interrupts it, run it again.

It exits 0 where all is removed and nothing was found any more, 1 where something is left or the answer was no, 2 for wrong arguments, and 3 where the store cannot be reached.`,
		Example: `  twofold forget user user_id=42 --dry-run
  twofold forget user user_id=42,43 --yes -o json > receipt.json
  twofold forget user --file requests.csv
  twofold forget user user_id=42 --allow
  twofold forget --export forgotten.json`,
		GroupID:           groupServe,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.parse(cmd, args); err != nil {
				return err
			}
			return a.forget(cmd, o)
		},
	}
	config.AddFlags(cmd.Flags(), "definitions", "offline_store_path", "s3", "online_store", "log")
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "forget the entities of this `file` (CSV, Parquet or Arrow; - is standard input), which has their keys as columns")
	f.StringVar(&o.format, "format", "", "format of --file: csv, parquet or arrow (default by its name)")
	f.BoolVar(&o.exact, "exact", false, "leave entities alone that have the same keys under another name, or further ones")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be removed, and change nothing")
	f.BoolVar(&o.showKeys, "show-keys", false, "show the keys in the receipt, and not only their hashes")
	f.BoolVar(&o.allow, "allow", false, "take the entities off the list: the next sync carries their rows again")
	f.StringVar(&o.exportTo, "export", "", "write the list to this `file`")
	f.StringVar(&o.importFrom, "import", "", "put the list of this `file` into the store, and remove the rows of those who are in it")
	f.BoolVar(&o.clearList, "clear-list", false, "begin a new list: all who were forgotten may come back")
	f.DurationVar(&o.settle, "settle", syncer.DefaultSettle, "how long after the first removal comes the second, when servers that were writing have ended")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	return cmd
}

// parse checks flags and arguments.
func (o *forgetOptions) parse(cmd *cobra.Command, args []string) error {
	if o.output != "text" && o.output != "json" {
		return usagef(cmd, "-o: %q is not known; write text or json", o.output)
	}
	if o.settle < time.Millisecond {
		return usagef(cmd, "--settle: %v is less than a millisecond", o.settle)
	}
	ways := 0
	for _, flag := range []string{"export", "import", "clear-list"} {
		if cmd.Flags().Changed(flag) {
			ways++
		}
	}
	switch {
	case ways > 1 || (ways == 1 && len(args) > 0):
		return usagef(cmd, "--export, --import and --clear-list are about the whole list; give one of them, and no entity")
	case ways == 1:
		// A look that changes something, or the whole list for some who are in it, is not what anybody asks for.
		for _, flag := range []string{"dry-run", "allow", "file", "exact"} {
			if cmd.Flags().Changed(flag) {
				return usagef(cmd, "--export, --import and --clear-list are about the whole list; leave --%s out", flag)
			}
		}
		return nil
	case len(args) == 0 || strings.Contains(args[0], "="):
		return usagef(cmd, "name the entity, and then its keys; for example twofold forget user user_id=42")
	case len(args) == 1 && o.file == "":
		return usagef(cmd, "give the keys of the entities, as key=value or with --file")
	case len(args) > 1 && o.file != "":
		return usagef(cmd, "both keys and --file are given; choose one")
	case o.allow && o.dryRun:
		return usagef(cmd, "--allow and --dry-run do not go together")
	}
	o.entity, o.keys = args[0], args[1:]
	return nil
}

// forgetting is one run of the command.
type forgetting struct {
	*forgetOptions
	app       *app
	process   *process
	forgetter *syncer.Forgetter
	cmd       *cobra.Command
}

func (a *app) forget(cmd *cobra.Command, o forgetOptions) error {
	loaded, err := a.load(cmd)
	if err != nil {
		return err
	}
	ctx, c := cmd.Context(), loaded.Config
	c.HotCache.MaxBytes = 0 // what is stored counts
	p, err := a.open(ctx, c)
	if err != nil {
		return err
	}
	defer p.close()
	f := &forgetting{forgetOptions: &o, app: a, process: p, cmd: cmd}
	switch {
	case o.exportTo != "":
		return f.export(ctx)
	case o.clearList:
		return f.clear(ctx)
	}
	set, err := p.definitions(ctx)
	if err != nil {
		return err
	}
	f.forgetter = &syncer.Forgetter{Registry: set.Registry, Online: p.online, Settle: o.settle, Tell: a.complain}
	if o.importFrom != "" {
		return f.importList(ctx)
	}
	entity, err := set.Registry.Entity(o.entity)
	if err != nil {
		return err
	}
	request := syncer.ForgetRequest{Entity: entity, Exact: o.exact}
	if request.Keys, err = f.readKeys(ctx, entity); err != nil {
		return err
	}
	if o.allow {
		return f.allowAgain(ctx, request)
	}
	return f.run(ctx, request)
}

// run shows what would be removed, asks, removes, and prints the receipt.
func (f *forgetting) run(ctx context.Context, request syncer.ForgetRequest) error {
	if !f.dryRun && !f.yes && !isTerminal(f.app.in) {
		return f.unasked()
	}
	if f.dryRun || !f.yes {
		look, err := f.forgetter.Look(ctx, request)
		if err != nil {
			return err
		}
		if f.dryRun {
			return f.print(f.receipt(request, look, time.Time{}))
		}
		if err := f.showPlan(request, look); err != nil {
			return err
		}
		if err := f.confirm(ctx, "Remove these rows for good?"); err != nil {
			return err
		}
	}
	began := time.Now()
	done, err := f.forgetter.Forget(ctx, request)
	if err != nil {
		return fmt.Errorf("%w; nothing is certain to be removed yet: run the same command again", err)
	}
	if err := f.print(f.receipt(request, done, began)); err != nil {
		return err
	}
	return verified(done)
}

func verified(done *syncer.Forgetting) error {
	if !done.IsVerified() {
		return fault.New(fault.Precondition, "rows are left, or cannot be told (see the receipt); is a syncer or server of an older version running? Run the same command again")
	}
	return nil
}

// showPlan shows what Forget is going to do.
func (f *forgetting) showPlan(request syncer.ForgetRequest, look *syncer.Forgetting) error {
	t := newTable("feature view", "entity", "entities with rows")
	for _, v := range look.Views {
		t.add(v.View, v.Entity, fmt.Sprint(v.Removed))
	}
	fmt.Fprintf(f.app.err, "%s of entity %q in %s\n", count(request.Keys[0].Len(), "entity", "entities"), request.Entity.Name, f.process.onlineName)
	return t.write(f.app.err)
}

// errUnconfirmed ends a command whose user did not say yes.
var errUnconfirmed = errors.New("nothing was done")

// unasked is the error where nobody can be asked.
func (f *forgetting) unasked() error {
	return usagef(f.cmd, "standard input is no terminal, so nobody can be asked; say --yes, or look first with --dry-run")
}

// confirm asks, and fails where the answer is not yes.
func (f *forgetting) confirm(ctx context.Context, question string) error {
	if f.yes {
		return nil
	}
	if !isTerminal(f.app.in) {
		return f.unasked()
	}
	return f.app.ask(ctx, question)
}

// ask asks on standard error, and fails where standard input does not answer yes.
func (a *app) ask(ctx context.Context, question string) error {
	fmt.Fprint(a.err, question, " Type yes: ")
	line, err := bufio.NewReader(a.input(ctx)).ReadString('\n')
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if strings.TrimSpace(line) != "yes" {
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the answer: %w", err)
		}
		return errUnconfirmed
	}
	return nil
}

// allowAgain takes entities off the list.
func (f *forgetting) allowAgain(ctx context.Context, request syncer.ForgetRequest) error {
	question := fmt.Sprintf("Let %s of entity %q come back with the next sync?", count(request.Keys[0].Len(), "entity", "entities"), request.Entity.Name)
	if err := f.confirm(ctx, question); err != nil {
		return err
	}
	n, err := f.forgetter.Allow(ctx, request)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f.app.out, "%s taken off the list of forgotten entities; the next sync of their views carries every file again\n", count(n, "entry was", "entries were"))
	return err
}

// export writes the list to a file.
func (f *forgetting) export(ctx context.Context) error {
	list, err := syncstate.New(f.process.online).Forgotten(ctx)
	if err != nil {
		return err
	}
	if list.Len() == 0 {
		return fault.New(fault.Precondition, "nobody is forgotten in %s, so there is no list to write", f.process.onlineName)
	}
	text, err := formatJSON(list.Export())
	if err != nil {
		return err
	}
	if err := f.app.writeOutput(ctx, f.exportTo, s3Config(f.process.config), offline.CreateOptions{Overwrite: true}, text); err != nil {
		return err
	}
	f.app.complain(fmt.Sprintf("wrote %s; whoever has this file can find out whether somebody they know of is in it, so keep it as you keep the keys", count(list.Len(), "entry", "entries")))
	return nil
}

// maxListBytes bounds a list that is imported.
const maxListBytes = 1 << 30

// importList puts an exported list into the store, and removes the rows of those who are in it.
func (f *forgetting) importList(ctx context.Context) error {
	info, err := os.Stat(f.importFrom)
	if err != nil {
		return err
	}
	if info.Size() > maxListBytes {
		return fault.New(fault.Invalid, "%s has %d bytes, more than a list of forgotten entities can have", f.importFrom, info.Size())
	}
	text, err := os.ReadFile(f.importFrom)
	if err != nil {
		return err
	}
	list, err := parseForgotten(text)
	if err != nil {
		return fmt.Errorf("%s: %w", f.importFrom, err)
	}
	question := fmt.Sprintf("Put %s into the list of %s, and remove the rows of all of them?", count(list.Len(), "entry", "entries"), f.process.onlineName)
	if err := f.confirm(ctx, question); err != nil {
		return err
	}
	began := time.Now()
	done, err := f.forgetter.Import(ctx, list)
	if err != nil {
		return err
	}
	if err := f.print(f.receipt(syncer.ForgetRequest{}, done, began)); err != nil {
		return err
	}
	return verified(done)
}

// parseForgotten reads a list as export writes it.
func parseForgotten(text []byte) (*syncstate.Forgotten, error) {
	message := &twofoldv1.ForgottenList{}
	if err := protojson.Unmarshal(text, message); err != nil {
		return nil, fault.New(fault.Invalid, "it is no list of forgotten entities: %w", err)
	}
	return syncstate.ImportForgotten(message)
}

// clear removes the list.
func (f *forgetting) clear(ctx context.Context) error {
	if err := f.confirm(ctx, fmt.Sprintf("Remove the whole list of forgotten entities from %s, so that all of them may come back?", f.process.onlineName)); err != nil {
		return err
	}
	if err := syncstate.New(f.process.online).ClearForgotten(ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintln(f.app.out, "the list of forgotten entities is empty; twofold sync --once --full brings back those whose rows are in the files")
	return err
}

// isTerminal reports whether somebody sits at a reader or writer.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// readKeys reads the keys of the entities to forget: one column for each key of the entity.
func (f *forgetting) readKeys(ctx context.Context, entity *feature.Entity) ([]*feature.Column, error) {
	if f.file != "" {
		return f.keysOfFile(ctx, entity)
	}
	args, err := parseKeyArgs(f.keys)
	if err != nil {
		return nil, usageError{f.cmd, err}
	}
	keys, err := args.typed(entity.Keys, fmt.Sprintf("rows of entity %q", entity.Name))
	if err != nil {
		return nil, usageError{f.cmd, err}
	}
	return keys, nil
}
