package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

func TestCSVTypes(t *testing.T) {
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

func TestTimesInCSV(t *testing.T) {
	for text, want := range map[string]string{
		"2013-07-01T12:00:00Z":             "2013-07-01T12:00:00Z",
		"2013-07-01T12:00:00.123456+02:00": "2013-07-01T10:00:00.123456Z",
		"2013-07-01 12:00:00":              "2013-07-01T12:00:00Z",
		"2013-07-01 12:00:00.5":            "2013-07-01T12:00:00.5Z",
		"2013-07-01 12:00:00-05:00":        "2013-07-01T17:00:00Z",
		"2013-07-01 12:00:00 UTC":          "2013-07-01T12:00:00Z",
		"2013-07-01 12:00":                 "2013-07-01T12:00:00Z",
		"2013-07-01":                       "2013-07-01T00:00:00Z",
	} {
		got, err := parseTime(text)
		require.NoError(t, err, text)
		require.Equal(t, want, formatTime(got.UnixMicro()), text)
	}
	for _, text := range []string{"1372680000", "07/01/2013", "2013-07-01 12:00:00 CET", "2013-13-01", "x"} {
		_, err := parseTime(text)
		require.ErrorContains(t, err, "is not a time; write for example", text)
	}
}

// TestTimesInCSVAreUTC: a time without a zone is UTC, wherever the program runs.
func TestTimesInCSVAreUTC(t *testing.T) {
	here := time.Local
	t.Cleanup(func() { time.Local = here })
	time.Local = time.FixedZone("far", 5*60*60)
	for _, text := range []string{"2013-07-01 12:00:00", "2013-07-01T12:00", "2013-07-01 12:00:00Z"} {
		got, err := parseTime(text)
		require.NoError(t, err, text)
		require.Equal(t, "2013-07-01T12:00:00Z", formatTime(got.UnixMicro()), text)
	}
}

// TestEmptyCellsAreNull, in columns of every type.
func TestEmptyCellsAreNull(t *testing.T) {
	types := map[string]feature.Type{}
	for _, name := range []string{"BOOL", "INT32", "INT64", "FLOAT", "DOUBLE", "STRING", "BYTES", "TIMESTAMP"} {
		types[name], _ = feature.ParseType(name)
	}
	types["guessed"] = 0
	names := slices.Sorted(maps.Keys(types))
	delete(types, "guessed")
	file, err := os.Open(writeFile(t, "rows.csv", strings.Join(names, ",")+"\n"+strings.Repeat(",", len(names)-1)+"\n"))
	require.NoError(t, err)
	defer file.Close()
	rows, err := openCSV(file, types, "")
	require.NoError(t, err)
	require.NoError(t, rows.each(t.Context(), func(r arrow.RecordBatch) error {
		require.EqualValues(t, 1, r.NumRows())
		for i, name := range names {
			require.True(t, r.Column(i).IsNull(0), name)
		}
		return nil
	}))
}

// TestExitCodes: a script tells by the code whether to mend the command line, to try again or to look at what it asked for.
func TestExitCodes(t *testing.T) {
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	call := func(code codes.Code) error { return callError{"here", status.Error(code, "x")} }
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{t.Context(), usageError{nil, errors.New("x")}, exitUsage},
		{t.Context(), configError{errors.New("x")}, exitUsage},
		{t.Context(), errors.New(`unknown command "x"`), exitUsage},
		{t.Context(), call(codes.Unavailable), exitUnavailable},
		{t.Context(), call(codes.DeadlineExceeded), exitUnavailable},
		{t.Context(), fmt.Errorf("y: %w", fault.New(fault.Unavailable, "x")), exitUnavailable},
		{t.Context(), fmt.Errorf("y: %w", context.DeadlineExceeded), exitUnavailable},
		{t.Context(), call(codes.InvalidArgument), exitFailure},
		{t.Context(), call(codes.DataLoss), exitFailure},
		{t.Context(), call(codes.Canceled), exitFailure},
		{t.Context(), fault.New(fault.Corrupt, "x"), exitFailure},
		{t.Context(), errors.New("x"), exitFailure},
		{interrupted, call(codes.Canceled), exitInterrupted},
		{interrupted, fmt.Errorf("y: %w", context.Canceled), exitInterrupted},
		{interrupted, errors.New("x"), exitFailure},
	} {
		require.Equal(t, c.want, exitCode(c.ctx, c.err), "%v, interrupted %v", c.err, c.ctx.Err() != nil)
	}
}

