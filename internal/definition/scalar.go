package definition

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"buf.build/go/protoyaml"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/twofold-ml/twofold/internal/feature"
)

const durationName protoreflect.FullName = "google.protobuf.Duration"

// scalar decodes one value. It reports false where it has refused it.
func (d *decoder) scalar(at spot, node *yaml.Node, m protoreflect.Message, fd protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	if node.Kind != yaml.ScalarNode {
		d.refuse(at, node, fmt.Sprintf("%s needs one value, not %s", fd.Name(), kindOf(node)), "write the value after the colon")
		return protoreflect.Value{}, false
	}
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(node.Value), true
	case protoreflect.BoolKind:
		return d.boolean(at, node, fd)
	case protoreflect.EnumKind:
		if e, ok := enumerations[fd.Enum().Name()]; ok {
			return d.enum(at, node, fd.Enum(), e)
		}
		return d.valueType(at, node)
	case protoreflect.Uint32Kind:
		v, err := strconv.ParseUint(node.Value, 10, 32)
		if err != nil {
			d.refuse(at, node, fmt.Sprintf("%s needs a whole number from 0 to 4294967295, not %s", fd.Name(), kindOf(node)), "write it in digits only")
			return protoreflect.Value{}, false
		}
		return protoreflect.ValueOfUint32(uint32(v)), true
	case protoreflect.Uint64Kind:
		v, err := strconv.ParseUint(node.Value, 10, 64)
		if err != nil {
			d.refuse(at, node, fmt.Sprintf("%s needs a whole number, not %s", fd.Name(), kindOf(node)), "write it in digits only")
			return protoreflect.Value{}, false
		}
		return protoreflect.ValueOfUint64(v), true
	case protoreflect.DoubleKind:
		return d.number(at, node, string(fd.Name()))
	default:
		return d.duration(at, node, m, fd)
	}
}

func (d *decoder) boolean(at spot, node *yaml.Node, fd protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	switch {
	case node.ShortTag() == "!!bool" && strings.EqualFold(node.Value, "true"):
		return protoreflect.ValueOfBool(true), true
	case node.ShortTag() == "!!bool" && strings.EqualFold(node.Value, "false"):
		return protoreflect.ValueOfBool(false), true
	}
	d.refuse(at, node, fmt.Sprintf("%s needs true or false, not %s", fd.Name(), kindOf(node)), "write true or false, without quotes")
	return protoreflect.Value{}, false
}

// otherTypeNames are names that other systems have for our types.
var otherTypeNames = map[string]feature.Type{
	"BOOLEAN": feature.Bool, "INT": feature.Int64, "INTEGER": feature.Int64, "INT8": feature.Int32, "INT16": feature.Int32,
	"UINT8": feature.Int32, "UINT16": feature.Int32, "UINT32": feature.Int64, "UINT64": feature.Int64, "LONG": feature.Int64, "BIGINT": feature.Int64,
	"FLOAT32": feature.Float, "REAL": feature.Float, "FLOAT64": feature.Double, "NUMBER": feature.Double,
	"STR": feature.String, "TEXT": feature.String, "VARCHAR": feature.String, "UTF8": feature.String, "UUID": feature.String,
	"BINARY": feature.Bytes, "BYTEA": feature.Bytes, "BLOB": feature.Bytes,
	"DATE": feature.Timestamp, "DATETIME": feature.Timestamp, "TIME": feature.Timestamp, "UNIX_TIMESTAMP": feature.Timestamp,
	"EMBEDDING": feature.FloatList, "VECTOR": feature.FloatList, "ARRAY": feature.DoubleList, "LIST": feature.DoubleList,
}

// enumName returns what a name of an enumeration is looked up by: without what full names begin with, in capitals.
func enumName(text, prefix string) string {
	return strings.TrimPrefix(strings.ToUpper(text), prefix)
}

// enumeration says how an enumeration is written and explained.
type enumeration struct {
	// prefix is what full names begin with.
	prefix string
	// what one of its values is called.
	what string
	// mend says which there are.
	mend string
}

