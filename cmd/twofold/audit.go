package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/syncer/audit"
)

func (a *app) auditCommand() *cobra.Command {
	var o auditOptions
	cmd := &cobra.Command{
		Use:   "audit [VIEW...]",
		Short: "Compare the online store with what the offline files say it should hold",
		Long: `For each feature view that is synced, or those that are named, works out from the Parquet files which rows the online store should hold now, compares them with
those that it holds, value by value, and says which are missing, stale, different, cannot be read, or should not be there. It writes nothing.

With --sample it compares a share of the entities, chosen by a hash of their keys: the same ones each time with the same --seed. It then still reads all keys
and times of the files and goes through all rows that are stored. The classes, and what else a difference can mean, are in docs/reference/audit.md.

It exits 0 where the stores agree, 1 where they do not, and 3 where one cannot be reached. Rows that the files do not have (extra, newer) may have been pushed, so they
do not count, but for views that are synced by snapshots, and with --strict.`,
		Example: `  twofold audit
  twofold audit weather --sample 0.1 --seed 7
  twofold audit -o json --strict`,
		GroupID:           groupServe,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, views []string) error {
			if err := o.check(cmd, views); err != nil {
				return err
			}
			loaded, err := a.load(cmd)
			if err != nil {
				return err
			}
			return a.audit(cmd.Context(), loaded.Config, views, o)
		},
	}
	config.AddFlags(cmd.Flags(), "definitions", "offline_store_path", "s3", "online_store", "feature_sync_interval", "clock_start", "log")
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	f.Float64Var(&o.sample, "sample", 1, "`share` of the entities to compare, more than 0 to 1")
	f.Float64Var(&o.sampleFrom, "sample-from", 0, "where the sample begins, 0 to 1: with --sample 0.1, each of 0, 0.1, ... 0.9 is another tenth")
	f.Uint64Var(&o.seed, "seed", 0, "choose other entities for the sample")
	f.IntVar(&o.examples, "examples", 3, "how many differences of each class to show")
	f.Uint64Var(&o.generation, "generation", 0, "audit this `generation` of the view, which is synced by snapshots (default the live one)")
	f.BoolVar(&o.strict, "strict", false, "rows that the files do not have count, also where they may have been pushed")
	return cmd
}

// auditOptions are the flags of audit.
type auditOptions struct {
	output             string
	sample, sampleFrom float64
	seed, generation   uint64
	examples           int
	strict             bool
	isGenerationSet    bool
}

// check refuses flags that are wrong in themselves.
func (o *auditOptions) check(cmd *cobra.Command, views []string) error {
	o.isGenerationSet = cmd.Flags().Changed("generation")
	switch {
	case o.output != "table" && o.output != "json":
		return usagef(cmd, "-o: %q is not known; write table or json", o.output)
	case !(o.sample > 0 && o.sample <= 1):
		return usagef(cmd, "--sample: %v is not a share of the entities; write more than 0 to 1", o.sample)
	case !(o.sampleFrom >= 0 && o.sampleFrom < 1):
		return usagef(cmd, "--sample-from: %v is not in the range; write 0 to less than 1", o.sampleFrom)
	case o.sampleFrom > 0 && o.sampleFrom+o.sample > 1+1e-9:
		return usagef(cmd, "--sample-from: a sample of %v that begins at %v ends after 1", o.sample, o.sampleFrom)
	case o.examples < 0:
		return usagef(cmd, "--examples: %d is less than 0", o.examples)
	case o.isGenerationSet && (len(views) != 1 || o.generation == 0):
		return usagef(cmd, "--generation: name one feature view, and a generation of it from 1 up")
	}
	return nil
}

// auditedView is what was found of a view.
type auditedView struct {
	*audit.Report
	// Faults is the number of differences that make the command fail.
	Faults int64 `json:"faults"`
	// Notes say, for people, what differences may come of.
	Notes []string `json:"notes,omitempty"`
}

// errDiffers makes the command fail; what differs was printed.
var errDiffers = errors.New("the online store does not hold what the files say")

func (a *app) audit(ctx context.Context, c config.Config, names []string, o auditOptions) error {
	c.HotCache.MaxBytes = 0 // the store itself is asked
	p, set, err := a.openDefined(ctx, c)
	if err != nil {
		return err
	}
	defer p.close()
	views, err := plannedViews(set.Registry, names)
	if err != nil {
		return err
	}
	line := a.progress()
	audited := make([]auditedView, 0, len(views))
	var failures []error
	for _, view := range views {
		v, err := p.audit(ctx, view, o, line)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		audited = append(audited, v)
	}
	line.finish()
	if o.output == "json" {
		out := json.NewEncoder(a.out)
		out.SetIndent("", "  ")
		err = out.Encode(struct {
			Views []auditedView `json:"feature_views"`
		}{audited})
	} else if len(audited) > 0 {
		err = a.printAudit(audited)
	}
	for _, v := range audited {
		if v.Faults > 0 && err == nil && len(failures) == 0 {
			err = errDiffers
		}
	}
	return errors.Join(append(failures, err)...)
}

