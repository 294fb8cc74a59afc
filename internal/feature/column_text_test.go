package feature_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/twofold-ml/twofold/internal/feature"
)

func TestInvalidText(t *testing.T) {
	texts := feature.NewColumn(feature.String, 0)
	for _, s := range []string{"", "a", "\xff", "é", "\xc3", "\xa9", "z"} {
		texts.AppendString(s)
	}
	texts.AppendMissing(feature.Null)
	if got := slices.Collect(texts.InvalidText()); !slices.Equal(got, []int{2, 4, 5}) {
		t.Errorf("STRING: rows %v", got)
	}
	for row := range texts.InvalidText() {
		if row != 2 {
			t.Errorf("row %d after the end", row)
		}
		break
	}

	lists := feature.NewColumn(feature.StringList, 0)
	for _, elements := range [][]string{{}, {"a", "é"}, {"a", "\xc3"}, {"\xa9"}, {"z"}} {
		lists.AppendList(func(elem *feature.Column) {
			for _, s := range elements {
				elem.AppendString(s)
			}
		})
	}
	lists.AppendMissing(feature.Null)
	if got := slices.Collect(lists.InvalidText()); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("STRING_LIST: rows %v", got)
	}

	bytes := feature.NewColumn(feature.Bytes, 0)
	bytes.AppendString("\xff")
	for _, c := range []*feature.Column{bytes, feature.NewColumn(feature.String, 0), {Type: feature.String}, feature.NewColumn(feature.Int64, 0)} {
		if got := slices.Collect(c.InvalidText()); len(got) > 0 {
			t.Errorf("%v of %d rows: rows %v", c.Type, c.Len(), got)
		}
	}
}

func FuzzInvalidText(f *testing.F) {
	f.Add("a,é,\xc3,\xa9")
	f.Fuzz(func(t *testing.T, text string) {
		c := feature.NewColumn(feature.String, 0)
		var want []int
		for i, s := range strings.Split(text, ",") {
			c.AppendString(s)
			if !utf8.ValidString(s) {
				want = append(want, i)
			}
		}
		if got := slices.Collect(c.InvalidText()); !slices.Equal(got, want) {
			t.Errorf("%q: rows %v, want %v", text, got, want)
		}
	})
}
