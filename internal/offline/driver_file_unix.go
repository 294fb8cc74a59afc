//go:build unix

package offline

import "syscall"

// errNotFolder is what the system says of a path that goes through a file.
const errNotFolder = syscall.ENOTDIR
