package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/server/servertest"
)

// anExpectation is of one entity, with an answer that is as expected: a value, an integer, a time, a null and an expired feature.
func anExpectation(t *testing.T) (onlineExpectation, *answer) {
	t.Helper()
	at := time.Date(2013, 12, 30, 20, 52, 0, 0, time.UTC)
	value := func(status, text string) featureExpectation { return featureExpectation{status, json.RawMessage(text)} }
	e := onlineExpectation{
		Keys:       map[string]string{"origin": "EWR"},
		EventTimes: map[string]*time.Time{"v": &at, "w": nil},
		Features: map[string]featureExpectation{
			"v:temp": value("PRESENT", "340.0"), "v:n": value("PRESENT", "1990"), "v:at": value("PRESENT", "1388436720000000"),
			"v:gust": value("NULL", "null"), "v:old": value("EXPIRED", "null"),
		},
	}
	a := &answer{keys: 1, rows: 1}
	add := func(name string, kind feature.Type, fill func(c *feature.Column)) {
		c := feature.NewColumn(kind, 1)
		fill(c)
		a.names, a.columns = append(a.names, name), append(a.columns, c)
	}
	add("origin", feature.String, func(c *feature.Column) { c.AppendString("EWR") })
	add("v:temp", feature.Double, func(c *feature.Column) { c.AppendDouble(340) })
	add("v:n", feature.Int32, func(c *feature.Column) { c.AppendInt32(1990) })
	add("v:at", feature.Timestamp, func(c *feature.Column) { c.AppendInt64(at.UnixMicro()) })
	add("v:gust", feature.Double, func(c *feature.Column) { c.AppendMissing(feature.Null) })
	add("v:old", feature.Double, func(c *feature.Column) { c.AppendMissing(feature.Expired) })
	return e, a
}

// TestExpectationsAreCompared: each way in which an answer can differ fails `demo --exit`.
func TestExpectationsAreCompared(t *testing.T) {
	e, a := anExpectation(t)
	require.NoError(t, e.check(a, 0))
	for name, change := range map[string]func(a *answer){
		"value":          func(a *answer) { a.columns[1].Doubles[0] = 340.1 },
		"integer":        func(a *answer) { a.columns[2].Int32s[0]++ },
		"time":           func(a *answer) { a.columns[3].Int64s[0]++ },
		"status":         func(a *answer) { a.columns[5].Status[0] = feature.NotFound },
		"zero for null":  func(a *answer) { a.columns[4].Status[0] = feature.Present },
		"feature gone":   func(a *answer) { a.names, a.columns = a.names[:5], a.columns[:5] },
		"feature beside": func(a *answer) { a.names, a.columns = append(a.names, "v:x"), append(a.columns, a.columns[5]) },
		"other name":     func(a *answer) { a.names[5] = "v:x" },
	} {
		e, a := anExpectation(t)
		change(a)
		require.Error(t, e.check(a, 0), name)
	}
}

// TestExpectationsOfPrintedAnswersAreCompared is the same of what `get -o json` prints.
func TestExpectationsOfPrintedAnswersAreCompared(t *testing.T) {
	printed := func() answerRowJSON {
		return answerRowJSON{
			Entity:   map[string]any{"origin": "EWR"},
			Features: map[string]any{"v:temp": 340., "v:n": 1990., "v:at": "2013-12-30T20:52:00Z", "v:gust": nil, "v:old": nil},
			Status:   map[string]string{"v:gust": "NULL", "v:old": "EXPIRED"}, EventTimes: map[string]string{"v": "2013-12-30T20:52:00Z"},
		}
	}
	e, _ := anExpectation(t)
	require.NoError(t, e.checkJSON(printed()))
	for name, change := range map[string]func(r *answerRowJSON){
		"value":              func(r *answerRowJSON) { r.Features["v:temp"] = 340.1 },
		"time":               func(r *answerRowJSON) { r.Features["v:at"] = "2013-12-30T20:52:00.000001Z" },
		"null":               func(r *answerRowJSON) { r.Features["v:gust"] = 0. },
		"status":             func(r *answerRowJSON) { r.Status["v:old"] = "NOT_FOUND" },
		"no status":          func(r *answerRowJSON) { delete(r.Status, "v:old") },
		"feature gone":       func(r *answerRowJSON) { delete(r.Features, "v:n") },
		"other feature":      func(r *answerRowJSON) { delete(r.Features, "v:n"); r.Features["v:x"] = 1990. },
		"event time":         func(r *answerRowJSON) { r.EventTimes["v"] = "2013-12-30T20:52:01Z" },
		"no event time":      func(r *answerRowJSON) { delete(r.EventTimes, "v") },
		"event time of none": func(r *answerRowJSON) { r.EventTimes["w"] = "2013-12-30T20:52:00Z" },
		"entity":             func(r *answerRowJSON) { r.Entity["origin"] = "JFK" },
	} {
		row := printed()
		change(&row)
		require.Error(t, e.checkJSON(row), name)
	}
}

// TestTrainingExpectationsAreCompared writes the digest down by hand, in the form that make_expected.py has.
func TestTrainingExpectationsAreCompared(t *testing.T) {
	digest := sha256.New()
	digest.Write(binary.LittleEndian.AppendUint64([]byte{1}, math.Float64bits(1.5)))
	digest.Write([]byte{0})
	digest.Write(binary.LittleEndian.AppendUint64([]byte{1}, math.Float64bits(-2)))
	want := trainingExpectation{Rows: 3, Columns: map[string]columnExpectation{"v:x": {Present: 2, SHA256: hex.EncodeToString(digest.Sum(nil))}}}
	check := func(name string, values ...any) error {
		path := filepath.Join(t.TempDir(), "training.parquet")
		new(servertest.Table).Add(name, feature.Double, values...).WriteParquet(t, path)
		rows, err := want.check(t.Context(), &app{}, path)
		if err == nil {
			require.EqualValues(t, 3, rows)
		}
		return err
	}
	require.NoError(t, check("v:x", 1.5, nil, -2.))
	require.ErrorContains(t, check("v:x", 1.5, nil, -2.5), "digest")
	require.ErrorContains(t, check("v:x", 1.5, -2., nil), "digest", "the same values in other rows")
	require.ErrorContains(t, check("v:x", 1.5, 0., -2.), "3 values")
	require.ErrorContains(t, check("v:x", 1.5, nil), "2 rows")
	require.ErrorContains(t, check("v:x", 1.5, nil, -2., nil), "4 rows")
	require.ErrorContains(t, check("v:y", 1.5, nil, -2.), "no column v:x")
}
