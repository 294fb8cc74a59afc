package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

func (a *app) statusCommand() *cobra.Command {
	var timeout time.Duration
	var output string
	var runs int
	cmd := &cobra.Command{
		Use:   "status [VIEW...]",
		Short: "Show how fresh each feature view is, and how its syncs went",
		Long: `Shows of each feature view that is synced how many entities it has (with mode INCREMENTAL as many as the last run found that read every file), how old its newest row is, how and
when its last run ended, when the next one is due, and whether features will be absent before that has ended. It asks a server (:7070) or a syncer (:7073), which reads what the online store
remembers, whichever process has synced.

It exits 0 where all is well, 1 where a view needs somebody (the sentences below the table say why), and 3 where the server or
its store cannot be reached: for scripts and probes. --runs shows the last runs as well.`,
		Example: `  twofold status
  twofold status --server localhost:7073
  twofold status weather --runs 5
  twofold status -o json`,
		GroupID:           groupServe,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, views []string) error {
			if output != "table" && output != "json" {
				return usagef(cmd, "-o: %q is not known; write table or json", output)
			}
			if runs < 0 {
				return usagef(cmd, "--runs: %d is less than 0", runs)
			}
			c, done, err := a.connect(cmd, timeout)
			if err != nil {
				return err
			}
			defer done()
			return a.status(c, views, runs, output == "json")
		},
	}
	clientFlags(cmd, &timeout, 10*time.Second)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().IntVar(&runs, "runs", 0, "show this many of the last runs of each view")
	return cmd
}

// errUnwell makes the command fail; what is wrong was printed.
var errUnwell = errors.New("not every view is well")

func (a *app) status(c *connection, views []string, runs int, asJSON bool) error {
	status, err := c.Sync().GetSyncStatus(c.ctx, &twofoldv1.GetSyncStatusRequest{FeatureViews: views})
	if err != nil {
		return c.wrap(err)
	}
	last := &twofoldv1.ListSyncRunsResponse{}
	if runs > 0 {
		if last, err = c.Sync().ListSyncRuns(c.ctx, &twofoldv1.ListSyncRunsRequest{FeatureViews: views, Limit: uint32(runs)}); err != nil {
			return c.wrap(err)
		}
	}
	if asJSON {
		err = a.statusJSON(status, last)
	} else {
		err = a.statusTable(status, last)
	}
	if err != nil {
		return err
	}
	for _, view := range status.GetViews() {
		if view.GetProblem() != "" {
			return errUnwell
		}
	}
	return nil
}

// statusJSON prints the status, and the runs where there are any, each as a message of the contract on a line of its own.
func (a *app) statusJSON(status *twofoldv1.GetSyncStatusResponse, runs *twofoldv1.ListSyncRunsResponse) error {
	options := protojson.MarshalOptions{EmitDefaultValues: true}
	text, err := options.Marshal(status)
	if err == nil {
		_, err = fmt.Fprintln(a.out, string(text))
	}
	if err != nil || len(runs.GetRuns()) == 0 {
		return err
	}
	if text, err = options.Marshal(runs); err == nil {
		_, err = fmt.Fprintln(a.out, string(text))
	}
	return err
}

func (a *app) statusTable(status *twofoldv1.GetSyncStatusResponse, runs *twofoldv1.ListSyncRunsResponse) error {
	now := time.UnixMicro(status.GetNowMicros()).UTC()
	t := newTable("feature view", "mode", "entities", "newest row", "lag", "last run", "next run", "gap risk", "")
	var problems []string
	for _, v := range status.GetViews() {
		mark := "ok"
		if v.GetProblem() != "" {
			mark = "!"
			problems = append(problems, fmt.Sprintf("! %s: %s", v.GetFeatureView(), v.GetProblem()))
		}
		lag := ""
		if v.GetLag() != nil {
			lag = about(v.GetLag().AsDuration())
		}
		t.add(v.GetFeatureView(), strings.ToLower(v.GetMode()), knownCount(v.GetEntities()), instant(v.GetNewestEventMicros()), lag, lastRun(v.GetLastRun(), now),
			until(v.GetNextRunMicros(), now), gapRisk(v, now), mark)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	if len(runs.GetRuns()) > 0 {
		fmt.Fprintln(a.out)
		r := newTable("run of", "began", "took", "because of", "outcome", "files", "rows read", "written", "older", "unchanged", "note")
		for _, run := range runs.GetRuns() {
			note := run.GetNote()
			if run.GetError() != "" {
				note = run.GetError()
			}
			r.add(run.GetFeatureView(), instant(run.GetStartedAtMicros()), run.GetElapsed().AsDuration().Round(time.Millisecond).String(), reason(run),
				enumText(run.GetOutcome().String(), "SYNC_OUTCOME_"), fmt.Sprintf("%d of %d", run.GetFilesRead(), run.GetFilesRead()+run.GetFilesUnchanged()),
				fmt.Sprint(run.GetRowsRead()), fmt.Sprint(run.GetWritten()), fmt.Sprint(run.GetOlder()), fmt.Sprint(run.GetUnchanged()), note)
		}
		if err := r.write(a.out); err != nil {
			return err
		}
	}
	for _, problem := range problems {
		fmt.Fprintln(a.out, problem)
	}
	return nil
}

// knownCount is a number, nothing where it is not known.
func knownCount(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// gapRisk says whether features will be absent before the next run, which is taken to last as long as the last one and to find newer rows, has brought others.
func gapRisk(v *twofoldv1.SyncStatus, now time.Time) string {
	left := v.GetUntilGap().AsDuration()
	run := v.GetLastRun().GetElapsed().AsDuration()
	brought := max(0, time.UnixMicro(v.GetNextRunMicros()).Sub(now)) + run
	switch {
	case v.GetNewestEventMicros() == 0:
		return ""
	case v.GetUntilGap() == nil:
		return "none, rows do not expire"
	case left == 0:
		return "expired"
	case v.GetNextRunMicros() != 0 && left < brought:
		return "gap in " + about(left)
	default:
		return "none for " + about(left)
	}
}

// lastRun says how and when a run began.
func lastRun(run *twofoldv1.SyncRun, now time.Time) string {
	if run == nil {
		return "none"
	}
	return fmt.Sprintf("%s, %s ago", enumText(run.GetOutcome().String(), "SYNC_OUTCOME_"), about(now.Sub(time.UnixMicro(run.GetStartedAtMicros()))))
}

// reason says what started a run.
func reason(run *twofoldv1.SyncRun) string {
	trigger := enumText(run.GetTrigger().String(), "SYNC_TRIGGER_")
	if run.GetCause() == "" {
		return trigger
	}
	return trigger + " (" + run.GetCause() + ")"
}

func enumText(name, prefix string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, prefix), "_", " "))
}

func instant(micros int64) string {
	if micros == 0 {
		return "none"
	}
	return time.UnixMicro(micros).UTC().Format(time.RFC3339)
}

// until says how far a moment is ahead.
func until(micros int64, now time.Time) string {
	at := time.UnixMicro(micros)
	switch {
	case micros == 0:
		return ""
	case at.Before(now):
		return "due " + about(now.Sub(at)) + " ago"
	default:
		return "in " + about(at.Sub(now))
	}
}

// about writes a time in two units at most.
func about(d time.Duration) string {
	if d < 0 {
		return "-" + about(-d)
	}
	day := 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	default:
		return d.Round(100 * time.Millisecond).String()
	}
}
