// Package syncstate is what the online store remembers of syncs: how far each view has been carried (SyncState), who is at it (Lease), and how the
// last runs went. It is kept as small values of the store and changed by compare-and-swap, so that it is right whatever dies at whatever moment.
package syncstate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
)

// Values are the small values of a store: internal/online.Store has them.
type Values interface {
	// GetMeta returns the values stored under names, nil for each that is not stored.
	GetMeta(ctx context.Context, names []string) ([][]byte, error)
	// PutMeta stores a value under a name and replaces what was there.
	PutMeta(ctx context.Context, name string, value []byte) error
	// SwapMeta stores value, nil for none, if and only if old is stored, nil for none. What is stored already counts as swapped.
	SwapMeta(ctx context.Context, name string, old, value []byte) (swapped bool, err error)
}

// Store reads and writes what is remembered. Its methods may be called by many goroutines at once.
type Store struct{ values Values }

// New returns a Store on the small values of an online store.
func New(values Values) *Store { return &Store{values} }

// ErrFenced says that another syncer has taken the view over: what this one knows of it is out of date, and it must not write that down.
var ErrFenced = errors.New("another syncer has taken the view over")

// swapAttempts is how often a value that others change at the same time is read again.
const swapAttempts = 200

func stateName(view string) string { return "sync/" + view }

// States returns the state of each view: an empty one of a view of which nothing is remembered.
func (s *Store) States(ctx context.Context, views []string) ([]*twofoldv1.SyncState, error) {
	names := make([]string, len(views))
	for i, view := range views {
		names[i] = stateName(view)
	}
	values, err := s.values.GetMeta(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("ask how far views are synced: %w", err)
	}
	states := make([]*twofoldv1.SyncState, len(views))
	for i, value := range values {
		states[i] = &twofoldv1.SyncState{}
		if err := unmarshal(value, states[i], names[i]); err != nil {
			return nil, err
		}
	}
	return states, nil
}

// Update changes the state of the lease's view. It fails with ErrFenced where a later lease has changed it.
func (s *Store) Update(ctx context.Context, l *Lease, change func(*twofoldv1.SyncState)) (*twofoldv1.SyncState, error) {
	state := &twofoldv1.SyncState{}
	err := s.swap(ctx, stateName(l.view), state, func() error {
		if state.GetLeaseNumber() > l.number {
			return fault.New(fault.Precondition, "feature view %q: %w", l.view, ErrFenced)
		}
		state.LeaseNumber = l.number
		change(state)
		return nil
	})
	return state, err
}

// swap reads a message, has change change it, and stores it, again and again until nobody else has changed it meanwhile.
func (s *Store) swap(ctx context.Context, name string, m proto.Message, change func() error) error {
	for range swapAttempts {
		proto.Reset(m)
		stored, err := s.read(ctx, name, m)
		if err != nil {
			return err
		}
		if err := change(); err != nil {
			return err
		}
		value, err := marshal(m)
		if err != nil {
			return err
		}
		swapped, err := s.values.SwapMeta(ctx, name, stored, value)
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if swapped {
			return nil
		}
	}
	return fault.New(fault.Unavailable, "write %s: others have changed it %d times in a row; try again", name, swapAttempts)
}

func (s *Store) get(ctx context.Context, name string) ([]byte, error) {
	values, err := s.values.GetMeta(ctx, []string{name})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return values[0], nil
}

// read reads a message, an empty one where none is stored, and returns its bytes too.
func (s *Store) read(ctx context.Context, name string, m proto.Message) (stored []byte, err error) {
	if stored, err = s.get(ctx, name); err != nil {
		return nil, err
	}
	return stored, unmarshal(stored, m, name)
}

// marshal gives the same bytes for the same message, so that a swap that was sent twice is seen to be one.
func marshal(m proto.Message) ([]byte, error) {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fault.New(fault.Internal, "%w", err)
	}
	if value == nil {
		value = []byte{} // nil is no value
	}
	return value, nil
}

func unmarshal(value []byte, m proto.Message, name string) error {
	if err := proto.Unmarshal(value, m); err != nil {
		return damaged(name, err)
	}
	return nil
}

// damaged is the error of a stored value that cannot be read, or not as a whole, and says how to mend it.
func damaged(name string, err error) error {
	mend := "remove it, and the next sync carries every row again"
	if strings.HasPrefix(name, forgottenName) {
		mend = "nothing is synced or pushed until the list of forgotten entities is whole: restore it with `twofold forget --import`, or begin another one with `twofold forget --clear-list`"
	}
	return fault.New(fault.Corrupt, "what the online store has under %q is damaged (%w); %s", name, err, mend)
}
