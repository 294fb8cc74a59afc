package training

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/zeebo/xxh3"
)

// plainColumn is a column as docs/reference/training-manifest.md sees it.
type plainColumn struct {
	name, typeName string
	// cells are plain values as in historyRow; of a type that is none of Twofold's, the canonical form of the value as []byte.
	cells []any
	// zero is what stands for the value of a row without one: nothing for values of variable length.
	zero []byte
}

// contentHash is the content hash by the words of the page: each stream is written down whole and hashed at once. It shares nothing with tableHash.
func contentHash(columns []plainColumn) string {
	u64 := func(n int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }
	all := u64(len(columns[0].cells))
	for _, c := range columns {
		var statuses, values, lengths []byte
		for _, cell := range c.cells {
			switch cell := cell.(type) {
			case nil, notFound:
				statuses = append(statuses, 0)
				values = append(values, c.zero...)
				if c.zero == nil {
					lengths = append(lengths, u64(0)...)
				}
				continue
			case string:
				lengths = append(lengths, u64(len(cell))...)
			case []byte:
				lengths = append(lengths, u64(len(cell))...)
			case []any:
				lengths = append(lengths, u64(len(cell))...)
				for _, e := range cell {
					switch e := e.(type) {
					case string:
						lengths = append(lengths, u64(len(e))...)
					case []byte:
						lengths = append(lengths, u64(len(e))...)
					}
				}
			}
			statuses = append(statuses, 1)
			values = append(values, valueBytes(cell)...)
		}
		all = append(append(all, u64(len(c.name))...), c.name...)
		all = append(append(all, u64(len(c.typeName))...), c.typeName...)
		for _, stream := range [][]byte{statuses, values, lengths} {
			digest := xxh3.Hash128(stream)
			all = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(all, digest.Hi), digest.Lo)
		}
	}
	digest := xxh3.Hash128(all)
	return fmt.Sprintf("%016x%016x", digest.Hi, digest.Lo)
}

func valueBytes(v any) (out []byte) {
	switch v := v.(type) {
	case bool:
		if v {
			return []byte{1}
		}
		return []byte{0}
	case int32:
		return binary.LittleEndian.AppendUint32(nil, uint32(v))
	case int64:
		return binary.LittleEndian.AppendUint64(nil, uint64(v))
	case float32:
		return binary.LittleEndian.AppendUint32(nil, math.Float32bits(v))
	case float64:
		return binary.LittleEndian.AppendUint64(nil, math.Float64bits(v))
	case string:
		return []byte(v)
	case []byte:
		return v
	case []any:
		for _, e := range v {
			out = append(out, valueBytes(e)...)
		}
		return out
	default:
		panic(fmt.Sprintf("no value %T", v))
	}
}

// zeroOf is what stands for a missing value of a type.
func zeroOf(typeName string) []byte {
	switch typeName {
	case "BOOL":
		return make([]byte, 1)
	case "INT32", "FLOAT":
		return make([]byte, 4)
	case "INT64", "DOUBLE", "TIMESTAMP":
		return make([]byte, 8)
	default:
		return nil
	}
}
