// Package wire converts between the generated messages of the contract (twofold.v1) and the domain (package feature).
//
// Conversions share memory where they can, so that a column of numbers costs one small allocation whatever its length:
// neither side may be changed while the other is in use. The Arrow side is in package arrowwire, so that a plain client does not link Arrow.
package wire

import (
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// TypeToProto converts a type. Both sides use the same numbers.
func TypeToProto(t feature.Type) twofoldv1.ValueType { return twofoldv1.ValueType(t) }

// TypeFromProto converts a type back. A type that is unspecified or unknown is an error of kind Invalid.
func TypeFromProto(t twofoldv1.ValueType) (feature.Type, error) {
	if t < twofoldv1.ValueType(feature.Bool) || t > twofoldv1.ValueType(feature.TimestampList) {
		return 0, fault.New(fault.Invalid, "%d is not a type (twofold.v1.ValueType)", int32(t))
	}
	return feature.Type(t), nil
}

// EntityToProto converts an entity. The description, owner and tags are not part of the domain, so they are empty.
func EntityToProto(e *feature.Entity) *twofoldv1.Entity {
	out := &twofoldv1.Entity{Name: e.Name, Keys: make([]*twofoldv1.EntityKey, 0, len(e.Keys))}
	for _, k := range e.Keys {
		out.Keys = append(out.Keys, &twofoldv1.EntityKey{Name: k.Name, Type: TypeToProto(k.Type)})
	}
	return out
}

// EntityFromProto converts an entity back. It checks the types only; package definition checks the rest.
func EntityFromProto(e *twofoldv1.Entity) (*feature.Entity, error) {
	out := &feature.Entity{Name: e.GetName(), Keys: make([]feature.Key, 0, len(e.GetKeys()))}
	for _, k := range e.GetKeys() {
		t, err := TypeFromProto(k.GetType())
		if err != nil {
			return nil, err
		}
		out.Keys = append(out.Keys, feature.Key{Name: k.GetName(), Type: t})
	}
	return out, nil
}

// ColumnSchema describes a column of that name and type.
func ColumnSchema(name string, t feature.Type) *twofoldv1.ColumnSchema {
	return &twofoldv1.ColumnSchema{Name: name, Type: TypeToProto(t)}
}
