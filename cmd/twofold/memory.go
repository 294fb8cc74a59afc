package main

import (
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/fault"
)

const (
	// servingGCPercent lets the heap grow to five times what is live before it is collected. A server has little that lives (connections,
	// plans, buffers) and makes much garbage, so that Go's own 100 would collect tens of times a second to save some megabytes.
	servingGCPercent = 400
	// While training sets are made, much lives that a collection need not look at: numbers. Then the heap may grow by trainingGarbage past what was given to
	// them, or by leastGCPercent of it.
	trainingGarbage = 128 << 20
	leastGCPercent  = 25
)

// tuneCollector sets the garbage collector for a serving process, unless its environment does (GOGC).
func tuneCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(servingGCPercent)
	}
}

// tuneForTraining returns what is to be told of the memory that training sets have been given, for the garbage collector.
func tuneForTraining() func(inUse int64) {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	return func(inUse int64) { debug.SetGCPercent(gcPercent(inUse)) }
}

// gcPercent is how far the heap may grow past what lives, where training sets have so many bytes.
func gcPercent(inUse int64) int {
	return int(min(servingGCPercent, max(leastGCPercent, 100*trainingGarbage/max(1, inUse))))
}

// trainingMemory is the size of the setting memory: of the container's limit, or of the machine where there is none.
func trainingMemory(m config.Memory) (int64, error) {
	total, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
	if err != nil {
		return 0, fault.New(fault.Precondition, "how much memory there is cannot be found out: %w; set memory to a size, for example 2GiB", err)
	}
	return m.Of(int64(min(total, 1<<62))), nil
}
