package definition

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// Hints are what the user of `twofold init` knows already. Everything may be left out.
type Hints struct {
	// View is the name of the feature view. Defaults to the name of the file or folder.
	View string
	// Entity is the name of the entity. Defaults to the key's name without "_id", or the view's name.
	Entity string
	// Keys are the key columns. Defaults to a guess by name.
	Keys []string
	// EventTimeColumn and CreatedTimeColumn default to a guess by name and type.
	EventTimeColumn, CreatedTimeColumn string
}

// Infer writes a first definition, as YAML with comments, of the source that sourcePath names and that has these columns: an entity, a
// feature view of all its columns, and a feature service. What it cannot guess is left as a TODO, which the linter
// explains; otherwise the result has no problems. A hint that names no column is an error of kind Invalid.
func Infer(sourcePath string, columns []SourceColumn, hints Hints) ([]byte, error) {
	g := &guess{path: sourcePath, columns: columns, view: hints.View, entity: hints.Entity}
	for _, name := range append(slices.Clone(hints.Keys), hints.EventTimeColumn, hints.CreatedTimeColumn) {
		if _, ok := g.column(name); name != "" && !ok {
			return nil, fault.New(fault.Invalid, "%s has no column %q; %s", sourcePath, name, nearest(name, g.names(func(SourceColumn) bool { return true })))
		}
	}
	if g.view == "" {
		g.view = viewName(sourcePath)
	}
	g.guessTimes(hints)
	if g.keys = hints.Keys; len(g.keys) == 0 {
		g.guessKeys()
	}
	if g.entity == "" {
		g.entity = entityName(g.keys, g.view)
	}
	return g.write(), nil
}

// guess is what is known, or guessed, of a source.
type guess struct {
	path           string
	columns        []SourceColumn
	view, entity   string
	keys           []string
	otherKeys      []string
	event, created string
	out            bytes.Buffer
}

func (g *guess) column(name string) (SourceColumn, bool) {
	i := slices.IndexFunc(g.columns, func(c SourceColumn) bool { return c.Name == name })
	if i < 0 {
		return SourceColumn{}, false
	}
	return g.columns[i], true
}

func (g *guess) names(wanted func(SourceColumn) bool) []string {
	var names []string
	for _, c := range g.columns {
		if wanted(c) {
			names = append(names, c.Name)
		}
	}
	return names
}

var (
	globOrPartition = regexp.MustCompile(`[*?\[{=]`)
	versionSuffix   = regexp.MustCompile(`(?i)\.(parquet|parq|pq|snappy|zstd|gz)$`)
	camelHump       = regexp.MustCompile(`([a-z0-9])([A-Z])`)
)

// viewName is the last part of a path that is neither a glob nor a partition, as a name.
func viewName(source string) string {
	name := "my_view"
	for part := range strings.SplitSeq(strings.TrimRight(source, "/"), "/") {
		if part != "" && !strings.HasSuffix(part, ":") && !globOrPartition.MatchString(part) {
			name = part
		}
	}
	for versionSuffix.MatchString(name) {
		name = strings.TrimSuffix(name, path.Ext(name))
	}
	if clean := snake(name); clean != "" {
		return clean
	}
	return "my_view"
}

func snake(name string) string {
	clean := cleanName(strings.ToLower(camelHump.ReplaceAllString(name, "${1}_$2")), 63)
	return strings.TrimLeft(clean, "_")
}

// Names of time columns, the likeliest first.
var (
	eventNames = []string{
		"event_timestamp", "event_time", "event_ts", "eventtime", "timestamp", "ts", "time", "datetime", "date_time", "observed_at", "occurred_at",
		"valid_from", "as_of", "time_hour", "date", "day", "dt",
	}
	createdNames = []string{
		"created_timestamp", "created_time", "created_at", "created_ts", "created", "inserted_at", "ingested_at", "ingestion_time", "loaded_at",
		"written_at", "processed_at", "updated_at",
	}
)

func (g *guess) guessTimes(hints Hints) {
	times := g.names(func(c SourceColumn) bool { return c.Type == feature.Timestamp })
	g.event, g.created = hints.EventTimeColumn, hints.CreatedTimeColumn
	if g.created == "" {
		g.created = firstOf(createdNames, times, g.event)
	}
	if g.event == "" {
		g.event = firstOf(eventNames, times, g.created)
	}
	if g.event != "" {
		return
	}
	others := slices.DeleteFunc(slices.Clone(times), func(name string) bool { return name == g.created })
	switch {
	case len(others) == 1:
		g.event = others[0]
	case len(others) == 0 && g.created != "" && hints.CreatedTimeColumn == "":
		g.event, g.created = g.created, ""
	}
}

// firstOf returns the first of the preferred names, in any case, that is among names and is not taken.
func firstOf(preferred, names []string, taken string) string {
	for _, p := range preferred {
		for _, name := range names {
			if strings.EqualFold(name, p) && name != taken {
				return name
			}
		}
	}
	return ""
}

// guessKeys looks for columns that are named like keys; where there are several, the one named like the view, else the first.
func (g *guess) guessKeys() {
	candidates := g.names(func(c SourceColumn) bool {
		name := strings.ToLower(camelHump.ReplaceAllString(c.Name, "${1}_$2"))
		return isKeyType(c.Type) && (name == "id" || name == "key" || name == "uuid" || name == "entity_id" ||
			strings.HasSuffix(name, "_id") || strings.HasSuffix(name, "_key") || strings.HasSuffix(name, "_uuid"))
	})
	if len(candidates) == 0 {
		return
	}
	best := 0
	for i, name := range candidates {
		if stem := keyStem(name); stem != "" && strings.HasPrefix(g.view, stem) {
			best = i
			break
		}
	}
	g.keys = []string{candidates[best]}
	g.otherKeys = slices.Delete(slices.Clone(candidates), best, best+1)
}

