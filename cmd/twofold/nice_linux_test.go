package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const niceHelper = "TWOFOLD_TEST_NICE"

// TestYieldProcessor: in a process of its own, because it cannot be taken back.
func TestYieldProcessor(t *testing.T) {
	if os.Getenv(niceHelper) == "" {
		command := exec.Command(os.Args[0], "-test.run=^TestYieldProcessor$", "-test.v")
		command.Env = append(os.Environ(), niceHelper+"=1")
		out, err := command.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "--- PASS: TestYieldProcessor")
		return
	}
	yieldProcessor()
	threads, err := filepath.Glob("/proc/self/task/*/stat")
	require.NoError(t, err)
	require.NotEmpty(t, threads)
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		nice, err := strconv.Atoi(fields[16]) // field 19 of proc(5)
		require.NoError(t, err)
		require.GreaterOrEqual(t, nice, syncNice, path)
	}
}
