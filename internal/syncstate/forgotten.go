package syncstate

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// The list of forgotten entities keeps syncs and pushes from bringing entities back that were removed for good: their rows are still in the files. It has
// hashes only, made with a key that is stored beside them.
//
// Every bucket is stored from the first entry on, be it empty, so that a part of the list that was lost is noticed and is not taken for nobody.

const (
	forgottenName = "forgotten"
	// forgottenBuckets is how many values the list is spread over. A hash's first byte says which.
	forgottenBuckets = 256
	// forgottenHashBytes is how much of a hash is kept: enough that no two entities share it.
	forgottenHashBytes = 16
	forgottenKeyBytes  = 32
)

func bucketName(i int) string { return fmt.Sprintf("%s/%d", forgottenName, i) }

// ForgottenHash is an entry of the list.
type ForgottenHash [forgottenHashBytes]byte

func (h ForgottenHash) String() string { return hex.EncodeToString(h[:]) }

// Scope is a kind of entries: what entities are forgotten by.
type Scope struct {
	// Keys are the names of the keys, in alphabetical order.
	Keys []string
	// Entity is the entity that alone is meant; empty is every entity that has these keys, and perhaps others.
	Entity string
}

// Covers reports whether an entity's rows can be concerned.
func (s Scope) Covers(entity *feature.Entity) bool {
	if s.Entity != "" && s.Entity != entity.Name {
		return false
	}
	for _, key := range s.Keys {
		if !slices.ContainsFunc(entity.Keys, func(k feature.Key) bool { return k.Name == key }) {
			return false
		}
	}
	return len(s.Keys) > 0
}

func (s Scope) equal(o Scope) bool { return s.Entity == o.Entity && slices.Equal(s.Keys, o.Keys) }

// prefix is what the hashes of the scope's entries begin with; no other scope has it.
func (s Scope) prefix() []byte {
	b := appendText(nil, []byte(s.Entity))
	b = binary.AppendUvarint(b, uint64(len(s.Keys)))
	for _, key := range s.Keys {
		b = appendText(b, []byte(key))
	}
	return b
}

