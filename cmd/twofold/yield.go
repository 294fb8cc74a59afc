package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// yieldToOthers has a process that works in the background of others take less memory, and a processor only when they do not need it.
func yieldToOthers() {
	collectLate()
	yieldProcessor()
}

const (
	// syncGCPercent is how much garbage a syncer lets come up beside what it uses, in percent. What a sync holds is one small record an entity, for long, and it makes little
	// garbage beside that: a lower share than Go's own 100 costs it hardly any time, and saves it a quarter of its memory.
	syncGCPercent = 50
	// syncMemoryAtFirst is how much memory a syncer takes before its first collection. Small syncs are over by then; collecting each few megabytes took a tenth of their
	// processor time. What large ones take at most stays as it is.
	syncMemoryAtFirst = 128 << 20
)

// collectLate has a syncer's garbage collected at syncGCPercent from when it takes syncMemoryAtFirst, unless the environment says when (GOGC, GOMEMLIMIT).
func collectLate() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(-1)
	limit := debug.SetMemoryLimit(syncMemoryAtFirst)
	// The first collection finds that nothing refers to this.
	runtime.AddCleanup(new([64]byte), func(limit int64) {
		debug.SetGCPercent(syncGCPercent)
		debug.SetMemoryLimit(limit)
	}, limit)
}
