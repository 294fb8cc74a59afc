package syncer

import (
	"crypto/rand"
	"fmt"
	"os"
)

// holder names this process among all, for people as well: host, process and some letters that no other process has.
func holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s, process %d (%s)", host, os.Getpid(), rand.Text()[:8])
}

// runID names a run.
func runID() string { return rand.Text() }