func appendText(dst, text []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

// Forgotten is the list as it was read. It is not changed.
type Forgotten struct {
	key    []byte // nil where there is no list
	token  string
	scopes []Scope
	hashes map[ForgottenHash]struct{}
}

// Len is how many entries there are.
func (f *Forgotten) Len() int { return len(f.hashes) }

// Has reports whether an entry is in the list.
func (f *Forgotten) Has(h ForgottenHash) bool {
	_, ok := f.hashes[h]
	return ok
}

// Only returns a list of some entities alone, and the entry of each. keys has one column for each of the scope's keys, in that order, without nulls.
func (f *Forgotten) Only(scope Scope, keys []*feature.Column) (*Forgotten, []ForgottenHash) {
	some := &Forgotten{key: f.key, scopes: []Scope{scope}, hashes: map[ForgottenHash]struct{}{}}
	if some.key == nil {
		some.key = newForgottenKey()
	}
	h := newForgottenHasher(some.key)
	prefix, order := scope.prefix(), make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	hashes := make([]ForgottenHash, keys[0].Len())
	for row := range hashes {
		hashes[row], _ = h.of(prefix, keys, order, row)
		some.hashes[hashes[row]] = struct{}{}
	}
	return some, hashes
}

func newForgottenKey() []byte {
	key := make([]byte, forgottenKeyBytes)
	_, _ = rand.Read(key) // never fails
	return key
}

// Matcher tells which rows of an entity are of forgotten ones. It may be used by many goroutines at once.
type Matcher struct {
	list   *Forgotten
	scopes []matchedScope
}

type matchedScope struct {
	prefix []byte
	order  []int // of the entity's keys
}

// Matcher returns the matcher of an entity's rows; nil where none of them can be forgotten.
func (f *Forgotten) Matcher(entity *feature.Entity) *Matcher {
	m := &Matcher{list: f}
	for _, scope := range f.scopes {
		if !scope.Covers(entity) {
			continue
		}
		matched := matchedScope{prefix: scope.prefix()}
		for _, name := range scope.Keys {
			matched.order = append(matched.order, slices.IndexFunc(entity.Keys, func(k feature.Key) bool { return k.Name == name }))
		}
		m.scopes = append(m.scopes, matched)
	}
	if len(m.scopes) == 0 || f.Len() == 0 {
		return nil
	}
	return m
}

// Match says of each row whether its entity is forgotten. keys has one column for each key of the entity, in its order. A row with a null key is no
// entity's.
func (m *Matcher) Match(keys []*feature.Column) []bool {
	forgotten := make([]bool, keys[0].Len())
	h := newForgottenHasher(m.list.key)
	for row := range forgotten {
		for _, scope := range m.scopes {
			if entry, ok := h.of(scope.prefix, keys, scope.order, row); ok && m.list.Has(entry) {
				forgotten[row] = true
				break
			}
		}
	}
	return forgotten
}

// forgottenHasher makes entries.
type forgottenHasher struct {
	hash.Hash
	input, part []byte
	sum         []byte
}

func newForgottenHasher(key []byte) *forgottenHasher {
	return &forgottenHasher{Hash: hmac.New(sha256.New, key)}
}

// of returns the entry of a row, whose keys are taken in an order; false where one of them is null. Of a key it is the stored form that counts, which is the same for
// every type that it may be defined with.
func (h *forgottenHasher) of(prefix []byte, keys []*feature.Column, order []int, row int) (entry ForgottenHash, ok bool) {
	h.input = append(h.input[:0], prefix...)
	for _, k := range order {
		if h.part, ok = feature.AppendKey(h.part[:0], keys[k:k+1], row); !ok {
			return entry, false
		}
		h.input = appendText(h.input, h.part)
	}
	h.Reset()
	h.Write(h.input)
	h.sum = h.Sum(h.sum[:0])
	copy(entry[:], h.sum)
	return entry, true
}

// LeaveOutForgotten has those rows of an entity's left out that the list says are forgotten; see pit.Winners.Forget.
func (s *Store) LeaveOutForgotten(ctx context.Context, entity *feature.Entity, forget func(ctx context.Context, isForgotten func(keys []*feature.Column) []bool) error) error {
	list, err := s.Forgotten(ctx)
	if err != nil {
		return err
	}
	if matcher := list.Matcher(entity); matcher != nil {
		return forget(ctx, matcher.Match)
	}
	return nil
}

// Forgotten reads the list. One of which a part is damaged or lost is an error of kind Corrupt, and none of it is returned.
//
// The index is there before the buckets and gets its first token after them, so that one that is being made is told from one of which a part was lost. It is read before they are: an
// entry that is missed comes before a token that was not seen.
func (s *Store) Forgotten(ctx context.Context) (*Forgotten, error) {
	index := &twofoldv1.ForgottenIndex{}
	stored, err := s.read(ctx, forgottenName, index)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range forgottenBuckets {
		names = append(names, bucketName(i))
	}
	buckets, err := s.values.GetMeta(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("read the list of forgotten entities: %w", err)
	}
	f := &Forgotten{token: index.GetToken(), scopes: scopesOf(index.GetScopes()), hashes: map[ForgottenHash]struct{}{}}
	lost := 0
	for i, value := range buckets {
		if value == nil {
			lost++
		}
		if err := f.addBucket(value, names[i]); err != nil {
			return nil, err
		}
	}
	if stored == nil && lost < forgottenBuckets {
		return s.forgottenInTheMaking(ctx)
	}
	switch {
	case stored == nil, f.token == "" && f.Len() == 0:
		return f, nil
	case len(index.GetKey()) != forgottenKeyBytes:
		return nil, damaged(forgottenName, fmt.Errorf("its key has %d bytes", len(index.GetKey())))
	case lost > 0:
		return nil, damaged(forgottenName, fmt.Errorf("%d of its %d parts are not there", lost, forgottenBuckets))
	}
	f.key = index.GetKey()
	return f, nil
}

// forgottenInTheMaking is for a list of which the index was not there when the buckets were: it came in between, or was lost.
func (s *Store) forgottenInTheMaking(ctx context.Context) (*Forgotten, error) {
	stored, err := s.get(ctx, forgottenName)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return nil, damaged(forgottenName, errors.New("it is not there, and its parts are"))
	}
	return s.Forgotten(ctx)
}

// Exists reports whether there is a list, be it empty.
func (f *Forgotten) Exists() bool { return f.key != nil }

func (f *Forgotten) addBucket(value []byte, name string) error {
	bucket := &twofoldv1.ForgottenBucket{}
	if err := unmarshal(value, bucket, name); err != nil {
		return err
	}
	return f.addHashes(bucket.GetHashes(), name)
}

func (f *Forgotten) addHashes(b []byte, name string) error {
	if len(b)%forgottenHashBytes != 0 {
		return damaged(name, fmt.Errorf("%d bytes are not so many hashes of %d", len(b), forgottenHashBytes))
	}
	for h := range slices.Chunk(b, forgottenHashBytes) {
		f.hashes[ForgottenHash(h)] = struct{}{}
	}
	return nil
}

// hashBytes are the entries, sorted, one after the other.
func hashBytes(hashes map[ForgottenHash]struct{}) []byte {
	var b []byte
	for _, h := range slices.SortedFunc(maps.Keys(hashes), func(a, b ForgottenHash) int { return bytes.Compare(a[:], b[:]) }) {
		b = append(b, h[:]...)
	}
	return b
}

