package entityfile

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

func TestGuesses(t *testing.T) {
	for cells, want := range map[[3]string]feature.Type{
		{"1", "", "-2"}:                    feature.Int64,
		{"9223372036854775807", "0", "-0"}: feature.Int64,
		{"9223372036854775808", "", ""}:    feature.String,
		{"1", "2.5", "1e3"}:                feature.Double,
		{"NaN", "Inf", "1"}:                feature.Double,
		{"1e999", "1", ""}:                 feature.String,
		{"0.5", "-0.5", "0"}:               feature.Double,
		{"true", "FALSE", ""}:              feature.Bool,
		{"1", "true", ""}:                  feature.String,
		{"007", "1", ""}:                   feature.String,
		{"-007", "", ""}:                   feature.String,
		{"+1", "", ""}:                     feature.String,
		{"0x10", "", ""}:                   feature.String,
		{"1_000", "", ""}:                  feature.String,
		{" 1", "", ""}:                     feature.String,
		{"", "", ""}:                       feature.String,
		{"2013-01-01", "", ""}:             feature.String,
		{"1", "2", "x"}:                    feature.String,
	} {
		var g guess
		for _, cell := range cells {
			g.see(cell)
		}
		require.Equal(t, want, g.result(), "%q", cells)
	}
}

// Columns that nobody named have a type that changes none of their cells.
func TestTypesKeepDigits(t *testing.T) {
	for _, tc := range []struct {
		cells string
		want  feature.Type
	}{
		{"1,-2,", feature.Int64},
		{"9223372036854775807", feature.Int64},
		{"12345678901234567890", feature.String},    // fits only UINT64
		{"-99999999999999999999,1", feature.String}, // an id of 20 digits
		{"12345678901234567890,1.5", feature.String},
		{"1,1.5,-0.25,1e10,NaN,-Inf,0.0", feature.Double},
		{"0.30000000000000004,0.10000000000000001", feature.Double}, // 17 digits, as programs write them
		{"0.1234567890123456789", feature.String},
		{"9007199254740993,0.5", feature.String}, // a whole number that DOUBLE would change
		{"9007199254740992,0.5", feature.Double},
		{"1e400,1", feature.String},
		{"1e-400,1", feature.String},
		{"5e-324,1.7976931348623157e308", feature.Double},
		{"1500000000000000000000000.5e0", feature.String},
		{"1.500000000000000000000000", feature.Double},
		{"007,1", feature.String},
		{"true,FALSE,", feature.Bool},
		{"true,1", feature.String},
		{",", feature.String},
	} {
		r, err := openText(t, "c\n"+strings.ReplaceAll(tc.cells, ",", "\n")+"\n", nil, "")
		require.NoError(t, err, tc.cells)
		require.Equal(t, arrowwire.Field("c", tc.want), r.Schema().Field(0), tc.cells)
		_, err = readAll(t.Context(), r)
		require.NoError(t, err, tc.cells)
	}
}

func TestParseTime(t *testing.T) {
	for text, want := range map[string]string{
		"2013-07-01T12:00:00Z":             "2013-07-01T12:00:00Z",
		"2013-07-01T12:00:00.123456+02:00": "2013-07-01T10:00:00.123456Z",
		"2013-07-01 12:00:00":              "2013-07-01T12:00:00Z",
		"2013-07-01 12:00:00.5":            "2013-07-01T12:00:00.5Z",
		"2013-07-01 12:00:00-05:00":        "2013-07-01T17:00:00Z",
		"2013-07-01 12:00:00 -05:00":       "2013-07-01T17:00:00Z",
		"2013-07-01 12:00:00 UTC":          "2013-07-01T12:00:00Z",
		"2013-07-01 12:00":                 "2013-07-01T12:00:00Z",
		"2013-07-01":                       "2013-07-01T00:00:00Z",
		"0001-01-01T00:00:00Z":             "0001-01-01T00:00:00Z",
		"9999-12-31T23:59:59.9999999Z":     "9999-12-31T23:59:59.9999999Z",
	} {
		got, err := ParseTime(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got.UTC().Format(time.RFC3339Nano), text)
		for first := range timeForms {
			again, form, err := parseTime(text, first)
			require.NoError(t, err)
			require.True(t, got.Equal(again), "whichever form is tried first")
			require.Equal(t, strings.ContainsAny(text[10:], "Z+-U"), timeForms[form].zoned, text)
		}
	}
	for _, text := range []string{"1372680000", "07/01/2013", "2013-07-01 12:00:00 CET", "2013-13-01", "x", "10000-01-01", "-0001-01-01", "2013-02-29", "2013-07-01 24:00:00"} {
		_, err := ParseTime(text)
		require.ErrorContains(t, err, "is not a time; write for example", text)
	}
}