var enumerations = map[protoreflect.Name]enumeration{
	"OnlineLayout": {"ONLINE_LAYOUT_", "layout", "write LATEST, the newest row of each entity, or HISTORY, the newest history_versions of them"},
	"SyncMode":     {"SYNC_MODE_", "mode", "write INCREMENTAL, rows of new and changed files over older ones, or SNAPSHOT, all rows anew and then in place of the last"},
	"BadRowPolicy": {"BAD_ROW_POLICY_", "policy", "write SKIP, which leaves bad rows out, FAIL, which fails the run, or QUARANTINE, which writes them to a file"},
	"SyncAudit":    {"SYNC_AUDIT_", "time for an audit", "write NEVER or, with mode SNAPSHOT, BEFORE_PUBLISH"},
}

// enum decodes a value by its short name (HISTORY) or its full one (ONLINE_LAYOUT_HISTORY), in capitals or not.
func (d *decoder) enum(at spot, node *yaml.Node, ed protoreflect.EnumDescriptor, e enumeration) (protoreflect.Value, bool) {
	name := protoreflect.Name(e.prefix + enumName(node.Value, e.prefix))
	if v := ed.Values().ByName(name); v != nil && v.Number() != 0 {
		return protoreflect.ValueOfEnum(v.Number()), true
	}
	d.refuse(at, node, fmt.Sprintf("%s is not a %s", kindOf(node), e.what), e.mend)
	return protoreflect.Value{}, false
}

// number decodes a number of any size but infinity; name is what it is for.
func (d *decoder) number(at spot, node *yaml.Node, name string) (protoreflect.Value, bool) {
	v, err := strconv.ParseFloat(node.Value, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		d.refuse(at, node, fmt.Sprintf("%s needs a number, not %s", name, kindOf(node)), "write it in digits, for example 0.05")
		return protoreflect.Value{}, false
	}
	return protoreflect.ValueOfFloat64(v), true
}

// valueType decodes a type by its short name (STRING) or its full one (VALUE_TYPE_STRING), in capitals or not.
func (d *decoder) valueType(at spot, node *yaml.Node) (protoreflect.Value, bool) {
	upper := enumName(node.Value, "VALUE_TYPE_")
	if t, ok := feature.ParseType(upper); ok {
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(t)), true
	}
	mend := "there are: " + strings.Join(typeNames(), ", ")
	if t, ok := otherTypeNames[upper]; ok {
		mend = fmt.Sprintf("did you mean %q?", t.String())
	} else if strings.HasPrefix(feature.DidYouMean(upper, typeNames()), "; did you mean") {
		mend = nearest(upper, typeNames())
	}
	d.refuse(at, node, fmt.Sprintf("%s is not a type", kindOf(node)), mend)
	return protoreflect.Value{}, false
}

func typeNames() []string {
	names := make([]string, 0, feature.TimestampList)
	for t := feature.Bool; t <= feature.TimestampList; t++ {
		names = append(names, t.String())
	}
	return names
}

// duration decodes a duration such as 2h30m.
func (d *decoder) duration(at spot, node *yaml.Node, m protoreflect.Message, fd protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	if node.Value == "0" {
		return m.NewField(fd), true
	}
	v, err := protoyaml.ParseDuration(node.Value)
	if err != nil {
		d.refuse(at, node, fmt.Sprintf("%s is not a duration for %s", kindOf(node), fd.Name()), mendDuration(node.Value))
		return protoreflect.Value{}, false
	}
	if v == nil { // "+0" and "-0"
		return m.NewField(fd), true
	}
	return protoreflect.ValueOfMessage(v.ProtoReflect()), true
}

var (
	plainNumber = regexp.MustCompile(`^\d{1,15}$`)
	longUnits   = regexp.MustCompile(`(?i)^(\d{1,9}) ?(d|days?|w|weeks?|hours?|hrs?|minutes?|mins?|seconds?|secs?)$`)
)

// mendDuration says how to write what was probably meant.
func mendDuration(text string) string {
	if plainNumber.MatchString(text) {
		return fmt.Sprintf("give it a unit: %ss for seconds, %sm for minutes, %sh for hours", text, text, text)
	}
	m := longUnits.FindStringSubmatch(text)
	if m == nil {
		return "write hours, minutes and seconds, for example 90m, 1h30m or 720h (30 days)"
	}
	n, _ := new(big.Int).SetString(m[1], 10)
	unit := "h"
	switch m[2][0] | 0x20 {
	case 'd':
		n.Mul(n, big.NewInt(24))
	case 'w':
		n.Mul(n, big.NewInt(7*24))
	case 'm':
		unit = "m"
	case 's':
		unit = "s"
	}
	return fmt.Sprintf("the units are h, m and s: write %v%s", n, unit)
}
