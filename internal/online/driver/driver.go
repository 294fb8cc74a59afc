// Package driver is what an online store must be able to do: a small interface that each backend implements and that only
// internal/online calls. To add a backend, implement Driver and run internal/online/onlinetest against it.
package driver

import (
	"context"
	"fmt"
)

// Entity names one entity: what kind it is and the stored form of its key (feature.AppendKey). Two entities are the
// same if and only if both fields are equal.
type Entity struct {
	// Name is the name of the entity's kind, for example "aircraft".
	Name string
	// Key is the stored form of its key; any bytes.
	Key []byte
}

// Read asks for the rows of one entity.
type Read struct {
	Entity Entity
	// Views are the names of the feature views wanted, distinct, all of the layout that History tells.
	Views []string
	// History is set where the store keeps several versions of the views' rows: rows that were written with Row.Versions > 0.
	History bool
	// AsOfMicros is the moment of a History read, microseconds since the Unix epoch, UTC: wanted is the newest version with event
	// time ≤ AsOfMicros. math.MaxInt64 is the newest of all. Without History it is not looked at.
	AsOfMicros int64
}

// Row is one row to write: an encoded StoredRow, canonical encoding (see proto/twofold/v1/stored_row.proto), of which
// a driver reads only the event time, the created time and whether it is a tombstone.
type Row struct {
	Entity Entity
	// View is the name of the feature view.
	View string
	// Value is the encoded StoredRow.
	Value []byte
	// ExpireAtMillis is the wall-clock time, in milliseconds since the Unix epoch, from which the store may drop the row
	// and before which it must not, unless it gives way to newer versions; 0 is never.
	ExpireAtMillis int64
	// Versions is how many versions the store keeps of the entity and view, the newest by event time, at least 1; 0 is layout LATEST, one
	// row. The two layouts of a view do not see each other's rows.
	Versions int
}

// Removal names what is stored of one entity and view in one layout.
type Removal struct {
	Entity Entity
	// View is the name of the feature view.
	View string
	// History is set for the versions of the view's rows, which are removed together; else it is the row of layout LATEST.
	History bool
	// EventBefore, where it is not nil, spares a row of which the event time, in microseconds since the Unix epoch, UTC, is not before this, a history of which
	// that of the newest version is not, and one that is so damaged that nobody can tell.
	EventBefore *int64
}

// Scan says whose rows are scanned: those of one view, of all entities of a kind, in one layout.
type Scan struct {
	// Entity is the name of the entities' kind.
	Entity string
	// View is the name of the feature view.
	View string
	// History is set for the versions of the view's rows; else it is the rows of layout LATEST.
	History bool
}

// ScannedRow is one stored row, or one version.
type ScannedRow struct {
	// Key is the stored form of its entity's key.
	Key []byte
	// Value is the encoded StoredRow as it is stored, which may be damaged; empty where it is so damaged that nothing can be told of it.
	Value []byte
	// ExpireAtMillis is when the store may drop the row, as in Row; of a version, when it may drop them all; where a store can expire only whole entities, when it may
	// drop the entity. It may be that of a row which has taken this one's place meanwhile. 0 is never.
	ExpireAtMillis int64
}

// PartialError is the error of a Read of which some were read: those with a nil error in Errs.
type PartialError struct {
	// Errs has one element for each of the reads; nil where its rows were read. At least one is not nil.
	Errs []error
}

// Error says how many reads failed, and why the first of them did.
func (e *PartialError) Error() string {
	failed := 0
	for _, err := range e.Errs {
		if err != nil {
			failed++
		}
	}
	return fmt.Sprintf("%d of %d reads failed: %v", failed, len(e.Errs), e.First())
}

