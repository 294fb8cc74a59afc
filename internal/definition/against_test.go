package definition

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const againstBase = `entities: [{name: user, keys: [{name: id, type: STRING}]}]
feature_views:
  - name: v
    entity: user
    source: {path: p, event_time_column: at}
    features:
      - {name: small, type: INT32}
      - {name: text, type: STRING}
      - {name: list, type: FLOAT_LIST, online: false}
`

func TestCheckAgainst(t *testing.T) {
	parse := func(text string) *Set {
		t.Helper()
		set, err := Parse([]File{{Name: "f.yaml", Data: []byte(text)}}, Defaults{})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	const mendWiden = "; rows stored as the one can be read as the other; make sure that the models that use it take the new type"
	tests := []struct {
		name, from, to string
		want           []string
	}{
		{"the same", "", "", nil},
		{"added", "- {name: text,", "- {name: new, type: BOOL}\n      - {name: text,", nil},
		{"a new view", "  - name: v\n", "  - name: w\n    entity: user\n    source: {path: p, event_time_column: at}\n    features: [{name: text, type: INT64}]\n  - name: v\n", nil},
		{"widened", "small, type: INT32", "small, type: INT64",
			[]string{`f.yaml:7:29: warning: feature view "v": feature "small" is INT64 here and INT32 in base` + mendWiden}},
		{"narrowed", "small, type: INT32", "small, type: BOOL", []string{
			`f.yaml:7:29: feature view "v": feature "small" is BOOL here and INT32 in base, and stored rows cannot be read as another type; ` +
				`keep the type, or give the changed feature a new name, for example small_v2 with column: small`,
		}},
		{"strings and bytes", "text, type: STRING", "text, column: c, type: BYTES", []string{
			`f.yaml:8:39: feature view "v": feature "text" is BYTES here and STRING in base, and stored rows cannot be read as another type; ` +
				`keep the type, or give the changed feature a new name, for example text_v2 with column: c`,
		}},
		{"lists do not widen", "FLOAT_LIST", "DOUBLE_LIST", []string{
			`f.yaml:9:28: feature view "v": feature "list" is DOUBLE_LIST here and FLOAT_LIST in base, and stored rows cannot be read as another type; ` +
				`keep the type, or give the changed feature a new name, for example list_v2 with column: list`,
		}},
		{"renamed", "text, type: STRING", "text_v2, column: text, type: BYTES", []string{
			`warning: compared with base: removed feature "v:text" (breaking: requests and feature services that name it fail); give what is new a name of its own, unless this is meant`,
		}},
	}
	base := parse(againstBase)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(againstBase, test.from) {
				t.Fatal("no " + test.from)
			}
			var got []string
			for _, p := range parse(strings.Replace(againstBase, test.from, test.to, 1)).CheckAgainst(base, "base") {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