// TestParseTimeIsUTC: a time without a zone is UTC, wherever the program runs.
func TestParseTimeIsUTC(t *testing.T) {
	here := time.Local
	t.Cleanup(func() { time.Local = here })
	time.Local = time.FixedZone("far", 5*60*60)
	for _, text := range []string{"2013-07-01 12:00:00", "2013-07-01T12:00", "2013-07-01 12:00:00Z"} {
		got, err := ParseTime(text)
		require.NoError(t, err, text)
		require.Equal(t, "2013-07-01T12:00:00Z", got.UTC().Format(time.RFC3339), text)
	}
}

// TestCSVCells: what a cell of each type may hold.
func TestCSVCells(t *testing.T) {
	types := map[string]feature.Type{}
	for _, name := range []string{"BOOL", "INT32", "INT64", "FLOAT", "DOUBLE", "STRING", "BYTES", "TIMESTAMP"} {
		types[name], _ = feature.ParseType(name)
	}
	text := "BOOL,INT32,INT64,FLOAT,DOUBLE,STRING,BYTES,TIMESTAMP,guessed\n" +
		",,,,,,,,\n" +
		`"","","","","","","","",""` + "\n" +
		"True, 7 ,-9223372036854775808,0.5,1e300,é\x00,0x00ff,0001-01-01,x\n" +
		"FALSE,-2147483648,007,-Inf,NaN,0x00,\xff,9999-12-31 23:59:59.9999999,\"a\"\"\r\nb, c\"\r\n"
	r, err := openText(t, text, types, "")
	require.NoError(t, err)
	require.EqualValues(t, 4, r.NumRows())
	for range 2 { // it may be read again
		got, err := readAll(t.Context(), r)
		require.NoError(t, err)
		want := [][]any{
			{nil, nil, true, false}, {nil, nil, int32(7), int32(math.MinInt32)}, {nil, nil, int64(math.MinInt64), int64(7)}, {nil, nil, float32(0.5), float32(math.Inf(-1))},
			{nil, nil, 1e300, math.NaN()}, {nil, nil, "é\x00", "0x00"}, {nil, nil, []byte{0, 255}, []byte{255}},
			{nil, nil, time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC).UnixMicro()},
			{nil, nil, "x", "a\"\nb, c"},
		}
		require.Empty(t, cmp.Diff(want, got, cmpopts.EquateNaNs()))
	}
}

