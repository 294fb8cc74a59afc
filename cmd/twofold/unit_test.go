package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
)

func TestCSVTypes(t *testing.T) {
	for cells, want := range map[[3]string]feature.Type{
		{"1", "", "-2"}:                    feature.Int64,
		{"9223372036854775807", "0", "-0"}: feature.Int64,
		{"9223372036854775808", "", ""}:    feature.Double,
		{"1", "2.5", "1e3"}:                feature.Double,
		{"NaN", "Inf", "1"}:                feature.Double,
		{"1e999", "1", ""}:                 feature.Double,
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
		rows, err := openCSV(file, map[string]feature.Type{"event_timestamp": feature.Timestamp})
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
