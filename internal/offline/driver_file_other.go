//go:build !unix

package offline

import "errors"

// errNotFolder is never returned by systems other than Unix: they say that the path does not exist.
var errNotFolder = errors.New("not a folder")
