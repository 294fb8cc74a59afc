package fault

import "runtime/debug"

// Guard turns a panic of task into an error of kind Internal: one request fails, the process does not.
func Guard(task func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = New(Internal, "panic: %v\n%s", v, debug.Stack())
		}
	}()
	return task()
}
