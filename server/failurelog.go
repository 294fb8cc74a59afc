package server

import (
	"sync"
	"time"
)

const (
	// failureInterval is the time between two lines of the log about failed calls of a kind: an outage fails thousands a second.
	failureInterval = time.Second
	// failureKinds is how many kinds are told apart.
	failureKinds = 256
	// failureText is how much of an error's text tells kinds apart.
	failureText = 120
)

// failureLog decides which failed calls are told in the log: of each kind the first, and then one a second with how many were left out.
type failureLog struct {
	mu    sync.Mutex
	kinds map[string]*failureCount
}

type failureCount struct {
	told    time.Time
	leftOut int
}

// admit reports whether a failure is to be told, and how many like it were not since the last that was.
func (f *failureLog) admit(method, text string, now time.Time) (leftOut int, ok bool) {
	if len(text) > failureText {
		text = text[:failureText]
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := method + text
	kind, known := f.kinds[key]
	if !known {
		if f.kinds == nil || len(f.kinds) >= failureKinds {
			f.kinds = map[string]*failureCount{}
		}
		f.kinds[key] = &failureCount{told: now}
		return 0, true
	}
	if now.Sub(kind.told) < failureInterval {
		kind.leftOut++
		return 0, false
	}
	leftOut, kind.leftOut, kind.told = kind.leftOut, 0, now
	return leftOut, true
}
