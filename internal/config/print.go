package config

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"
)

// Print writes the configuration as YAML, each value with its source in a comment and secrets hidden, so that it can serve as a
// configuration file once secrets are filled in.
func (l *Loaded) Print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	group := ""
	for _, f := range Fields() {
		indent, name := "", f.Key
		if parent, child, ok := strings.Cut(f.Key, "."); ok {
			if parent != group {
				_, _ = fmt.Fprintf(table, "%s:\n", parent)
			}
			group, indent, name = parent, "  ", child
		}
		_, _ = fmt.Fprintf(table, "%s%s: %s\t# %s\n", indent, name, scalar(f.Text(l.Config)), l.Source(f.Key))
	}
	return table.Flush()
}

// scalar quotes a text where YAML needs it.
func scalar(text string) string {
	if text == "" {
		return `""`
	}
	out, err := yaml.Marshal(text)
	if err != nil {
		return fmt.Sprintf("%q", text)
	}
	plain := strings.TrimSuffix(string(out), "\n")
	if unquoted := strings.Trim(plain, `"'`); unquoted == text && isPlainNumberOrSwitch(text) {
		return text
	}
	return plain
}

// isPlainNumberOrSwitch reports whether a text reads the same as a number or a switch, which a reader would rather see unquoted.
func isPlainNumberOrSwitch(text string) bool {
	return text == "true" || text == "false" || strings.Trim(text, "0123456789") == ""
}

// Reference returns docs/reference/configuration.md.
func Reference() string {
	defaults := Defaults()
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, f := range Fields() {
		names := "`" + f.Env + "`"
		for _, alias := range f.Aliases {
			names += ", `" + alias + "`"
		}
		fmt.Fprintf(&b, "\n## `%s`\n\n%s\n\n- Flag: `--%s` (%s)\n- Environment: %s\n", f.Key, f.Doc, f.Flag, kindOf(f.value(&defaults)), names)
	}
	return b.String()
}

const referenceHead = `# Configuration

<!-- Made from the comments of internal/config/config.go: go test ./internal/config -run TestReference -rewrite -->

Every process of Twofold reads the same settings. A setting can stand in four places; the first that has it wins:

1. a flag: ` + "`--offline-store-path s3://features`" + `
2. an environment variable: ` + "`TWOFOLD_OFFLINE_STORE_PATH=s3://features`" + `. Some settings have well-known names beside their
   own; Twofold's own name wins, with a warning where the two differ. A variable set to nothing counts as not set.
3. a key of a YAML file: ` + "`offline_store_path: s3://features`" + `. The file is the one that ` + "`--config`" + ` or ` + "`TWOFOLD_CONFIG`" + ` names, else
   ` + "`twofold.yaml`" + ` in the working directory if it is there. A dot in a key below stands for nesting: ` + "`s3.region`" + ` is ` + "`region`" + ` below ` + "`s3`" + `. A key
   that does not exist is an error.
4. the default.

` + "`twofold config`" + ` prints the values that a process would use, each with its source; secrets are hidden there and in every log.

AWS keys need not be set here: without ` + "`s3.access_key_id`" + ` the AWS SDK's own chain is used (` + "`AWS_ACCESS_KEY_ID`" + `, ` + "`AWS_PROFILE`" + `, web identity,
instance role).
`
