package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ, which is 100 a second on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// CPUTime returns the CPU time that a process has used until now, in user mode and in the kernel, in steps of 10 ms.
func CPUTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	d, err := parseStat(string(b))
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	return d, nil
}

// parseStat returns utime + stime of a /proc/PID/stat (fields 14 and 15). Field 2, the program's name, may hold spaces and parentheses.
func parseStat(text string) (time.Duration, error) {
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return 0, fmt.Errorf("%q is no line of /proc/PID/stat", text)
	}
	fields := strings.Fields(text[end+1:]) // from field 3 on
	if len(fields) < 13 {
		return 0, fmt.Errorf("a line of /proc/PID/stat has %d fields behind the name, and 13 are needed", len(fields))
	}
	var ticks uint64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseUint(field, 10, 63)
		if err != nil {
			return 0, fmt.Errorf("CPU time in /proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// CPUModel returns the processor's name as /proc/cpuinfo has it, "unknown processor" where it cannot be told.
func CPUModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	return parseCPUModel(string(b))
}

func parseCPUModel(text string) string {
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}