// TestOutputsThatCannotBeWritten: what stays in the buffer until the end fails there, and a file that failed does not appear.
func TestOutputsThatCannotBeWritten(t *testing.T) {
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, errors.Join(reader.Close(), writer.Close()))
	out, err := (&app{out: writer}).createOutput("-")
	require.NoError(t, err)
	_, err = out.Write([]byte("x"))
	require.NoError(t, err)
	require.ErrorIs(t, out.commit(), os.ErrClosed)

	dir := t.TempDir()
	out, err = (&app{}).createOutput(filepath.Join(dir, "x.csv"))
	require.NoError(t, err)
	_, err = out.Write([]byte("x"))
	require.NoError(t, err)
	require.NoError(t, out.file.Close())
	require.ErrorIs(t, out.commit(), os.ErrClosed)
	out.abandon()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestKeyArgs(t *testing.T) {
	types := []feature.Key{{Name: "user", Type: feature.Int64}, {Name: "item", Type: feature.String}, {Name: "raw", Type: feature.Bytes}, {Name: "small", Type: feature.Int32}}
	k, err := parseKeyArgs([]string{"user=1,-2", `item="a,b"`, "item=", "raw=0x00ff", "small=7"})
	require.NoError(t, err)
	columns, err := k.columns(types)
	require.NoError(t, err)
	require.Equal(t, []int64{1, -2}, columns[0].GetInt64S().GetValues())
	require.Equal(t, []string{"a,b", ""}, columns[1].GetStrings().GetValues())
	require.Equal(t, [][]byte{{0, 255}, {0, 255}}, columns[2].GetBinaries().GetValues())
	require.Equal(t, []int32{7, 7}, columns[3].GetInt32S().GetValues())

	for want, args := range map[string][]string{
		"is not an entity key; write key=value":                           {"=1"},
		"has 2 values where another key has 3":                            {"user=1,2,3", "item=a,b", "raw=x", "small=1"},
		"item, raw, small not given; these features need user=INT64 item": {"user=1"},
		`"x" is not an entity key of these features`:                      {"x=1"},
		`user: "a" is not an INT64`:                                       {"user=a", "item=a", "raw=x", "small=1"},
		`small: "3000000000" is not an INT32`:                             {"user=1", "item=a", "raw=x", "small=3000000000"},
		`raw: "0xg" is not hexadecimal after 0x`:                          {"user=1", "item=a", "raw=0xg", "small=1"},
		`item: column "item"`:                                             {"user=1", "item=\xff", "raw=x", "small=1"},
	} {
		k, err := parseKeyArgs(args)
		if err == nil {
			_, err = k.columns(types)
		}
		require.ErrorContains(t, err, want)
	}
}

func TestFormatValues(t *testing.T) {
	double := feature.NewColumn(feature.Double, 0)
	double.AppendDouble(math.NaN())
	double.AppendDouble(0.1)
	require.Equal(t, "NaN", formatPresent(double, 0))
	require.Equal(t, "NaN", jsonValue(double, 0))
	require.Equal(t, "0.1", formatPresent(double, 1))
	double.AppendDouble(17.261699999999998) // every digit is needed to give it back
	require.Equal(t, "17.261699999999998", formatPresent(double, 2))
	float := feature.NewColumn(feature.Float, 0)
	float.AppendFloat(0.1)
	require.Equal(t, "0.1", formatPresent(float, 0))
	times := feature.NewColumn(feature.Timestamp.List(), 0)
	times.AppendList(func(c *feature.Column) { c.Int64s = append(c.Int64s, 1500000) })
	require.Equal(t, `["1970-01-01T00:00:01.5Z"]`, formatPresent(times, 0))
	text := feature.NewColumn(feature.String, 0)
	text.AppendString("a\x1b[31m\nb")
	text.AppendMissing(feature.Expired)
	require.Equal(t, "a\ufffd[31m\ufffdb", cell(text, 0), "no control character reaches a terminal")
	require.Equal(t, "(EXPIRED)", cell(text, 1))
	require.Nil(t, jsonValue(text, 1))
	raw := feature.NewColumn(feature.Bytes, 0)
	raw.AppendBytes([]byte{0, 255})
	require.Equal(t, "0x00ff", formatPresent(raw, 0))
	require.Equal(t, "AP8=", jsonValue(raw, 0))
}

// FuzzCSV: entity rows in CSV are refused or read with as many rows and columns as encoding/csv finds, and never panic.
func FuzzCSV(f *testing.F) {
	f.Add("a,b\n1,2\n")
	f.Add("\xef\xbb\xbfa\ntrue\n\"x\ny\"\n")
	f.Add("a,event_timestamp\n007,2013-01-01\n,\n")
	f.Add("a\n\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "rows.csv")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		file, err := os.Open(path)
		require.NoError(t, err)
		defer file.Close()
		rows, err := openCSV(file, map[string]feature.Type{"event_timestamp": feature.Timestamp}, "event_timestamp")
		if err != nil {
			return
		}
		var count int64
		err = rows.each(context.Background(), func(r arrow.RecordBatch) error {
			count += r.NumRows()
			return nil
		})
		if err != nil {
			return
		}
		records, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix([]byte(text), []byte("\xef\xbb\xbf")))).ReadAll()
		require.NoError(t, err)
		if diff := cmp.Diff([]int64{int64(len(records) - 1), int64(len(records) - 1), int64(len(records[0]))}, []int64{count, rows.rows, int64(rows.schema.NumFields())}); diff != "" {
			t.Error(diff)
		}
	})
}

// Columns that nobody named have a type that changes none of their cells.
func TestCSVTypesKeepDigits(t *testing.T) {
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
		rows, err := openCSV(csvFile(t, "c\n"+strings.ReplaceAll(tc.cells, ",", "\n")+"\n"), nil, "")
		require.NoError(t, err, tc.cells)
		require.Equal(t, arrowwire.Field("c", tc.want), rows.schema.Field(0), tc.cells)
		require.NoError(t, rows.each(t.Context(), func(arrow.RecordBatch) error { return nil }), tc.cells)
	}
}

func csvFile(t *testing.T, text string) *os.File {
	t.Helper()
	file, err := os.Open(writeFile(t, "rows.csv", text))
	require.NoError(t, err)
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// FuzzKeyArgs: any arguments are refused, or make columns of one length.
func FuzzKeyArgs(f *testing.F) {
	f.Add("user=1,2", `item="a,b",c`)
	f.Add("user=\n", "item=\r\n")
	f.Add("user==", "=item")
	f.Fuzz(func(t *testing.T, a, b string) {
		k, err := parseKeyArgs([]string{a, b})
		if err != nil {
			return
		}
		columns, err := k.columns([]feature.Key{{Name: "user", Type: feature.Int64}, {Name: "item", Type: feature.String}})
		if err == nil {
			require.Len(t, columns, 2)
			require.Len(t, columns[0].GetStatuses(), len(columns[1].GetStatuses()))
		}
	})
}
