package definition

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// CompileRules compiles the rules of definitions, which Parse would do at its first call, and which takes longer than all else that it does. It is worth calling early, on a
// goroutine of its own.
func CompileRules() { _ = protovalidate.Validate(&twofoldv1.Definitions{}) }

// checkRules checks the rules that stand in the messages themselves (buf.validate).
func (c *checker) checkRules() {
	err := protovalidate.Validate(c.defs)
	invalid, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		if err != nil {
			c.report(spot{message: c.defs}, Error, fmt.Sprintf("the definitions cannot be checked: %v", err), "")
		}
		return
	}
	for _, violation := range invalid.Violations {
		s := c.spotOf(violation.Proto.GetField())
		if c.refused[s] || c.refused[spot{message: s.message}] {
			continue
		}
		value := ""
		if v, ok := violation.FieldValue.Interface().(string); ok {
			value = v
		}
		message, mend := explain(s, violation.Proto.GetMessage(), value)
		c.report(s, Error, message, mend)
	}
}

// spotOf follows the path of a violation through the definitions.
func (c *checker) spotOf(path *validate.FieldPath) spot {
	s := spot{message: c.defs}
	m := c.defs.ProtoReflect()
	for i, element := range path.GetElements() {
		fd := m.Descriptor().Fields().ByNumber(protoreflect.FieldNumber(element.GetFieldNumber()))
		if fd == nil {
			return s
		}
		s = spot{message: m.Interface(), field: fd.Name()}
		last := i == len(path.GetElements())-1
		switch {
		case fd.IsMap() && element.HasStringKey():
			s.key = element.GetStringKey()
			return s
		case fd.IsList() && element.HasIndex():
			index := int(element.GetIndex())
			if fd.Kind() != protoreflect.MessageKind {
				s.element = index + 1
				return s
			}
			m = m.Get(fd).List().Get(index).Message()
			s = spot{message: m.Interface()}
		case !last && fd.Kind() == protoreflect.MessageKind && !fd.IsList() && !fd.IsMap():
			m = m.Get(fd).Message()
		}
	}
	return s
}

// explain says in words that a rule is broken at a spot. text is what the rule says of itself.
func explain(s spot, text, value string) (message, mend string) {
	md := s.message.ProtoReflect().Descriptor()
	owner := nameOf(md)
	switch full := string(md.Name()) + "." + string(s.field); full {
	case "Entity.name", "FeatureView.name", "FeatureServiceDefinition.name", "EntityKey.name", "Feature.name":
		return explainName(owner, full, value)
	case "Entity.keys":
		return "an entity needs 1 to 8 keys", "list its keys: keys: [{name: user_id, type: INT64}]"
	case "EntityKey.type":
		return "a key is of type INT32, INT64, STRING or BYTES", "write one of these; a UUID is a STRING"
	case "Feature.type":
		return "a feature needs a type", "write type: and one of " + strings.Join(typeNames(), ", ")
	case "FeatureView.entity":
		return "a feature view needs an entity", "write entity: and the name of the entity that its rows describe"
	case "FeatureView.source":
		return "a feature view needs a source", "write source: {path: …, event_time_column: …}"
	case "FeatureView.features":
		return "a feature view needs at least one feature", "list its features: features: [{name: …, type: DOUBLE}]"
	case "Source.path":
		return "a source needs a path", "write path: and the file, folder or glob of its Parquet files"
	case "Source.event_time_column":
		return "a source needs an event time column", "write event_time_column: and the column that says when a row's values became true"
	case "FeatureServiceDefinition.features":
		if s.element == 0 {
			return "a feature service needs at least one feature", "list them as view:feature, or view:* for all of a view"
		}
		return explainServiceFeature(value)
	case "FeatureView.layout", "Sync.mode", "Sync.audit", "BadRows.policy":
		e := enumerations[md.Fields().ByName(s.field).Enum().Name()]
		return "there is no such " + e.what, e.mend
	case "FeatureView.history_versions":
		return "history_versions is more than 1000", fmt.Sprintf("write 2 to 1000, or leave it out for %d", defaultHistoryVersions)
	case "Sync.interval":
		return "sync.interval is not more than 0", "write a time such as 5m; or leave it out for half the ttl; or write enabled: false not to sync at all"
	case "Sync.batch_size":
		return "sync.batch_size is more than 10000", "write 1 to 10000, or leave it out for 500"
	case "Sync.tolerated_missed_runs":
		return "sync.tolerated_missed_runs is more than 1000", "write 0 to 1000"
	case "Sync.keep_runs":
		return "sync.keep_runs is more than 1000", fmt.Sprintf("write 1 to 1000, or leave it out for %d", defaultKeepRuns)
	case "BadRows.max_share", "SnapshotChecks.max_entity_drop":
		return fmt.Sprintf("%s of %s is not a share", s.field, owner), "write a number from 0 to 1, for example 0.05 for 5 %"
	case "SnapshotChecks.max_null_share":
		return fmt.Sprintf("max_null_share of snapshot: that of feature %q is not a share", shorten(s.key)), "write a number from 0 to 1, for example 0.05 for 5 %"
	case "SnapshotChecks.keep_generations":
		return "keep_generations of snapshot is more than 10", fmt.Sprintf("write 0 to 10, or leave it out for %d", defaultKeepGenerations)
	case "FeatureView.ttl", "FeatureView.expired_retention", "Sync.run_time", "Sync.source_delay", "BadRows.max_future":
		return fmt.Sprintf("%s of %s is less than 0", s.field, owner), "write a time such as 24h, or leave it out"
	default:
		return fmt.Sprintf("%s of %s: %s", s.field, owner, text), ""
	}
}

