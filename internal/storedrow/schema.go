// Package storedrow is the codec of the online store's value: the StoredRow and StoredSchema messages of
// proto/twofold/v1/stored_row.proto, to and from feature columns, without generated code.
//
// It writes the canonical encoding only, and reads any encoding that a protobuf library may produce: a row in the
// canonical encoding at its known offsets, any other by a full parse. Bytes that are not a row give an error of kind
// fault.Corrupt, never a panic and never a value from a wrong place.
package storedrow

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// Feature is one slot of a stored row.
type Feature struct {
	Name string
	Type feature.Type
}

// Schema lists the features that a row's slots hold, in slot order. It is not changed once it is in use.
type Schema struct {
	Features []Feature

	fingerprint atomic.Uint64 // 0 until it was asked for
}

// SchemaOf returns the schema under which rows of the view are written: its online features in definition order.
func SchemaOf(view *feature.View) *Schema {
	s := &Schema{Features: make([]Feature, 0, len(view.Features))}
	for _, f := range view.Features {
		if f.Online {
			s.Features = append(s.Features, Feature{f.Name, f.Type})
		}
	}
	return s
}

// Fingerprint identifies the schema: the first 8 bytes, big-endian, of the SHA-256 of its canonical text, which is for
// each feature its name, a zero byte, the name of its type as definitions spell it ("FLOAT_LIST") and a newline. It is never 0: a
// schema whose digest begins with 8 zero bytes has fingerprint 1.
func (s *Schema) Fingerprint() uint64 {
	if f := s.fingerprint.Load(); f != 0 {
		return f
	}
	var text []byte
	for _, f := range s.Features {
		text = append(text, f.Name...)
		text = append(text, 0)
		text = append(text, f.Type.String()...)
		text = append(text, '\n')
	}
	digest := sha256.Sum256(text)
	f := max(1, binary.BigEndian.Uint64(digest[:8]))
	s.fingerprint.Store(f)
	return f
}

// Field numbers of StoredSchema and StoredFeature.
const (
	schemaFeatures = 1
	featureName    = 1
	featureType    = 2
)

// AppendProto appends the schema as a StoredSchema message.
func (s *Schema) AppendProto(dst []byte) []byte {
	var one []byte
	for _, f := range s.Features {
		one = protowire.AppendTag(one[:0], featureName, protowire.BytesType)
		one = protowire.AppendString(one, f.Name)
		one = protowire.AppendTag(one, featureType, protowire.VarintType)
		one = protowire.AppendVarint(one, uint64(f.Type))
		dst = protowire.AppendTag(dst, schemaFeatures, protowire.BytesType)
		dst = protowire.AppendBytes(dst, one)
	}
	return dst
}

// DecodeSchema reads a StoredSchema message. Bytes that are not one, an unknown type, and a name that is empty, occurs twice or
// could make two schemas share a canonical text, are errors of kind fault.Corrupt.
func DecodeSchema(b []byte) (*Schema, error) {
	s := &Schema{}
	names := map[string]bool{}
	err := eachField(b, func(number protowire.Number, wire protowire.Type, value []byte, _ uint64) error {
		if number != schemaFeatures || wire != protowire.BytesType {
			return nil
		}
		f, err := decodeFeature(value)
		if err != nil {
			return err
		}
		if f.Name == "" || strings.ContainsAny(f.Name, "\x00\n") || names[f.Name] {
			return fault.New(fault.Corrupt, "stored schema: feature %d has the name %q, which is empty, taken or not a name", len(s.Features), f.Name)
		}
		if !f.Type.Valid() {
			return fault.New(fault.Corrupt, "stored schema: feature %q has the unknown type %d; it was written by a newer version", f.Name, f.Type)
		}
		names[f.Name] = true
		s.Features = append(s.Features, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func decodeFeature(b []byte) (f Feature, err error) {
	err = eachField(b, func(number protowire.Number, wire protowire.Type, value []byte, bits uint64) error {
		switch {
		case number == featureName && wire == protowire.BytesType:
			f.Name = string(value)
		case number == featureType && wire == protowire.VarintType:
			f.Type = feature.Type(min(bits, 255)) // every unknown number is refused by the caller
		}
		return nil
	})
	return f, err
}

// eachField calls do with each field of a message: value is that of a length-delimited field, bits those of every
// other; a group has neither.
func eachField(b []byte, do func(number protowire.Number, wire protowire.Type, value []byte, bits uint64) error) error {
	for len(b) > 0 {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return malformed(protowire.ParseError(n))
		}
		b = b[n:]
		var value []byte
		var bits uint64
		switch wire {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			bits, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			bits, n = protowire.ConsumeFixed64(b)
		default:
			n = protowire.ConsumeFieldValue(number, wire, b)
		}
		if n < 0 {
			return malformed(protowire.ParseError(n))
		}
		b = b[n:]
		if err := do(number, wire, value, bits); err != nil {
			return err
		}
	}
	return nil
}

func malformed(cause error) error {
	return fault.New(fault.Corrupt, "not a protobuf message: %w", cause)
}
