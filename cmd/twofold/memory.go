package main

import (
	"os"
	"runtime/debug"
	"sync"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/fault"
)

const (
	// servingGCPercent lets the heap grow to five times what is live before it is collected. A server has little that lives (connections,
	// plans, buffers) and makes much garbage, so that Go's own 100 would collect tens of times a second to save some megabytes.
	servingGCPercent = 400
	// trainingGCPercent holds while training sets are made: then much lives, most of it numbers, which a collection need not look at.
	trainingGCPercent = 25
)

// tuneCollector sets the garbage collector for a serving process, unless its environment does (GOGC).
func tuneCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(servingGCPercent)
	}
}

// tuneForTraining returns what is to be told of training sets that begin (+1) and end (−1), for the garbage collector.
func tuneForTraining() func(change int) {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	var mu sync.Mutex
	active := 0
	return func(change int) {
		mu.Lock()
		defer mu.Unlock()
		before := active
		active += change
		switch {
		case before == 0 && active > 0:
			debug.SetGCPercent(trainingGCPercent)
		case before > 0 && active == 0:
			debug.SetGCPercent(servingGCPercent)
		}
	}
}

// trainingMemory is the size of the setting memory: of the container's limit, or of the machine where there is none.
func trainingMemory(m config.Memory) (int64, error) {
	total, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
	if err != nil {
		return 0, fault.New(fault.Precondition, "how much memory there is cannot be found out: %w; set memory to a size, for example 2GiB", err)
	}
	return m.Of(int64(min(total, 1<<62))), nil
}