// audit audits one view.
func (p *process) audit(ctx context.Context, view *feature.View, o auditOptions, line *progressLine) (v auditedView, err error) {
	if o.isGenerationSet && view.Sync.Mode != feature.Snapshot {
		return v, fault.New(fault.Precondition, "feature view %q has no generations, because it is not synced by snapshots (sync.mode: SNAPSHOT); leave --generation out", view.Name)
	}
	generation, err := p.audited(ctx, view, o, &v)
	if err != nil {
		return v, err
	}
	options := audit.Options{
		View: view, Online: p.online, Offline: p.offline, Generation: generation, Now: p.now, Sample: o.sample, SampleFrom: o.sampleFrom, Seed: o.seed, Examples: o.examples,
		Progress: auditProgress(line, view.Name),
	}
	if o.examples == 0 {
		options.Examples = -1
	}
	if v.Report, err = audit.Run(ctx, options); err != nil {
		return v, err
	}
	if after, err := p.audited(ctx, view, o, nil); err != nil || after != generation {
		// The rows of the one before may have been removed under the audit.
		return v, errors.Join(err, fault.New(fault.Unavailable, "feature view %q: generation %d has taken the place of %d while that was audited; try again", view.Name, after, generation))
	}
	v.Faults = v.Report.Faults()
	if o.strict {
		v.Faults = v.Differences()
	}
	if v.FilesChanged {
		v.Notes = append(v.Notes, "the files changed while they were compared, or rows came to their time; audit again when they are at rest")
	}
	if v.CanBePushed && v.Counts.Extra+v.Counts.Newer > 0 {
		v.Notes = append(v.Notes, "extra and newer rows may have been pushed, or come from files that are gone; they are faults only with --strict")
	}
	return v, nil
}

// audited returns the generation of a view that is audited, and notes what v is to say of how far it is synced, where it is not nil.
func (p *process) audited(ctx context.Context, view *feature.View, o auditOptions, v *auditedView) (uint64, error) {
	if o.isGenerationSet {
		return o.generation, nil
	}
	states, generations, _, err := p.online.LiveStates(ctx, []*feature.View{view})
	if err != nil {
		return 0, err
	}
	switch {
	case states[0] == online.Unsynced && view.Sync.Mode == feature.Snapshot:
		return 0, fault.New(fault.Precondition, "feature view %q has no live generation in this store that could be audited; run twofold sync first, or name one with --generation", view.Name)
	case states[0] == online.Unsynced && v != nil:
		v.Notes = append(v.Notes, "no sync has carried the view into this store as it is defined now, or the store has lost it since; run twofold sync")
	case v != nil:
		return generations[0], p.noteFiles(ctx, view, v)
	}
	return generations[0], nil
}

// noteFiles notes files that no sync has carried yet.
func (p *process) noteFiles(ctx context.Context, view *feature.View, v *auditedView) error {
	store := syncstate.New(p.online)
	states, err := store.States(ctx, []string{view.Name})
	if err != nil {
		return err
	}
	carried, err := store.Files(ctx, states[0])
	if err != nil {
		return err
	}
	files, err := p.offline.Table(view).Files(ctx)
	if err != nil {
		return err
	}
	left := 0
	for _, f := range files {
		if due, ok := carried.Due(f); !ok || int64(due) <= p.now().UnixMicro() {
			left++
		}
	}
	if left > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("%d of %d files are new, changed or due since the last sync; what they bring differs until the next one", left, len(files)))
	}
	return nil
}

// auditProgress shows how far the audit of a view is.
func auditProgress(line *progressLine, view string) func(audit.Progress) {
	var rate rateMeter
	return func(p audit.Progress) {
		rows := ""
		if p.Done > 0 {
			rows = shortOf(uint64(p.Done), uint64(p.Total)) + " rows" //nolint:gosec // not negative
		}
		line.show(sentence(view+": "+p.Step, rows, rate.rate(time.Now(), p.Step, uint64(p.Done), uint64(p.Total)))) //nolint:gosec // not negative
	}
}

// printAudit prints what was found, for people.
func (a *app) printAudit(views []auditedView) error {
	t := newTable("feature view", "as of", "rows", "matching", "missing", "stale", "different", "wrong type", "unreadable", "extra", "newer", "not compared", "took", "")
	found := newTable("feature view", "difference", "row")
	differ := false
	for _, v := range views {
		mark, name, c := "ok", v.View, v.Counts
		if v.Faults > 0 {
			mark = "!"
		}
		if v.Generation > 0 {
			name = fmt.Sprintf("%s, generation %d", v.View, v.Generation)
		}
		t.add(name, v.AsOf[:min(len(v.AsOf), len("2006-01-02T15:04:05"))]+"Z", grouped(v.Expected), grouped(c.Matching), grouped(c.Missing), grouped(c.Stale), grouped(c.Different),
			grouped(c.WrongType), grouped(c.Unreadable), grouped(c.Extra), grouped(c.Newer), grouped(v.Expired+v.Superseded+v.Undecided),
			time.Duration(v.ElapsedSeconds*float64(time.Second)).Round(time.Millisecond).String(), mark)
		for _, finding := range v.Examples {
			differ = true
			found.add(v.View, string(finding.Class), finding.String())
		}
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	if differ {
		fmt.Fprintln(a.out)
		if err := found.write(a.out); err != nil {
			return err
		}
	}
	for _, v := range views {
		for _, note := range v.Notes {
			fmt.Fprintf(a.out, "note: %s: %s\n", v.View, note)
		}
	}
	return nil
}
