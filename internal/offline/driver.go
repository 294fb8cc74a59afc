package offline

import (
	"context"
	"errors"

	"github.com/twofold-ml/twofold/internal/fault"
)

// driver is one kind of object store. Its errors carry a fault kind and name the URL.
type driver interface {
	// list calls yield with every object whose path starts with the prefix at.path, in any order. Folders are not objects. Below a prefix
	// with no objects, yield is not called. An error of yield ends the listing and is returned.
	list(ctx context.Context, at location, yield func(object) error) error
	// stat describes one object. Where there is none, or only a folder, the error is errNoObject.
	stat(ctx context.Context, at location) (object, error)
	// open prepares reading exactly the object that was listed: bytes of another version are never given, reads then fail with errChanged.
	open(ctx context.Context, o object) (objectReader, error)
	// create begins an object. Without overwrite, one that is there is an error of kind Precondition, here or when it is committed.
	create(ctx context.Context, at location, overwrite bool) (objectWriter, error)
}

// objectReader reads one version of one object. Its methods may be called by several goroutines at once.
type objectReader interface {
	// readAt fills p from the offset, or fails. Ranges past the end are an error of kind Corrupt.
	readAt(ctx context.Context, p []byte, offset int64) error
	close() error
}

// object is one version of one object.
type object struct {
	at   location
	size int64
	etag string
}

// errNoObject says that there is no object at a location.
var errNoObject = errors.New("there is no such object")

// errChanged says that the object was replaced after it was listed. Trying again lists it anew.
func errChanged(o object, cause error) error {
	if cause == nil {
		return fault.New(fault.Unavailable, "%s was replaced or removed after it was listed (it was version %s of %d bytes); try again", o.at, o.etag, o.size)
	}
	return fault.New(fault.Unavailable, "%s was replaced or removed after it was listed (it was version %s of %d bytes); try again: %w", o.at, o.etag, o.size, cause)
}

// errPastEnd says that a read goes past the end of the object.
func errPastEnd(o object, offset, length int64) error {
	return fault.New(fault.Corrupt, "%s: bytes %d to %d are asked for, but it has %d", o.at, offset, offset+length, o.size)
}