// TestCSVErrors: each is refused with one message that says where.
func TestCSVErrors(t *testing.T) {
	const timeColumn = "ts"
	for name, c := range map[string]struct{ text, want string }{
		"empty":               {"", "it is empty; the first line must name the columns"},
		"only a mark":         {"\xef\xbb\xbf", "it is empty"},
		"only line ends":      {"\n\r\n\n", "it is empty"},
		"two of one name":     {"a,b,a\n", `two columns are named "a"`},
		"too few cells":       {"id,ts\n1,2013-01-01\n2\n", "record on line 3: wrong number of fields: it has 1, the first line 2"},
		"too many cells":      {"id,ts\n1,2013-01-01,\n", "record on line 2: wrong number of fields: it has 3, the first line 2"},
		"null time":           {"id,ts\n1,2013-01-01\n\"a\nb\",2013-01-01\n2,\n", `line 5, character 3: column "ts": the time is null; give every row its time`},
		"quoted null time":    {"ts\n\"\"\n", `line 2, character 1: column "ts": the time is null`},
		"no time":             {"id,ts\n1,now\n", `line 2, character 3: column "ts": "now" is not a time; write for example 2013-01-31T15:04:05Z`},
		"year 10000":          {"id,ts\n1,10000-01-01\n", "is not a time"},
		"seconds":             {"id,ts\n1,1372680000\n", `"1372680000" is not a time`},
		"not an int":          {"id,n\n1,1\n2,1.5\n", `line 3, character 3: column "n": "1.5" is not an INT32`},
		"too large an int":    {"id,n\n1,2147483648\n", `"2147483648" is not an INT32`},
		"not a bool":          {"id,b\n1,yes\n", `column "b": "yes" is neither true nor false`},
		"not UTF-8":           {"id,s\n1,caf\xe9\n", `line 2, character 3: column "s": "caf\xe9" is not UTF-8; save the file as UTF-8`},
		"a name not in UTF-8": {"id,caf\xe9\n", `the column name "caf\xe9" is not UTF-8`},
		"a guess not UTF-8":   {"id,x\n1,\xff\n", `column "x": "\xff" is not UTF-8`},
		"UTF-16":              {"\xff\xfei\x00d\x00", "it is not CSV but UTF-16 text; save it as UTF-8"},
		"UTF-16, big endian":  {"\xfe\xff\x00i\x00d", "UTF-16 text"},
		"gzip":                {"\x1f\x8b\x08\x00\x00", "it is not CSV but a gzip file; unpack it"},
		"zstd":                {"\x28\xb5\x2f\xfd\x00", "a zstd file"},
		"a spreadsheet":       {"PK\x03\x04\x00\x00", "a zip file or a spreadsheet"},
		"Parquet":             {"PAR1\x15\x04", "a Parquet file; give that as its format"},
		"Arrow":               {"ARROW1\x00\x00", "an Arrow file; give that as its format"},
		"an open quote":       {"id\n\"x\ny\n", `extraneous or missing " in quoted-field`},
		"a stray quote":       {"id,s\n1,a\"b\n", `bare " in non-quoted-field`},
		"a long row":          {"id\n1\n\"" + strings.Repeat("x\n", csvRowBytes), "the row after line 2 is longer than 16 MiB; is a quote not closed?"},
		"a long name":         {strings.Repeat("x", csvRowBytes+1<<20), "the row after line 0 is longer than 16 MiB"},
		"many columns":        {strings.Repeat(",", csvColumns), "names 100001 columns; at most 100000 are read"},
		"mixed zones":         {"ts\n2013-01-01\n2013-01-02 10:00\n2013-01-03T00:00:00Z\n", `line 4, character 1: column "ts": "2013-01-03T00:00:00Z" has a time zone, but "2013-01-01" on line 2 has none; write all times of a column with one, or all without, which is UTC`},
		"mixed zones again":   {"t,ts\n,2013-01-01\n2013-01-01T00:00:00+01:00,2013-01-01\n2013-01-02,2013-01-01\n", `line 4, character 1: column "t": "2013-01-02" has no time zone, but "2013-01-01T00:00:00+01:00" on line 3 has one`},
	} {
		t.Run(name, func(t *testing.T) {
			types := map[string]feature.Type{"ts": feature.Timestamp, "t": feature.Timestamp, "n": feature.Int32, "b": feature.Bool, "s": feature.String}
			r, err := openText(t, c.text, types, timeColumn)
			if err == nil {
				_, err = readAll(t.Context(), r)
			}
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "entity rows rows.csv: ")
			require.Equal(t, fault.Invalid, fault.KindOf(err))
		})
	}
	_, err := openText(t, "x\n", map[string]feature.Type{"x": feature.Int64.List()}, "")
	require.ErrorContains(t, err, `column "x": CSV holds no INT64_LIST`)
	_, err = openText(t, "x\n", map[string]feature.Type{"x": 200}, "")
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	_, err = openText(t, "x\n1\n", nil, "x")
	require.ErrorContains(t, err, `column "x" is int64, where each row's time must be; write it as a timestamp`)
}

