package definition

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/twofold-ml/twofold/internal/feature"
)

// freeNodes is what any document may expand to through aliases; a larger one, to four times its own size.
const freeNodes = 100_000

// maxMergeDepth bounds merge keys that merge mappings with merge keys.
const maxMergeDepth = 16

// decoder turns the nodes of one document into messages and remembers where each part was written. It is driven by the messages'
// descriptors, whose depth bounds its own.
type decoder struct {
	*checker
	file int
	// nodes is how many entries and elements have been read, of at most limit.
	nodes, limit int
}

// document decodes a document into the definitions, after what is there already. It reports whether it held anything.
func (d *decoder) document(document *yaml.Node) bool {
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 || isNull(document.Content[0]) {
		return false
	}
	defs := d.defs.ProtoReflect()
	root := resolve(document.Content[0])
	if root.Kind != yaml.MappingNode {
		d.incomplete = true
		d.reportNode(d.file, root, fmt.Sprintf("the file begins with %s", kindOf(root)), "begin it with entities:, feature_views: or feature_services:")
		return true
	}
	d.limit = freeNodes + 4*size(root)
	d.fields(root, defs)
	return true
}

// message decodes a mapping into a message.
func (d *decoder) message(node *yaml.Node, m protoreflect.Message) {
	at := spot{message: m.Interface()}
	d.mark(at, node)
	node = resolve(node)
	if node.Kind != yaml.MappingNode {
		d.refuse(at, node, fmt.Sprintf("%s needs fields, not %s", nameOf(m.Descriptor()), kindOf(node)),
			"write its fields as name: value; there are: "+strings.Join(fieldNames(m.Descriptor()), ", "))
		return
	}
	d.fields(node, m)
}

// fields decodes the fields of a mapping.
func (d *decoder) fields(node *yaml.Node, m protoreflect.Message) {
	seen := map[protoreflect.Name]*yaml.Node{}
	for _, pair := range d.pairs(node, 0) {
		fd := m.Descriptor().Fields().ByTextName(pair.key.Value)
		if fd == nil {
			fd = m.Descriptor().Fields().ByJSONName(pair.key.Value)
		}
		if fd == nil || pair.key.Kind != yaml.ScalarNode {
			d.unknownField(pair.key, m.Descriptor())
			continue
		}
		if first, ok := seen[fd.Name()]; ok {
			if !pair.merged {
				d.reportNode(d.file, pair.key, fmt.Sprintf("%s is given twice (the first is on line %d)", fd.Name(), first.Line), "remove one of them")
			}
			continue
		}
		seen[fd.Name()] = pair.key
		d.field(pair.value, m, fd)
	}
}

func (d *decoder) unknownField(key *yaml.Node, md protoreflect.MessageDescriptor) {
	if key.Kind != yaml.ScalarNode {
		d.reportNode(d.file, key, fmt.Sprintf("%s is not a field name", kindOf(key)), "write name: value")
		return
	}
	d.reportNode(d.file, key, fmt.Sprintf("%s has no field %q", nameOf(md), key.Value), nearest(key.Value, fieldNames(md)))
}

// pair is one entry of a mapping.
type pair struct {
	key, value *yaml.Node
	// merged is whether it came through a merge key; what a mapping says itself comes first.
	merged bool
}

// pairs returns the entries of a mapping, those of its merge keys last.
func (d *decoder) pairs(node *yaml.Node, depth int) []pair {
	var own, merged []pair
	for i := 0; i+1 < len(node.Content) && d.count(node); i += 2 {
		key, value := resolve(node.Content[i]), node.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!merge" {
			own = append(own, pair{key, value, depth > 0})
			continue
		}
		if depth == maxMergeDepth {
			d.reportNode(d.file, key, "merge keys are nested too deeply", "write the fields themselves")
			continue
		}
		for _, source := range mergeSources(value) {
			if source = resolve(source); source.Kind != yaml.MappingNode {
				d.reportNode(d.file, value, fmt.Sprintf("<< merges fields, not %s", kindOf(source)), "let it name the anchor of a mapping: <<: *name")
				continue
			}
			merged = append(merged, d.pairs(source, depth+1)...)
		}
	}
	return append(own, merged...)
}

func mergeSources(value *yaml.Node) []*yaml.Node {
	if value = resolve(value); value.Kind == yaml.SequenceNode {
		return value.Content
	}
	return []*yaml.Node{value}
}

// field decodes one field. A null is a field that is not given.
func (d *decoder) field(node *yaml.Node, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	at := spot{message: m.Interface(), field: fd.Name()}
	d.mark(at, node)
	node = resolve(node)
	if isNull(node) {
		return
	}
	switch {
	case fd.IsList():
		d.list(node, m, fd)
	case fd.IsMap():
		d.mapping(node, m, fd)
	case fd.Kind() == protoreflect.MessageKind && fd.Message().FullName() != durationName:
		d.message(node, m.Mutable(fd).Message())
	default:
		if v, ok := d.scalar(at, node, m, fd); ok {
			m.Set(fd, v)
		}
	}
}

