package syncstate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
)

// digestBytes is how much of a file's hash is remembered: enough that two files never share it.
const digestBytes = 16

type digest [digestBytes]byte

func digestOf(f offline.File) (d digest) {
	h := sha256.New()
	for _, text := range []string{f.URL, f.ETag} {
		h.Write(binary.AppendUvarint(nil, uint64(len(text))))
		h.Write([]byte(text))
	}
	h.Write(binary.AppendUvarint(nil, uint64(f.SizeBytes)))
	copy(d[:], h.Sum(nil))
	return d
}

// NotDue is the due time of a file of which every row has been carried.
const NotDue feature.EventTime = math.MaxInt64

// Files are the files whose rows have been carried.
type Files struct{ due map[digest]feature.EventTime }

// NewFiles returns an empty list.
func NewFiles() *Files { return &Files{map[digest]feature.EventTime{}} }

// Len is how many files there are.
func (f *Files) Len() int { return len(f.due) }

// Add adds a file. due is the least event time of a row that was left for later, NotDue where there was none.
func (f *Files) Add(file offline.File, due feature.EventTime) { f.due[digestOf(file)] = due }

// Due is from when on a file has rows to carry, and whether the list has the file.
func (f *Files) Due(file offline.File) (feature.EventTime, bool) {
	due, ok := f.due[digestOf(file)]
	return due, ok
}

func filesName(view string, lease uint64) string { return fmt.Sprintf("files/%s/%d", view, lease) }

// Files returns the list that a state names; an empty one where it names none.
func (s *Store) Files(ctx context.Context, state *twofoldv1.SyncState) (*Files, error) {
	files := NewFiles()
	name := state.GetFiles()
	if name == "" {
		return files, nil
	}
	list := &twofoldv1.CarriedFiles{}
	if _, err := s.read(ctx, name, list); err != nil {
		return nil, err
	}
	if len(list.GetDigests()) != digestBytes*len(list.GetDueMicros()) {
		return nil, fault.New(fault.Corrupt, "%q has %d bytes for %d files; remove it, and the next sync carries every row again", name, len(list.GetDigests()), len(list.GetDueMicros()))
	}
	for i, due := range list.GetDueMicros() {
		files.due[digest(list.GetDigests()[i*digestBytes:])] = feature.EventTime(due)
	}
	return files, nil
}

// PutFiles stores the list of the lease's view and returns its name, for a state. A lease has one list: that of an earlier one stays until DropFiles.
func (s *Store) PutFiles(ctx context.Context, l *Lease, files *Files) (name string, err error) {
	digests := make([]digest, 0, len(files.due))
	for d := range files.due {
		digests = append(digests, d)
	}
	sort.Slice(digests, func(i, k int) bool { return bytes.Compare(digests[i][:], digests[k][:]) < 0 })
	list := &twofoldv1.CarriedFiles{}
	for _, d := range digests {
		list.Digests = append(list.Digests, d[:]...)
		list.DueMicros = append(list.DueMicros, int64(files.due[d]))
	}
	value, err := marshal(list)
	if err != nil {
		return "", err
	}
	name = filesName(l.view, l.number)
	if err := s.values.PutMeta(ctx, name, value); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return name, nil
}

// DropFiles removes lists that no state names any longer.
func (s *Store) DropFiles(ctx context.Context, names ...string) error {
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })
	if len(names) == 0 {
		return nil
	}
	values, err := s.values.GetMeta(ctx, names)
	if err != nil {
		return fmt.Errorf("read %v: %w", names, err)
	}
	for i, value := range values {
		if value == nil {
			continue
		}
		if _, err := s.values.SwapMeta(ctx, names[i], value, nil); err != nil {
			return fmt.Errorf("remove %s: %w", names[i], err)
		}
	}
	return nil
}

// DropOrphan removes the list of the lease before this one where the state does not name it: its holder died before it could.
func (s *Store) DropOrphan(ctx context.Context, l *Lease, state *twofoldv1.SyncState) error {
	if name := filesName(l.view, l.number-1); name != state.GetFiles() {
		return s.DropFiles(ctx, name)
	}
	return nil
}
