package workload

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

var (
	checked       = Data{Seed: 3, Entities: 50, BaseMicros: 1_700_000_000_000_000}
	checkedLayout = Layout{2, 9}
)

// checkedRequest asks for every entity and for one that is missing.
func checkedRequest(t testing.TB) Request {
	t.Helper()
	entities := []int{checked.Missing()}
	for e := range checked.Entities {
		entities = append(entities, e)
	}
	r, err := NewRequest(checkedLayout, entities)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rightResponse returns the right answer.
func rightResponse(r Request) *twofoldv1.GetOnlineFeaturesResponse {
	keys := make([]int64, len(r.Entities))
	for i, e := range r.Entities {
		keys[i] = int64(e)
	}
	m := &twofoldv1.GetOnlineFeaturesResponse{Columns: []*twofoldv1.Column{{Name: KeyName, Values: &twofoldv1.Column_Int64S{Int64S: &twofoldv1.Int64Array{Values: keys}}}}}
	for v := range checkedLayout.Views {
		for f := range checkedLayout.Features {
			c := &twofoldv1.Column{Name: checkedLayout.View(v) + ":" + checkedLayout.Feature(f)}
			values := make([]float64, len(r.Entities))
			for i, e := range r.Entities {
				status := twofoldv1.ValueStatus_VALUE_STATUS_NOT_FOUND
				if e < checked.Entities {
					var null bool
					status = twofoldv1.ValueStatus_VALUE_STATUS_PRESENT
					if values[i], null = checked.Value(checkedLayout, v, f, e); null {
						status = twofoldv1.ValueStatus_VALUE_STATUS_NULL
					}
				}
				c.Statuses = append(c.Statuses, status)
			}
			c.Values = &twofoldv1.Column_Doubles{Doubles: &twofoldv1.DoubleArray{Values: values}}
			m.Columns = append(m.Columns, c)
		}
	}
	return m
}

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCheckResponse makes one thing wrong at a time in a right answer.
func TestCheckResponse(t *testing.T) {
	r := checkedRequest(t)
	type response = twofoldv1.GetOnlineFeaturesResponse
	for _, c := range []struct {
		name, want string
		spoil      func(m *response)
	}{
		{"right", "", func(*response) {}},
		{"one value", "was written as", func(m *response) { m.Columns[5].GetDoubles().Values[7] += 1e-9 }},
		{"values of another row", "was written as", func(m *response) {
			values := m.Columns[5].GetDoubles().Values
			values[7], values[8] = values[8], values[7]
		}},
		{"−0 for 0", "was written as", func(m *response) { m.Columns[1].GetDoubles().Values[0] = math.Copysign(0, -1) }},
		{"a status", "was written as", func(m *response) { m.Columns[5].Statuses[0] = twofoldv1.ValueStatus_VALUE_STATUS_PRESENT }},
		{"expired", "was written as", func(m *response) { m.Columns[5].Statuses[9] = twofoldv1.ValueStatus_VALUE_STATUS_EXPIRED }},
		{"a column's name", "should be", func(m *response) { m.Columns[5].Name = m.Columns[6].Name }},
		{"columns changed about", "should be", func(m *response) { m.Columns[5], m.Columns[6] = m.Columns[6], m.Columns[5] }},
		{"a column too few", "columns where", func(m *response) { m.Columns = m.Columns[:len(m.Columns)-1] }},
		{"a row too few", "should be", func(m *response) {
			values := m.Columns[5].GetDoubles()
			values.Values = values.Values[1:]
		}},
		{"no statuses", "should be", func(m *response) { m.Columns[5].Statuses = nil }},
		{"another type", "should be", func(m *response) { m.Columns[5].Values = &twofoldv1.Column_Floats{} }},
		{"an entity", "asked for as", func(m *response) { m.Columns[0].GetInt64S().Values[3]++ }},
		{"the key's name", "the first column", func(m *response) { m.Columns[0].Name = "id" }},
	} {
		m := rightResponse(r)
		c.spoil(m)
		expect(t, c.name, c.want, checked.CheckResponse(checkedLayout, r, encode(t, m)))
	}
	expect(t, "no message", "decode the answer", checked.CheckResponse(checkedLayout, r, []byte{0xff}))
}

func expect(t *testing.T, name, want string, err error) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: got error %v, want %q", name, err, want)
	}
}

