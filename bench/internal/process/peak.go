package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PeakBytes returns the greatest resident size that a process has had until now.
func PeakBytes(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	n, err := parsePeak(string(b))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	return n, nil
}

// parsePeak returns VmHWM of a /proc/PID/status, which the kernel gives in kB of 1,024 bytes.
func parsePeak(text string) (int64, error) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "VmHWM:")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 50)
		if err != nil {
			return 0, fmt.Errorf("VmHWM in /proc/PID/status: %w", err)
		}
		return int64(n) << 10, nil
	}
	return 0, fmt.Errorf("/proc/PID/status has no VmHWM")
}
