package process

import (
	"os/exec"
	"syscall"
)

// own asks the kernel to kill the program when the thread that starts it ends, and keeps the terminal's signals from it.
func own(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