// rightRow returns the stored row of an entity in a view.
func rightRow(view, entity int) *twofoldv1.StoredRow {
	row := &twofoldv1.StoredRow{EventTimeMicros: checked.EventTimeMicros(checkedLayout, view, entity), SchemaFingerprint: 1}
	for f := range checkedLayout.Features {
		value, null := checked.Value(checkedLayout, view, f, entity)
		if null {
			for len(row.Nulls) <= f/8 {
				row.Nulls = append(row.Nulls, 0)
			}
			row.Nulls[f/8] |= 1 << (f % 8)
		}
		row.Slots = append(row.Slots, math.Float64bits(value))
	}
	return row
}

func TestCheckRaw(t *testing.T) {
	r := checkedRequest(t)
	right := func() [][]byte {
		var rows [][]byte
		for _, e := range r.Entities {
			for v := range checkedLayout.Views {
				if e >= checked.Entities {
					rows = append(rows, nil)
				} else {
					rows = append(rows, encode(t, rightRow(v, e)))
				}
			}
		}
		return rows
	}
	spoilt := func(spoil func(*twofoldv1.StoredRow)) []byte {
		row := rightRow(0, 4)
		spoil(row)
		return encode(t, row)
	}
	const place = 2 * 5 // view 0 of entity 4
	for _, c := range []struct {
		name, want string
		spoil      func(rows [][]byte) [][]byte
	}{
		{"right", "", func(rows [][]byte) [][]byte { return rows }},
		{"a row too few", "stored rows where", func(rows [][]byte) [][]byte { return rows[1:] }},
		{"two rows changed about", "slots and event time", func(rows [][]byte) [][]byte {
			rows[place], rows[place+2] = rows[place+2], rows[place]
			return rows
		}},
		{"a missing row that is there", "should be missing: true", func(rows [][]byte) [][]byte { rows[0] = rows[4]; return rows }},
		{"a row that is missing", "should be missing: false", func(rows [][]byte) [][]byte { rows[place] = nil; return rows }},
		{"no row", "decode the stored row", func(rows [][]byte) [][]byte { rows[place] = []byte{0xff}; return rows }},
		{"a value", "was written as", func(rows [][]byte) [][]byte {
			rows[place] = spoilt(func(row *twofoldv1.StoredRow) { row.Slots[8] ^= 1 })
			return rows
		}},
		{"a null", "was written as", func(rows [][]byte) [][]byte {
			rows[place] = spoilt(func(row *twofoldv1.StoredRow) { row.Nulls = []byte{0xff, 0xff} })
			return rows
		}},
	} {
		expect(t, c.name, c.want, checked.CheckRaw(checkedLayout, r, encode(t, &twofoldv1.BytesArray{Values: c.spoil(right())})))
	}
	expect(t, "no message", "decode the answer", checked.CheckRaw(checkedLayout, r, []byte{0xff}))
}

// FuzzCheck reads any bytes as an answer: it must not panic, and only the right answer passes.
func FuzzCheck(f *testing.F) {
	r := checkedRequest(f)
	f.Add(encode(f, rightResponse(r)))
	f.Add(encode(f, &twofoldv1.BytesArray{Values: [][]byte{nil, encode(f, rightRow(0, 0))}}))
	f.Fuzz(func(t *testing.T, body []byte) {
		m := &twofoldv1.GetOnlineFeaturesResponse{}
		if checked.CheckResponse(checkedLayout, r, body) == nil {
			if err := proto.Unmarshal(body, m); err != nil || !proto.Equal(&twofoldv1.GetOnlineFeaturesResponse{Columns: m.Columns}, rightResponse(r)) {
				t.Errorf("a wrong answer passed")
			}
		}
		_ = checked.CheckRaw(checkedLayout, r, body) // does not panic
	})
}
