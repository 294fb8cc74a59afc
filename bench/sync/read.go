package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/pit"

	"github.com/twofold-ml/twofold/bench/internal/process"
)

// readUse is the subcommand that reads what a sync reads, and writes nothing.
const readUse = "read"

// reader is the process that only reads.
type reader struct {
	history  history
	offline  offline.Config
	onlyKeys bool
}

func readCommand() *cobra.Command {
	r := &reader{}
	cmd := &cobra.Command{
		Use: readUse, Hidden: true, Args: cobra.NoArgs,
		Short: "Read what a sync reads, and write nothing",
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := r.read(cmd.Context())
			fmt.Fprintln(cmd.OutOrStdout(), rows)
			return err
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&r.history.seed, "seed", 1, "seed of the data")
	f.Int64Var(&r.history.rows, "rows", 0, "rows of the data")
	f.Int64Var(&r.history.entities, "entities", 0, "entities of the data")
	f.StringVar(&r.offline.Path, "offline-store-path", "", "where the data is")
	f.StringVar(&r.offline.S3.Endpoint, "s3-endpoint", "", "the S3 service")
	f.StringVar(&r.offline.S3.Region, "s3-region", "", "its region")
	f.BoolVar(&r.onlyKeys, "only-keys", false, "find the newest rows only, and do not read their features")
	return cmd
}

// read finds the newest row of every entity, and reads their values by the same code as a sync. It returns how many there are.
func (r *reader) read(ctx context.Context) (rows int64, err error) {
	r.offline.S3.PathStyle = true
	r.offline.S3.AccessKeyID, r.offline.S3.SecretAccessKey = os.Getenv("TWOFOLD_S3_ACCESS_KEY_ID"), os.Getenv("TWOFOLD_S3_SECRET_ACCESS_KEY")
	view, err := r.history.view()
	if err != nil {
		return 0, err
	}
	store, err := offline.Open(ctx, r.offline)
	if err != nil {
		return 0, err
	}
	asOf := feature.AsOf(r.history.eventMicros(r.history.until(ofFew)))
	winners, err := pit.Latest(ctx, view, store.Table(view).Scan(), pit.LatestOptions{AsOf: asOf, MaxEventTime: feature.EventTime(asOf)})
	if err != nil || r.onlyKeys {
		return 0, err
	}
	err = winners.Batches(ctx, 1<<17, view.OnlineFeatures(), func(batch pit.WinnerBatch) error {
		rows += int64(batch.Len())
		return nil
	})
	return rows, err
}

// read runs a process that only reads.
func (b *bench) read(ctx context.Context, flags ...string) (run, error) {
	self, err := os.Executable()
	if err != nil {
		return run{}, fmt.Errorf("find this program: %w", err)
	}
	args := []string{readUse, "--seed", fmt.Sprint(b.history.seed), "--rows", fmt.Sprint(b.history.rows), "--entities", fmt.Sprint(b.history.entities),
		"--offline-store-path", b.gateway.URL()}
	command := exec.Command(self, append(append(args, b.gateway.Flags()...), flags...)...)
	command.Env = append(os.Environ(), b.gateway.Environment()...)
	return runToEnd(ctx, "reading alone", command)
}

// cpuOf returns the CPU time of a process until now, or 0 where it cannot be told.
func cpuOf(pid int) float64 {
	d, err := process.CPUTime(pid)
	if err != nil {
		return 0
	}
	return d.Seconds()
}