// TestCSVZones: different zones in one column are as they should be, and columns do not mind each other.
func TestCSVZones(t *testing.T) {
	r, err := openText(t, "a,b\n2013-01-01T00:00:00Z,2013-01-01\n2013-01-01 01:00:00+01:00,2013-01-01 00:00\n2013-01-01 00:00:00 UTC,2013-01-01T00:00:00.0\n",
		map[string]feature.Type{"a": feature.Timestamp, "b": feature.Timestamp}, "a")
	require.NoError(t, err)
	got, err := readAll(t.Context(), r)
	require.NoError(t, err)
	at := time.Date(2013, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	require.Equal(t, [][]any{{at, at, at}, {at, at, at}}, got)
}

// TestCSVHeaderOnly: no rows are rows too, of the columns that are named.
func TestCSVHeaderOnly(t *testing.T) {
	for _, text := range []string{"id,ts", "id,ts\n", "\xef\xbb\xbfid,ts\r\n", "\n\nid,ts\n\n"} {
		r, err := openText(t, text, map[string]feature.Type{"ts": feature.Timestamp}, "ts")
		require.NoError(t, err)
		require.Zero(t, r.NumRows())
		require.Equal(t, arrow.NewSchema([]arrow.Field{arrowwire.Field("id", feature.String), arrowwire.Field("ts", feature.Timestamp)}, nil), r.Schema())
		got, err := readAll(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, [][]any{nil, nil}, got)
	}
}

// TestCSVBatches: records are bounded in rows, cells and bytes.
func TestCSVBatches(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []int64
	}{
		"rows":  {"a\n" + strings.Repeat("1\n", csvBatchRows*2+1), []int64{csvBatchRows, csvBatchRows, 1}},
		"cells": {manyColumns(1<<10, 1<<10+1), []int64{1 << 10, 1}},
		"bytes": {"a\n" + strings.Repeat(strings.Repeat("x", csvBatchBytes/2)+"\n", 3), []int64{2, 1}},
	} {
		r, err := openText(t, c.text, nil, "")
		require.NoError(t, err, name)
		var got []int64
		require.NoError(t, r.Each(t.Context(), func(record arrow.RecordBatch) error {
			got = append(got, record.NumRows())
			return nil
		}))
		require.Equal(t, c.want, got, name)
	}
}

// manyColumns writes rows of empty cells.
func manyColumns(columns, rows int) string {
	header := make([]string, columns)
	for i := range header {
		header[i] = strconv.Itoa(i)
	}
	return strings.Join(header, ",") + "\n" + strings.Repeat(strings.Repeat(",", columns-1)+"\n", rows)
}