// First returns the first of the errors.
func (e *PartialError) First() error {
	for _, err := range e.Errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Unwrap returns the first of the errors, so that it has that one's kind.
func (e *PartialError) Unwrap() error { return e.First() }

// Outcome is what became of one written row.
type Outcome uint8

const (
	// Written means that the row is now the stored one.
	Written Outcome = iota + 1
	// Older means that the stored row is newer and was kept.
	Older
	// Unchanged means that the very same bytes are stored already.
	Unchanged
)

// Driver is one online store. Its methods may be called by many goroutines at once.
//
// Every method returns when ctx is done, even if the store does not answer; the error then wraps ctx.Err(). It may give up somewhat before ctx's
// deadline, with an error that wraps context.DeadlineExceeded, so that its caller can still say so. An error
// whose fault.Kind is Unavailable says that the store could not be reached or did not answer; Precondition, that it refuses (wrong password,
// out of memory, read-only); every other kind is a bug or a damaged store.
type Driver interface {
	// Read returns the stored rows: for reads[i], its views in order, appended one after the other, so that the result has as
	// many elements as all reads have views. A row that is not stored is nil. Entities may occur any number of times. The whole call is
	// one round trip where the store allows it. The caller does not change the returned bytes, which other callers may have been given too;
	// appending to a row reaches no other. reads and what they refer to are not looked at after Read has returned without an error; after
	// an error they may be, so that their memory must not be used again.
	//
	// On error no rows are returned, unless it is a *PartialError: then some of the store could be read, rows has its full length, and
	// the rows of the reads that failed are nil.
	//
	// A History read of a moment before the oldest version that is kept is an error of kind fault.Precondition (NotKept) where any older
	// one was given to Write and is not kept, since what was true then is not known; else no row is stored. It is the error of that read
	// only, so that with others beside it the call's error is a *PartialError (Partly).
	Read(ctx context.Context, reads []Read) ([][]byte, error)

	// Write stores each row unless the stored row of its entity and view is newer. rows[i] is newer than the stored row if its
	// (event time, created time) is greater; at equal times a row replaces a row, a tombstone replaces a row, and a
	// row does not replace a tombstone. The decision and the write are one atomic step for each row, against every other writer in any
	// process. Rows of one call are applied as if one after the other, so an entity and view may occur more than once.
	//
	// With Row.Versions, versions that are more than Row.Versions are dropped first, the oldest ones. Then a row is compared in the same
	// way with the stored version of the same event time only. Where there is none, it is Older if Row.Versions newer ones are kept, else
	// it is Written, and the oldest version is dropped where there are now too many. A tombstone is a version like any other.
	//
	// A row replaces the stored expiry of its own entity and view. A store that can expire only whole entities keeps an
	// entity until the latest expiry among its views. All versions of an entity and view live until the latest expiry among them, and then
	// go together, with the memory of what was dropped. A row that is past its ExpireAtMillis when it is written, and older than every
	// version that is kept, is Older: others between them may have come and gone before.
	//
	// Write is not atomic as a whole: after an error any of the rows may have been stored. Calling it again with the same
	// rows is safe. On success outcomes[i] belongs to rows[i].
	Write(ctx context.Context, rows []Row) (outcomes []Outcome, err error)

	// Remove removes what is stored of each entity and view, whatever its age unless Removal.EventBefore says more, as one atomic step for each against every
	// other writer in any process. Nothing remembers it: the next Write finds nothing stored, and versions that were dropped before are forgotten with the others. The
	// expiry of other rows does not change. It returns how many of the removals found something, all versions of a history being one; where an
	// answer was lost and the driver asked again, those that the first call removed are not counted.
	//
	// Remove is not atomic as a whole: after an error any of the rows may have been removed. Calling it again with the same rows is safe as
	// long as nobody has written them again.
	Remove(ctx context.Context, rows []Removal) (removed int, err error)

	// Scan calls yield with the stored rows that it names, in no order, some at a time; yield may keep them. A row, or a version, that is stored during the whole call
	// is among them at least once; it may be there more than once, and those that come or go meanwhile may be there or not. One that may be dropped is not.
	// The call takes no more memory for more rows, and other callers are served meanwhile.
	//
	// An error of yield ends the scan and is returned as it is. After any other error some of the rows have been yielded. A bound that a
	// driver has for the time of its calls is one for each of the many round trips of a scan.
	Scan(ctx context.Context, scan Scan, yield func(rows []ScannedRow) error) error

	// GetMeta returns the small values stored under names, nil for each that is not stored.
	GetMeta(ctx context.Context, names []string) ([][]byte, error)

	// PutMeta stores a small value under a name and replaces what was there. It does not expire.
	PutMeta(ctx context.Context, name string, value []byte) error

	// SwapMeta stores a small value under a name if and only if old is what is stored, byte for byte, as one atomic step against every other
	// SwapMeta and PutMeta in any process. An old of nil means that nothing may be stored, which an empty value is not; a value of nil
	// removes what is stored. swapped says that value is what was stored when the call ended, false that anything else was, and that it stays.
	//
	// A swap that is made twice is true twice: so it is where value is stored already. A driver may ask again whose answer was lost, and a
	// caller may after an error, which leaves open whether the swap was made. Callers who need to know that it was they who swapped
	// therefore make each value unlike all others, for example with a number that only they have. Then false can still mean, after such an error, that
	// the swap was made and that another one followed: what is stored now tells.
	SwapMeta(ctx context.Context, name string, old, value []byte) (swapped bool, err error)

	// PutMark stores a small value under a name once on every server that takes writes, and replaces what was there: once on each master of a Redis Cluster, elsewhere
	// once. It does not expire, and is apart from the values of PutMeta. After an error any of the servers may have it.
	PutMark(ctx context.Context, name string, value []byte) error

	// Marks returns what PutMark has stored under a name, one element for each server, in no order, nil where there is none: so a server that comes back without
	// its data shows, which no value that is stored once can tell. Where servers came, went or took over what others had since, some may have none too; none has another value
	// than one that was put.
	Marks(ctx context.Context, name string) ([][]byte, error)

	// Ping reports whether the store can be reached and would serve a request.
	Ping(ctx context.Context) error

	// Warnings returns what an operator should know about the store's configuration, one sentence each, empty where all is well: for
	// example an eviction policy that can drop features.
	Warnings(ctx context.Context) ([]string, error)

	// Close frees everything. No method may be called after it.
	Close() error
}
