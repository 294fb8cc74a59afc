package testenv

import (
	"os/exec"
	"syscall"
)

// endWithParent asks the kernel to kill the program when the thread that started it ends.
func endWithParent(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