// FuzzCSV: entity rows in CSV are refused, or read with as many rows and columns as encoding/csv finds; what was read, written and read again, is the
// same. Nothing panics.
func FuzzCSV(f *testing.F) {
	for _, text := range []string{
		"a,b\n1,2\n", "\xef\xbb\xbfa\ntrue\n\"x\ny\"\n", "a,event_timestamp\n007,2013-01-01\n,\n", "a\n\"\n", "a,event_timestamp\r\n1.5,2013-01-01T00:00:00Z\r\n-0,2013-01-01\r\n",
		"event_timestamp\n0001-01-01T00:00:00.000001+14:00\n9999-12-31 23:59:59 UTC\n", "a,a\n", "a,,\"\"\n", "é,\xff\n\xfe,\x00\n", "a\nNaN\n-Inf\n1e-400\n", "a,b\n1\n", "b\n0x0g\n\"0xff\"\n",
		"\xff\xfe", "a\n\"\"\n\"\"\n", "b\r\r\n\"\r\n\"\r\n",
	} {
		f.Add(text)
	}
	types := map[string]feature.Type{"event_timestamp": feature.Timestamp, "b": feature.Bytes, "f": feature.Float, "i": feature.Int32}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := openText(t, text, types, "event_timestamp")
		if err != nil {
			require.Equal(t, fault.Invalid, fault.KindOf(err), err)
			return
		}
		read, err := readAll(context.Background(), r)
		if err != nil {
			require.Equal(t, fault.Invalid, fault.KindOf(err), err)
			return
		}
		records, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix([]byte(text), []byte("\xef\xbb\xbf")))).ReadAll()
		require.NoError(t, err)
		require.Equal(t, []int64{int64(len(records) - 1), int64(len(records[0]))}, []int64{r.NumRows(), int64(len(read))})
		require.Len(t, read[0], len(records)-1)
		if strings.Contains(text, "\r") {
			return // encoding/csv drops some of them
		}
		if len(read) == 1 {
			for _, cell := range read[0] {
				if cell == nil {
					return // a line without anything is no row
				}
			}
		}

		for _, column := range read {
			for _, cell := range column {
				if v, ok := cell.(int64); ok && time.UnixMicro(v).UTC().Year() > 9999 {
					return // a zone has moved it to a year that cannot be written
				}
			}
		}
		again, err := openText(t, writeCSV(t, r.Schema(), read), typesOf(t, r.Schema()), "event_timestamp")
		require.NoError(t, err)
		reread, err := readAll(context.Background(), again)
		require.NoError(t, err)
		if diff := cmp.Diff(read, reread, cmpopts.EquateNaNs()); diff != "" || !again.Schema().Equal(r.Schema()) {
			t.Error(again.Schema(), diff)
		}
	})
}

// typesOf gives the type of each column.
func typesOf(t *testing.T, schema *arrow.Schema) map[string]feature.Type {
	types := map[string]feature.Type{}
	for _, f := range schema.Fields() {
		var err error
		types[f.Name], err = arrowwire.TypeOf(f.Type)
		require.NoError(t, err)
	}
	return types
}

// writeCSV writes rows so that each value can be told.
func writeCSV(t *testing.T, schema *arrow.Schema, columns [][]any) string {
	types := typesOf(t, schema)
	var out strings.Builder
	w := csv.NewWriter(&out)
	var names []string
	for _, f := range schema.Fields() {
		names = append(names, f.Name)
	}
	if len(names) == 1 && names[0] == "" {
		out.WriteString("\"\"\n") // csv.Writer would write a line that is no row
	} else {
		require.NoError(t, w.Write(names))
	}
	for row := range columns[0] {
		cells := make([]string, len(columns))
		for i, c := range columns {
			switch v := c[row].(type) {
			case nil:
			case bool:
				cells[i] = strconv.FormatBool(v)
			case int32:
				cells[i] = strconv.FormatInt(int64(v), 10)
			case int64:
				cells[i] = strconv.FormatInt(v, 10)
				if types[names[i]] == feature.Timestamp {
					cells[i] = time.UnixMicro(v).UTC().Format(time.RFC3339Nano)
				}
			case float32:
				cells[i] = strconv.FormatFloat(float64(v), 'g', -1, 32)
			case float64:
				cells[i] = strconv.FormatFloat(v, 'g', -1, 64)
			case []byte:
				cells[i] = "0x" + hex.EncodeToString(v)
			case string:
				cells[i] = v
			}
		}
		require.NoError(t, w.Write(cells))
	}
	w.Flush()
	return out.String()
}
