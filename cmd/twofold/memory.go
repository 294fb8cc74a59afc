package main

import (
	"os"
	"runtime/debug"
)

// servingGCPercent lets the heap grow to five times what is live before it is collected. A server has little that lives (connections,
// plans, buffers) and makes much garbage, so that Go's own 100 would collect tens of times a second to save some megabytes.
const servingGCPercent = 400

// tuneCollector sets the garbage collector for a serving process, unless its environment does (GOGC).
func tuneCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(servingGCPercent)
	}
}
