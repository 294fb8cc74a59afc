package main

import (
	"os"
	"runtime/debug"
)

// yieldToOthers has a process that works in the background of others take less memory, and a processor only when they do not need it.
func yieldToOthers() {
	collectOften()
	yieldProcessor()
}

// syncGCPercent is how much garbage a syncer lets come up beside what it uses, in percent. What a sync holds is one small record an entity, for long, and it makes little
// garbage beside that: a lower share than Go's own 100 costs it hardly any time, and saves it a quarter of its memory.
const syncGCPercent = 50

// collectOften has a syncer's garbage collected at syncGCPercent, unless the environment variable GOGC says when.
func collectOften() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(syncGCPercent)
	}
}
