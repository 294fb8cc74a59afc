package main

import (
	"os"
	"strconv"
	"syscall"
)

// syncNice is the least nice value of a syncer (nice(1)): what answers readers on the same machine, the store and a server, gets a processor first. Where there are enough, it changes
// nothing.
const syncNice = 10

// yieldProcessor gives this process the nice value syncNice, unless it has a higher one. In Linux each thread has its own, and gives it to those that it starts, so that a second pass
// finds those that were started during the first. Where it may not be done, the process stays as it is.
func yieldProcessor() {
	for range 2 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil || niceOf(id) >= syncNice {
				continue
			}
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, syncNice) // the thread may have ended
		}
	}
}

// niceOf returns the nice value of a thread, syncNice where it is not known. The kernel gives 20 less the nice value.
func niceOf(thread int) int {
	priority, err := syscall.Getpriority(syscall.PRIO_PROCESS, thread)
	if err != nil {
		return syncNice
	}
	return 20 - priority
}
