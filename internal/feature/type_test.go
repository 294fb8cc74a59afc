package feature

import "testing"

func allTypes() []Type {
	var types []Type
	for t := Bool; t <= TimestampList; t++ {
		types = append(types, t)
	}
	return types
}

func TestTypeNames(t *testing.T) {
	seen := map[string]bool{}
	for _, typ := range allTypes() {
		back, ok := ParseType(typ.String())
		if !ok || back != typ || seen[typ.String()] {
			t.Errorf("%d is %q, which is read as %v, %v", typ, typ, back, ok)
		}
		seen[typ.String()] = true
	}
	for _, name := range []string{"", "UNSPECIFIED", "string", "STRING ", "LIST"} {
		if typ, ok := ParseType(name); ok {
			t.Errorf("%q is read as %v", name, typ)
		}
	}
	if got := Type(99).String(); got != "Type(99)" {
		t.Errorf("type 99 is %q", got)
	}
}

func TestTypeLists(t *testing.T) {
	for _, typ := range allTypes() {
		if !typ.Valid() {
			t.Errorf("%v is not valid", typ)
		}
		if typ.IsList() {
			if typ.Elem().IsList() || typ.Elem().List() != typ || typ.String() != typ.Elem().String()+"_LIST" {
				t.Errorf("%v is a list of %v", typ, typ.Elem())
			}
		} else if typ.Elem() != typ || typ.List().Elem() != typ {
			t.Errorf("the list of %v is %v", typ, typ.List())
		}
	}
	for _, bad := range []Type{0, TimestampList + 1, 255} {
		if bad.Valid() || bad.IsList() {
			t.Errorf("%d is a type", bad)
		}
	}
	for _, bad := range []Type{0, BoolList, TimestampList} {
		wantPanic(t, func() { bad.List() })
	}
}

func TestTypeWidths(t *testing.T) {
	want := map[Type]int{Bool: 1, Int32: 4, Float: 4, Int64: 8, Double: 8, Timestamp: 8}
	for _, typ := range allTypes() {
		if typ.Width() != want[typ] {
			t.Errorf("%v is %d bytes wide, want %d", typ, typ.Width(), want[typ])
		}
	}
}

func TestStatusNames(t *testing.T) {
	want := map[Status]string{0: "UNSPECIFIED", Present: "PRESENT", Null: "NULL", NotFound: "NOT_FOUND", Expired: "EXPIRED", 9: "Status(9)"}
	for s, name := range want {
		if s.String() != name {
			t.Errorf("status %d is %q, want %q", s, s, name)
		}
	}
}

func wantPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	f()
}
