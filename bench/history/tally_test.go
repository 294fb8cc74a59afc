package main

import (
	"strings"
	"testing"
)

// rowsOf tallies rows of a number, a double and a string, batch rows at a time; a nil is null.
func rowsOf(batch int, rows ...[3]any) *tally {
	t := &tally{Columns: []columnTally{{Name: "n"}, {Name: "d"}, {Name: "s"}}}
	for from := 0; from < len(rows); from += batch {
		part := rows[from:min(from+batch, len(rows))]
		t.start(len(part))
		numbers, doubles, texts := make([]int64, len(part)), make([]float64, len(part)), make([]string, len(part))
		// Bitmaps that do not begin with their first bit, as those of Arrow slices.
		const offset = 3
		var valid [3]validity
		for c := range valid {
			valid[c] = validity{bits: make([]byte, len(part)/8+2), offset: offset}
			for i, row := range part {
				if row[c] != nil {
					valid[c].bits[(i+offset)/8] |= 1 << ((i + offset) % 8)
				}
			}
		}
		for i, row := range part {
			if v, ok := row[0].(int); ok {
				numbers[i] = int64(v)
			}
			if v, ok := row[1].(float64); ok {
				doubles[i] = v
			}
			if v, ok := row[2].(string); ok {
				texts[i] = v
			}
		}
		t.int64s(0, numbers, valid[0])
		t.doubles(1, doubles, valid[1])
		t.strings(2, func(i int) string { return texts[i] }, valid[2])
		t.finish()
	}
	return t
}

func TestTally(t *testing.T) {
	a, b, c := [3]any{1, 1.5, "one"}, [3]any{2, nil, "two"}, [3]any{nil, 3.25, nil}
	want := rowsOf(2, a, b, c)
	if want.Rows != 3 || want.Columns[1] != (columnTally{"d", 1, 4.75}) || want.Columns[2] != (columnTally{"s", 1, 6}) {
		t.Errorf("got %+v", want)
	}
	if d := rowsOf(1, c, b, a).differences(want); d != "" {
		t.Errorf("the same rows in another order: %s", d)
	}
	for name, other := range map[string]*tally{
		"a row less":         rowsOf(2, a, b),
		"a row twice":        rowsOf(2, a, b, b),
		"null and zero":      rowsOf(2, a, [3]any{2, 0.0, "two"}, c),
		"null and empty":     rowsOf(2, a, b, [3]any{nil, 3.25, ""}),
		"values exchanged":   rowsOf(2, [3]any{2, 1.5, "one"}, [3]any{1, nil, "two"}, c),
		"another last digit": rowsOf(2, [3]any{1, 1.5000000000000002, "one"}, b, c),
		"another string":     rowsOf(2, [3]any{1, 1.5, "eno"}, b, c),
		"another sign":       rowsOf(2, [3]any{-1, 1.5, "one"}, b, c),
	} {
		if d := other.differences(want); d == "" {
			t.Errorf("%s is not seen", name)
		}
	}
	fewer := &tally{Rows: 3, Content: want.Content, Columns: want.Columns[:2]}
	if d := fewer.differences(want); !strings.Contains(d, "2 columns, not 3") {
		t.Errorf("got %q", d)
	}
}