func explainName(owner, field, value string) (message, mend string) {
	letters, first, most := "small letters, digits and _", "a small letter", 63
	clean := strings.ToLower
	switch field {
	case "EntityKey.name", "Feature.name":
		letters, first, most = "letters, digits and _", "a letter or _", 128
		clean = func(s string) string { return s }
	case "FeatureServiceDefinition.name":
		letters, most = "small letters, digits, _, - and .", 127
	}
	rule := fmt.Sprintf("a name is %s, begins with %s and has at most %d characters", letters, first, most)
	if value == "" {
		return owner + " needs a name", "write name: …; " + rule
	}
	message = fmt.Sprintf("%q cannot be the name of %s", shorten(value), owner)
	if better := cleanName(clean(value), most); better != "" && better != value {
		rule += fmt.Sprintf(": for example %s", better)
	}
	if field == "Feature.name" {
		rule += "; a source column of another name is given as column:"
	}
	return message, rule
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_]+`)

// cleanName returns a name as near to text as may be; empty where nothing of it can be kept.
func cleanName(text string, most int) string {
	name := strings.Trim(notInNames.ReplaceAllString(text, "_"), "_")
	if name == "" {
		return ""
	}
	if unicode.IsDigit(rune(name[0])) {
		name = "n" + name
	}
	return name[:min(len(name), most)]
}

func explainServiceFeature(value string) (message, mend string) {
	switch {
	case strings.Contains(value, "__"):
		view, feature, _ := strings.Cut(value, "__")
		return fmt.Sprintf("%q is not of the form view:feature", shorten(value)), fmt.Sprintf("did you mean %q?", view+":"+feature)
	case strings.Contains(value, ".") && !strings.Contains(value, ":"):
		view, feature, _ := strings.Cut(value, ".")
		return fmt.Sprintf("%q is not of the form view:feature", shorten(value)), fmt.Sprintf("did you mean %q?", view+":"+feature)
	default:
		return fmt.Sprintf("%q is not of the form view:feature", shorten(value)), "write the name of the view, a colon and the name of the feature; or view:* for all of a view"
	}
}