func (d *decoder) list(node *yaml.Node, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	at := spot{message: m.Interface(), field: fd.Name()}
	if node.Kind != yaml.SequenceNode {
		d.refuse(at, node, fmt.Sprintf("%s needs a list, not %s", fd.Name(), kindOf(node)), "begin each element with a dash on a line of its own, or write [one, two]")
		return
	}
	list := m.Mutable(fd).List()
	for _, item := range node.Content {
		if !d.count(node) {
			return
		}
		if isNull(resolve(item)) {
			d.refuse(at, item, fmt.Sprintf("an element of %s is empty", fd.Name()), "fill it in or remove its dash")
			continue
		}
		if fd.Kind() == protoreflect.MessageKind {
			element := list.NewElement()
			d.message(item, element.Message())
			list.Append(element)
			continue
		}
		element := at
		element.element = list.Len() + 1
		d.mark(element, item)
		if v, ok := d.scalar(element, resolve(item), m, fd); ok {
			list.Append(v)
		} else {
			d.refused[at] = true
		}
	}
}

// mapping decodes a map of strings to strings or to numbers, the only kinds that definitions have.
func (d *decoder) mapping(node *yaml.Node, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	at := spot{message: m.Interface(), field: fd.Name()}
	if node.Kind != yaml.MappingNode {
		d.refuse(at, node, fmt.Sprintf("%s needs entries, not %s", fd.Name(), kindOf(node)), "write each as key: value")
		return
	}
	entries := m.Mutable(fd).Map()
	for _, pair := range d.pairs(node, 0) {
		entry := at
		entry.key = pair.key.Value
		if pair.key.Kind != yaml.ScalarNode {
			d.refuse(at, pair.key, fmt.Sprintf("%s is not a key of %s", kindOf(pair.key), fd.Name()), "write key: value")
			continue
		}
		key := protoreflect.ValueOfString(pair.key.Value).MapKey()
		if entries.Has(key) {
			if !pair.merged {
				d.reportNode(d.file, pair.key, fmt.Sprintf("%s has the key %q twice%s", fd.Name(), pair.key.Value, d.where(entry)), "remove one of them")
			}
			continue
		}
		d.mark(entry, pair.key)
		if v, ok := d.mapValue(entry, resolve(pair.value), fd); ok {
			entries.Set(key, v)
		}
	}
}

// mapValue decodes the value of a map's entry.
func (d *decoder) mapValue(entry spot, value *yaml.Node, fd protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	name, isNumber := fmt.Sprintf("%s %q", fd.Name(), entry.key), fd.MapValue().Kind() == protoreflect.DoubleKind
	switch {
	case value.Kind == yaml.ScalarNode && !isNull(value) && isNumber:
		return d.number(entry, value, name)
	case value.Kind == yaml.ScalarNode && !isNull(value):
		return protoreflect.ValueOfString(value.Value), true
	}
	what := "a text"
	if isNumber {
		what = "a number"
	}
	d.refuse(entry, value, fmt.Sprintf("%s needs %s, not %s", name, what, kindOf(value)), "write one value after the colon")
	return protoreflect.Value{}, false
}

// mark remembers where a spot was written.
func (d *decoder) mark(s spot, node *yaml.Node) {
	d.places.bySpot[s] = place{d.file, node.Line, node.Column}
}

// refuse reports an error at a node and keeps others from being reported at the spot.
func (d *decoder) refuse(s spot, node *yaml.Node, message, mend string) {
	d.refused[s] = true
	d.reportNode(d.file, node, message, mend)
}

// count counts a node and reports whether there is room for it.
func (d *decoder) count(node *yaml.Node) bool {
	if d.nodes++; d.nodes <= d.limit {
		return true
	}
	if !d.abandoned {
		d.abandoned = true
		d.reportNode(d.file, node, fmt.Sprintf("aliases expand the document to more than %d values", d.limit), "use fewer aliases (*name)")
	}
	return false
}

// size returns the number of nodes that are written out.
func size(node *yaml.Node) int {
	n := 1
	for _, child := range node.Content {
		n += size(child)
	}
	return n
}

// resolve follows an alias. (The target of an alias is never an alias.)
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool {
	return node.Kind == 0 || (node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null")
}

// kindOf says in words what a node is.
func kindOf(node *yaml.Node) string {
	switch node.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a mapping"
	case yaml.ScalarNode:
		if isNull(node) {
			return "nothing"
		}
		return fmt.Sprintf("%q", shorten(node.Value))
	default:
		return "an alias"
	}
}

// shorten cuts a text that is quoted in a message.
func shorten(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return s
}

// nameOf says what a message is in the words of the documentation.
func nameOf(md protoreflect.MessageDescriptor) string {
	switch md.Name() {
	case "Definitions":
		return "a definition file"
	case "Entity":
		return "an entity"
	case "EntityKey":
		return "a key of an entity"
	case "FeatureView":
		return "a feature view"
	case "FeatureServiceDefinition":
		return "a feature service"
	case "Feature":
		return "a feature"
	case "BadRows":
		return "bad_rows"
	case "SnapshotChecks":
		return "snapshot"
	default:
		return strings.ToLower(string(md.Name()))
	}
}

func fieldNames(md protoreflect.MessageDescriptor) []string {
	names := make([]string, 0, md.Fields().Len())
	for i := range md.Fields().Len() {
		names = append(names, string(md.Fields().Get(i).Name()))
	}
	return names
}

// nearest is feature.DidYouMean without its leading semicolon; where nothing is near and there are many, it lists them all the same.
func nearest(name string, candidates []string) string {
	if mend := strings.TrimPrefix(feature.DidYouMean(name, candidates), "; "); mend != "" {
		return mend
	}
	if len(candidates) == 0 {
		return ""
	}
	if len(candidates) > 12 {
		return fmt.Sprintf("there are %d, for example %s", len(candidates), strings.Join(candidates[:5], ", "))
	}
	return "there are: " + strings.Join(candidates, ", ")
}