func scopesOf(scopes []*twofoldv1.ForgottenScope) []Scope {
	out := make([]Scope, len(scopes))
	for i, s := range scopes {
		out[i] = Scope{Keys: s.GetKeys(), Entity: s.GetEntity()}
	}
	return out
}

func protoScopes(scopes []Scope) []*twofoldv1.ForgottenScope {
	out := make([]*twofoldv1.ForgottenScope, len(scopes))
	for i, s := range scopes {
		out[i] = &twofoldv1.ForgottenScope{Keys: s.Keys, Entity: s.Entity}
	}
	return out
}

// ForgottenSince returns the list as it is now: known itself, which may be nil, where it has not changed since that was read.
func (s *Store) ForgottenSince(ctx context.Context, known *Forgotten) (*Forgotten, error) {
	if known != nil {
		index := &twofoldv1.ForgottenIndex{}
		stored, err := s.read(ctx, forgottenName, index)
		if err != nil {
			return nil, err
		}
		if (stored == nil) == (known.key == nil) && index.GetToken() == known.token {
			return known, nil
		}
	}
	return s.Forgotten(ctx)
}

// PrepareForget makes sure that entries of a scope can be put into the list, and returns the list.
func (s *Store) PrepareForget(ctx context.Context, scope Scope) (*Forgotten, error) {
	list, err := s.Forgotten(ctx)
	if err != nil {
		return nil, err
	}
	if list.key != nil && slices.ContainsFunc(list.scopes, scope.equal) {
		return list, nil
	}
	if list.key == nil {
		if err := s.makeList(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.changeIndex(ctx, func(index *twofoldv1.ForgottenIndex) error {
		addScopes(index, []Scope{scope})
		return nil
	}); err != nil {
		return nil, err
	}
	return s.Forgotten(ctx)
}

func addScopes(index *twofoldv1.ForgottenIndex, scopes []Scope) {
	known := scopesOf(index.GetScopes())
	for _, scope := range scopes {
		if !slices.ContainsFunc(known, scope.equal) {
			index.Scopes = append(index.Scopes, protoScopes([]Scope{scope})...)
		}
	}
}

// makeList stores the index, without a token, and then the buckets that are not there yet.
func (s *Store) makeList(ctx context.Context) error {
	key, index := newForgottenKey(), &twofoldv1.ForgottenIndex{}
	err := s.swap(ctx, forgottenName, index, func() error {
		if len(index.GetKey()) == 0 {
			index.Key = key
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range forgottenBuckets {
		if _, err := s.values.SwapMeta(ctx, bucketName(i), nil, []byte{}); err != nil {
			return fmt.Errorf("write %s: %w", bucketName(i), err)
		}
	}
	return nil
}

// changeIndex changes the index, and its token, so that who has read the list reads it again.
func (s *Store) changeIndex(ctx context.Context, change func(*twofoldv1.ForgottenIndex) error) error {
	index := &twofoldv1.ForgottenIndex{}
	return s.swap(ctx, forgottenName, index, func() error {
		index.Token = rand.Text()
		return change(index)
	})
}

// Forget puts entries into the list, and returns how many were not there. Where it fails some may be; it may be called again.
func (s *Store) Forget(ctx context.Context, entries *Forgotten) (added int, err error) {
	return s.changeEntries(ctx, entries, func(stored map[ForgottenHash]struct{}, h ForgottenHash) { stored[h] = struct{}{} })
}

// Allow takes entries off the list, and returns how many were there.
func (s *Store) Allow(ctx context.Context, entries *Forgotten) (removed int, err error) {
	return s.changeEntries(ctx, entries, func(stored map[ForgottenHash]struct{}, h ForgottenHash) { delete(stored, h) })
}

// changeEntries changes the buckets of some entries, then the token.
func (s *Store) changeEntries(ctx context.Context, entries *Forgotten, change func(map[ForgottenHash]struct{}, ForgottenHash)) (changed int, err error) {
	byBucket := map[int][]ForgottenHash{}
	for h := range entries.hashes {
		byBucket[int(h[0])] = append(byBucket[int(h[0])], h)
	}
	for _, i := range slices.Sorted(maps.Keys(byBucket)) {
		n := 0
		bucket := &twofoldv1.ForgottenBucket{}
		err := s.swap(ctx, bucketName(i), bucket, func() error {
			stored := &Forgotten{hashes: map[ForgottenHash]struct{}{}}
			if err := stored.addHashes(bucket.GetHashes(), bucketName(i)); err != nil {
				return err
			}
			before := stored.Len()
			for _, h := range byBucket[i] {
				change(stored.hashes, h)
			}
			n = max(stored.Len()-before, before-stored.Len())
			bucket.Hashes = hashBytes(stored.hashes)
			return nil
		})
		if err != nil {
			return changed, err
		}
		changed += n
	}
	return changed, s.changeIndex(ctx, func(index *twofoldv1.ForgottenIndex) error {
		if !bytes.Equal(index.GetKey(), entries.key) {
			return fault.New(fault.Unavailable, "the list of forgotten entities was replaced by another one meanwhile; try again")
		}
		return nil
	})
}

// Export returns the list as a message, to be kept outside the store.
func (f *Forgotten) Export() *twofoldv1.ForgottenList {
	return &twofoldv1.ForgottenList{Key: f.key, Scopes: protoScopes(f.scopes), Hashes: hashBytes(f.hashes)}
}

// ImportForgotten reads a list that was exported. What cannot be one is an error of kind Invalid.
func ImportForgotten(list *twofoldv1.ForgottenList) (*Forgotten, error) {
	f := &Forgotten{key: list.GetKey(), scopes: scopesOf(list.GetScopes()), hashes: map[ForgottenHash]struct{}{}}
	if len(f.key) != forgottenKeyBytes {
		return nil, fault.New(fault.Invalid, "it is no list of forgotten entities: its key has %d bytes, not %d", len(f.key), forgottenKeyBytes)
	}
	for _, scope := range f.scopes {
		if len(scope.Keys) == 0 || !slices.IsSorted(scope.Keys) {
			return nil, fault.New(fault.Invalid, "it is no list of forgotten entities: the keys %q are none, or not in alphabetical order", scope.Keys)
		}
	}
	if err := f.addHashes(list.GetHashes(), "hashes"); err != nil {
		return nil, fault.New(fault.Invalid, "it is no list of forgotten entities: its hashes have %d bytes", len(list.GetHashes()))
	}
	return f, nil
}

// PutForgotten puts the entries of a list that was exported into the store's own, and mends that where a part of it is damaged or lost. Both must have the same
// key, unless the store has no list. Where it dies half way the list is as damaged as it was, or more: it may be called again.
func (s *Store) PutForgotten(ctx context.Context, list *Forgotten) (added int, err error) {
	stored, err := s.get(ctx, forgottenName)
	if err != nil {
		return 0, err
	}
	index := &twofoldv1.ForgottenIndex{}
	if unmarshal(stored, index, forgottenName) == nil { // else it is to be mended
		if err := isSameList(index, list); err != nil {
			return 0, err
		}
	} else if _, err := s.values.SwapMeta(ctx, forgottenName, stored, nil); err != nil {
		return 0, fmt.Errorf("write %s: %w", forgottenName, err)
	}
	added, err = s.mendBuckets(ctx, list)
	if err != nil {
		return added, err
	}
	err = s.swap(ctx, forgottenName, index, func() error {
		if err := isSameList(index, list); err != nil {
			return err
		}
		index.Key, index.Token = list.key, rand.Text()
		addScopes(index, list.scopes)
		return nil
	})
	if err != nil {
		return added, err
	}
	n, err := s.Forget(ctx, list)
	return added + n, err
}

// isSameList fails where a list has another key than the one that the store has.
func isSameList(index *twofoldv1.ForgottenIndex, list *Forgotten) error {
	if index.GetToken() == "" || bytes.Equal(index.GetKey(), list.key) { // without a token it never had an entry
		return nil
	}
	return fault.New(fault.Precondition, "the online store has a list of its own, which began apart from this one, so that they cannot be put together; forget the entities again by their keys")
}

// mendBuckets puts the entries of a list into the place of buckets that are not there or cannot be read, and returns how many.
func (s *Store) mendBuckets(ctx context.Context, list *Forgotten) (added int, err error) {
	for i := range forgottenBuckets {
		stored, err := s.get(ctx, bucketName(i))
		if err != nil {
			return added, err
		}
		f := &Forgotten{hashes: map[ForgottenHash]struct{}{}}
		if stored != nil && f.addBucket(stored, bucketName(i)) == nil {
			continue
		}
		f.hashes = map[ForgottenHash]struct{}{}
		for h := range list.hashes {
			if int(h[0]) == i {
				f.hashes[h] = struct{}{}
			}
		}
		value, err := marshal(&twofoldv1.ForgottenBucket{Hashes: hashBytes(f.hashes)})
		if err != nil {
			return added, err
		}
		mended, err := s.values.SwapMeta(ctx, bucketName(i), stored, value)
		if err != nil {
			return added, fmt.Errorf("write %s: %w", bucketName(i), err)
		}
		if mended {
			added += f.Len()
		}
	}
	return added, nil
}

// ClearForgotten removes the whole list, be it damaged.
func (s *Store) ClearForgotten(ctx context.Context) error {
	names := []string{}
	for i := range forgottenBuckets {
		names = append(names, bucketName(i))
	}
	return s.DropFiles(ctx, append(names, forgottenName)...)
}
