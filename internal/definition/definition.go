// Package definition turns feature definitions, written as YAML of the messages in proto/twofold/v1/definitions.proto, into
// the checked domain (feature.Registry). Every problem is found at once, and each says where it is, what is wrong and how to mend it.
//
// The YAML is what buf.build/go/protoyaml reads, with short names of types (STRING for VALUE_TYPE_STRING), several
// documents in a file, anchors and merge keys; and without its laxness: a field given twice, a field given by number and
// a document after the first are never silently dropped.
package definition

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// DefaultSyncInterval is the time between two sync runs of a view without a ttl and without an interval of its own.
const DefaultSyncInterval = 300 * time.Second

// Defaults are the values of the process for what definitions leave out.
type Defaults struct {
	// SyncInterval is the time between two sync runs of a view without a ttl. Defaults to DefaultSyncInterval.
	SyncInterval time.Duration
}

func (d Defaults) withDefaults() Defaults {
	if d.SyncInterval <= 0 {
		d.SyncInterval = DefaultSyncInterval
	}
	return d
}

// Set is one checked set of definitions. It is not to be changed.
type Set struct {
	// Proto is the definitions as they were written, those of all files one after the other.
	Proto *twofoldv1.Definitions
	// Registry is the domain, with every default filled in.
	Registry *feature.Registry
	// Warnings are problems that do not keep the definitions from being used, sorted by place.
	Warnings []Problem

	places *places
}

// Hash identifies the definitions: SHA-256, hexadecimal, over their deterministic protobuf encoding. It does not depend on how
// they are spread over files, nor on the process's defaults.
func (s *Set) Hash() string { return s.Registry.Hash() }

// Parse reads and checks definitions. An error is a *ProblemsError that holds every problem of every file, warnings
// included, sorted by place.
func Parse(files []File, defaults Defaults) (*Set, error) {
	c := newChecker(files, defaults)
	for i := range files {
		c.readFile(i)
	}
	if !c.incomplete && !hasError(c.problems) && proto.Size(c.defs) == 0 {
		c.reportFile(0, Error, "nothing is defined", "define at least one entity and one feature view; `twofold init` writes a first definition from a Parquet file")
	}
	return c.finish()
}

// FromProto checks definitions that are messages already. Problems then have no place, but name what they are about.
func FromProto(defs *twofoldv1.Definitions, defaults Defaults) (*Set, error) {
	c := newChecker(nil, defaults)
	c.defs = proto.CloneOf(defs)
	if c.defs == nil {
		c.defs = &twofoldv1.Definitions{}
	}
	return c.finish()
}

// Marshal encodes a set's definitions for storing them; Unmarshal reads them back.
func (s *Set) Marshal() ([]byte, error) {
	return encode(s.Proto)
}

// Unmarshal decodes and checks what Marshal encoded. Bytes that are no definitions are an error of kind Corrupt; definitions that are
// no longer valid, a *ProblemsError.
func Unmarshal(b []byte, defaults Defaults) (*Set, error) {
	defs := &twofoldv1.Definitions{}
	if err := proto.Unmarshal(b, defs); err != nil {
		return nil, fault.New(fault.Corrupt, "the stored definitions cannot be read: %w", err)
	}
	return FromProto(defs, defaults)
}

func encode(defs *twofoldv1.Definitions) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(defs)
	if err != nil {
		return nil, fmt.Errorf("encode definitions: %w", err)
	}
	return b, nil
}

// finish runs every check and builds the domain where there is no error.
func (c *checker) finish() (*Set, error) {
	if !c.abandoned {
		c.checkRules()
		c.checkNames()
		c.checkViews()
		c.checkServices()
	}
	slices.SortStableFunc(c.problems, compareProblems)
	if hasError(c.problems) {
		return nil, &ProblemsError{Problems: c.problems}
	}
	encoded, err := encode(c.defs)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(encoded)
	registry := build(c.defs, c.defaults, c.timetables, hex.EncodeToString(sum[:]))
	return &Set{Proto: c.defs, Registry: registry, Warnings: c.problems, places: c.places}, nil
}

func hasError(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
}
