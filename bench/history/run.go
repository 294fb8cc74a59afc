package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

func runCommand() *cobra.Command {
	var data, tf, only, perf string
	cmd := &cobra.Command{Use: "run", RunE: func(cmd *cobra.Command, _ []string) error {
		data, _ = filepath.Abs(data)
		t := table{seed: 1, rows: 10_000_000}
		e := entityTable{rows: 1_000_000, of: t}
		begun := time.Now()
		if err := t.generate(cmd.Context(), data); err != nil {
			return err
		}
		if err := e.generate(cmd.Context(), data); err != nil {
			return err
		}
		fmt.Printf("data made in %.1f s\n", time.Since(begun).Seconds())
		entities := filepath.Join(data, e.name(), "entities.parquet")
		for _, g := range []engine{ours, asof, exact, hashed} {
			if only == "ours" && g != ours || only == "duckdb" && g == ours {
				continue
			}
			var m measurement
			var err error
			if g == ours {
				m, err = twofold{program: tf, offlineStore: data, perf: perf}.measure(cmd.Context(), source{entities: entities, views: []string{t.name() + "/*.parquet"}})
			} else {
				m, err = measureDuck(cmd.Context(), source{entities: entities, views: []string{filepath.Join(data, t.name(), "*.parquet")}}.sql(g, ""), 2)
			}
			if err != nil {
				return err
			}
			fmt.Printf("%-12s %6.2f s  peak %5d MB  CPU %6.2f s  client peak %4d MB  client CPU %5.2f s  content %016x\n", g, m.elapsed.Seconds(), m.peakBytes>>20, m.cpu.Seconds(),
				m.clientPeakBytes>>20, m.clientCPU.Seconds(), m.tally.Content)
		}
		return nil
	}}
	cmd.Flags().StringVar(&data, "data", "", "")
	cmd.Flags().StringVar(&tf, "twofold", "bin/twofold", "")
	cmd.Flags().StringVar(&only, "only", "", "")
	cmd.Flags().StringVar(&perf, "perf", "", "")
	return cmd
}
