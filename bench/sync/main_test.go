package main

import (
	"fmt"
	"os"
	"testing"
)

// testFolder is for what several tests share.
var testFolder string

// TestMain lets the test binary be the child that the benchmark starts, which is this program with a subcommand.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == readUse {
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
