package storedrow

import (
	"encoding/binary"
	"math"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// Projection reads wanted features out of rows that were written under one schema, by name. It depends on the two lists only, is
// not changed after it was built, and may be used by many goroutines at once.
type Projection struct {
	view        string
	fingerprint uint64
	stored      int // features in the stored schema
	columns     []column
	needsTail   bool
}

// column is one wanted feature.
type column struct {
	name string
	slot int // −1 where the stored schema does not have the feature
	read conversion
	elem feature.Type // of a list
}

// conversion is how a slot becomes a value.
type conversion uint8

const (
	readBool conversion = iota + 1
	readInt32
	readInt64
	readFloat
	readDouble
	readBytes
	readList
	widenInt32ToInt64
	widenInt32ToDouble
	widenFloatToDouble
)

// NewProjection compiles how to read the wanted features of rows of the view that were written under the stored schema. A feature
// whose type has changed since is read where the new type holds every value of the old (INT32 as INT64 or DOUBLE, FLOAT as
// DOUBLE); any other change is an error of kind fault.Precondition.
func NewProjection(view string, stored *Schema, wanted []Feature) (*Projection, error) {
	slots := make(map[string]int, len(stored.Features))
	for i, f := range stored.Features {
		slots[f.Name] = i
	}
	p := &Projection{view: view, fingerprint: stored.Fingerprint(), stored: len(stored.Features), columns: make([]column, len(wanted))}
	for i, w := range wanted {
		slot, ok := slots[w.Name]
		if !ok {
			p.columns[i] = column{name: w.Name, slot: -1}
			continue
		}
		read := convert(stored.Features[slot].Type, w.Type)
		if read == 0 {
			return nil, fault.New(fault.Precondition, "feature %q is defined as %v, and rows stored under schema %016x have it as %v, which cannot be read as that; "+
				"sync view %q again so that its rows are replaced, or give the changed feature a new name",
				view+":"+w.Name, w.Type, p.fingerprint, stored.Features[slot].Type, view)
		}
		p.columns[i] = column{name: w.Name, slot: slot, read: read, elem: w.Type.Elem()}
		p.needsTail = p.needsTail || read == readBytes || read == readList
	}
	return p, nil
}

// convert returns how a stored value is read as the wanted type, 0 where it cannot be.
func convert(stored, wanted feature.Type) conversion {
	switch {
	case stored == feature.Int32 && wanted == feature.Int64:
		return widenInt32ToInt64
	case stored == feature.Int32 && wanted == feature.Double:
		return widenInt32ToDouble
	case stored == feature.Float && wanted == feature.Double:
		return widenFloatToDouble
	case stored != wanted:
		return 0
	}
	switch wanted {
	case feature.Bool:
		return readBool
	case feature.Int32:
		return readInt32
	case feature.Int64, feature.Timestamp:
		return readInt64
	case feature.Float:
		return readFloat
	case feature.Double:
		return readDouble
	case feature.String, feature.Bytes:
		return readBytes
	default:
		return readList
	}
}

// Append appends the row's wanted features, one value to each of dst, whose types are those wanted: Null where the row says so,
// NotFound where the row is from before the feature was defined, or is a tombstone. A row of another schema, or bytes
// that are not a whole and consistent row, give an error of kind fault.Corrupt; then any of dst may have one value
// more, and all of them are to be thrown away.
func (p *Projection) Append(row []byte, dst []*feature.Column) error {
	m, err := parse(row)
	if err != nil {
		return p.corrupt("", err)
	}
	if m.Tombstone {
		for _, c := range dst {
			c.AppendMissing(feature.NotFound)
		}
		return nil
	}
	if err := p.check(m); err != nil {
		return p.corrupt("", err)
	}
	if p.needsTail && m.compression == compressionZstd {
		buffer := tails.Get().(*[]byte)
		defer returnTail(buffer)
		if *buffer, err = decompress((*buffer)[:0], m.tail); err != nil {
			return p.corrupt("", err)
		}
		m.tail = *buffer
	}
	for i := range p.columns {
		c := &p.columns[i]
		switch {
		case c.slot < 0:
			dst[i].AppendMissing(feature.NotFound)
		case c.slot/8 < len(m.nulls) && m.nulls[c.slot/8]&(1<<(c.slot%8)) != 0:
			dst[i].AppendMissing(feature.Null)
		default:
			if err := c.append(dst[i], binary.LittleEndian.Uint64(m.slots[8*c.slot:]), m.tail); err != nil {
				return p.corrupt(c.name, err)
			}
		}
	}
	return nil
}

// check compares a row with the schema that the projection was compiled for.
func (p *Projection) check(m message) error {
	if m.Fingerprint != p.fingerprint {
		return fault.New(fault.Corrupt, "it was written under schema %016x and is read under %016x", m.Fingerprint, p.fingerprint)
	}
	if len(m.slots) != 8*p.stored {
		return fault.New(fault.Corrupt, "it has %d slots where its schema %016x has %d", len(m.slots)/8, p.fingerprint, p.stored)
	}
	for i, bits := range m.nulls {
		if i >= p.stored/8 && (i > p.stored/8 || bits>>(p.stored%8) != 0) && bits != 0 {
			return fault.New(fault.Corrupt, "it has a null past its %d slots", p.stored)
		}
	}
	return nil
}

// corrupt says where damaged bytes were found.
func (p *Projection) corrupt(name string, err error) error {
	if name == "" {
		return fault.New(fault.Corrupt, "stored row of view %q is damaged: %w", p.view, err)
	}
	return fault.New(fault.Corrupt, "stored row of view %q is damaged: feature %q: %w", p.view, name, err)
}

// append appends one value that is not null.
func (c *column) append(dst *feature.Column, slot uint64, tail []byte) error {
	switch c.read {
	case readBool:
		if slot > 1 {
			return outOfRange(slot, feature.Bool)
		}
		dst.AppendBool(slot == 1)
	case readInt32:
		if int64(slot) != int64(int32(slot)) {
			return outOfRange(slot, feature.Int32)
		}
		dst.AppendInt32(int32(slot))
	case readInt64:
		dst.AppendInt64(int64(slot))
	case readFloat:
		if slot > math.MaxUint32 {
			return outOfRange(slot, feature.Float)
		}
		dst.AppendFloat(math.Float32frombits(uint32(slot)))
	case readDouble:
		dst.AppendDouble(math.Float64frombits(slot))
	case readBytes, readList:
		offset, length := slot>>32, slot&math.MaxUint32
		if offset+length > uint64(len(tail)) {
			return fault.New(fault.Corrupt, "its value is bytes %d to %d of a tail of %d", offset, offset+length, len(tail))
		}
		value := tail[offset : offset+length]
		if c.read == readList {
			return appendList(dst, value)
		}
		dst.AppendBytes(value)
	default:
		return c.appendWidened(dst, slot)
	}
	return nil
}

func (c *column) appendWidened(dst *feature.Column, slot uint64) error {
	if c.read == widenFloatToDouble {
		if slot > math.MaxUint32 {
			return outOfRange(slot, feature.Float)
		}
		dst.AppendDouble(float64(math.Float32frombits(uint32(slot))))
		return nil
	}
	if int64(slot) != int64(int32(slot)) {
		return outOfRange(slot, feature.Int32)
	}
	if c.read == widenInt32ToInt64 {
		dst.AppendInt64(int64(slot))
	} else {
		dst.AppendDouble(float64(int32(slot)))
	}
	return nil
}

func outOfRange(slot uint64, t feature.Type) error {
	return fault.New(fault.Corrupt, "its slot %#x is not a %v", slot, t)
}
