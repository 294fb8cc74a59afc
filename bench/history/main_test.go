package main

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// testFolder is for what several tests share.
var testFolder string

// TestMain lets the test binary be the children that the benchmark starts, which are this program with a subcommand.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && slices.Contains([]string{clientUse, duckUse}, os.Args[1]) {
		main()
		return
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	var err error
	if testFolder, err = os.MkdirTemp("", "twofold-bench-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(testFolder)
	return m.Run()
}