func isKeyType(t feature.Type) bool {
	return t == feature.Int32 || t == feature.Int64 || t == feature.String || t == feature.Bytes
}

// keyStem is the name of a key column without its ending: "user" of "user_id" and of "userId".
func keyStem(column string) string {
	name := snake(column)
	for _, ending := range []string{"_id", "_key", "_uuid"} {
		name = strings.TrimSuffix(name, ending)
	}
	if name == "id" || name == "key" || name == "uuid" {
		return ""
	}
	return name
}

func entityName(keys []string, view string) string {
	stems := make([]string, 0, len(keys))
	for _, key := range keys {
		if stem := keyStem(key); stem != "" {
			stems = append(stems, stem)
		}
	}
	if name := snake(strings.Join(stems, "_")); name != "" && name != "entity" {
		return name
	}
	return view
}

func (g *guess) printf(format string, args ...any) {
	fmt.Fprintf(&g.out, format, args...)
}

func (g *guess) write() []byte {
	g.printf("# Written by twofold init from the columns of %s.\n", oneLine(g.path))
	g.printf("# Read it through, then check it with twofold lint.\n")
	used := map[string]bool{eventTimestampName: true}
	keyNames := g.writeEntity(used)
	g.writeView(keyNames, used)
	g.printf("\nfeature_services:\n  - name: %s\n    features: [%q]\n", quote(g.view+"_v1"), g.view+":*")
	return g.out.Bytes()
}

// writeEntity returns the names of the keys, one a key column.
func (g *guess) writeEntity(used map[string]bool) []string {
	g.printf("\nentities:\n  - name: %s\n", quote(g.entity))
	if len(g.keys) == 0 {
		candidates := g.names(func(c SourceColumn) bool { return isKeyType(c.Type) && c.Name != g.event && c.Name != g.created })
		g.printf("    # TODO: which columns say whom a row is about? List them here as {name: …, type: …}, and take them out of the\n    # features below.")
		if len(candidates) > 0 {
			g.printf(" Candidates: %s.", oneLine(few(candidates)))
		}
		g.printf("\n    keys: []\n")
		return nil
	}
	if len(g.otherKeys) > 0 {
		g.printf("    # TODO: the key is a guess by its name, and these are named like keys too: %s. Where a row is about\n"+
			"    # several of them together, list them all here (a composite key), and take them out of the features below.\n", oneLine(few(g.otherKeys)))
	}
	g.printf("    keys:\n")
	names := make([]string, 0, len(g.keys))
	for _, key := range g.keys {
		column, _ := g.column(key)
		name := unusedName(key, "key", used)
		names = append(names, name)
		g.printf("      - {name: %s, type: %v}\n", quote(name), column.Type)
	}
	return names
}

// unusedName is a feature or key name for a column.
func unusedName(column, otherwise string, used map[string]bool) string {
	base := cleanName(column, 120)
	if strings.HasPrefix(column, "_") && base != "" {
		base = "_" + base
	}
	if base == "" {
		base = otherwise
	}
	name := base
	for n := 2; used[name]; n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	used[name] = true
	return name
}

func (g *guess) writeView(keyNames []string, used map[string]bool) {
	g.printf("\nfeature_views:\n  - name: %s\n    entity: %s\n", quote(g.view), quote(g.entity))
	g.writeSource(keyNames)
	g.printf("    # For how long after its event time a row is served. Without a ttl, for ever.\n    # ttl: 24h\n")
	g.printf("    features:\n")
	written := 0
	for _, c := range g.columns {
		if c.Name == g.event || c.Name == g.created || slices.Contains(g.keys, c.Name) {
			continue
		}
		if !c.Type.Valid() {
			g.printf("      # Column %s is left out: %s.\n", oneLine(quote(c.Name)), oneLine(strings.TrimRight(c.Reason, ".")))
			continue
		}
		written++
		name := unusedName(c.Name, "feature", used)
		if name == c.Name {
			g.printf("      - {name: %s, type: %v}\n", quote(name), c.Type)
		} else {
			g.printf("      - {name: %s, type: %v, column: %s}\n", quote(name), c.Type, quote(c.Name))
		}
	}
	if written == 0 {
		g.printf("      # TODO: no column is left that could be a feature.\n      []\n")
	}
}

func (g *guess) writeSource(keyNames []string) {
	g.printf("    source:\n      path: %s\n", quote(g.path))
	if g.event != "" {
		g.printf("      event_time_column: %s\n", quote(g.event))
	} else {
		g.printf("      # TODO: which column says when a row's values became true? It must be a TIMESTAMP or DATE.")
		if times := g.names(func(c SourceColumn) bool { return c.Type == feature.Timestamp }); len(times) > 0 {
			g.printf(" Candidates: %s.", oneLine(few(times)))
		} else {
			g.printf(" There is none.")
		}
		g.printf("\n      event_time_column: \"\"\n")
	}
	if g.created != "" {
		g.printf("      created_time_column: %s\n", quote(g.created))
	}
	first := true
	for i, name := range keyNames {
		if name == g.keys[i] {
			continue
		}
		if first {
			g.printf("      key_columns:\n")
			first = false
		}
		g.printf("        %s: %s\n", quote(name), quote(g.keys[i]))
	}
}

var plainScalar = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_./-]*$`)

// quote writes a text as a YAML scalar, in quotes where it must be.
func quote(text string) string {
	switch strings.ToLower(text) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n":
	default:
		if plainScalar.MatchString(text) {
			return text
		}
	}
	return strconv.Quote(strings.ToValidUTF8(text, "�"))
}

// oneLine makes a text fit for a comment.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
}
