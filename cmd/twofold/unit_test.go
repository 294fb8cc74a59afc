package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
)

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
	out, err := (&app{out: writer}).createOutput(t.Context(), "-", offline.S3Config{}, offline.CreateOptions{})
	require.NoError(t, err)
	_, err = out.Write([]byte("x"))
	require.NoError(t, err)
	require.ErrorIs(t, out.commit(t.Context()), os.ErrClosed)

	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	out, err = (&app{}).createOutput(ctx, filepath.Join(dir, "x.csv"), offline.S3Config{}, offline.CreateOptions{})
	require.NoError(t, err)
	_, err = out.Write([]byte("x"))
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, out.commit(t.Context()), context.Canceled)
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
	require.Equal(t, "NaN", double.TextAt(0))
	require.Equal(t, "NaN", double.JSONAt(0))
	require.Equal(t, "0.1", double.TextAt(1))
	double.AppendDouble(17.261699999999998) // every digit is needed to give it back
	require.Equal(t, "17.261699999999998", double.TextAt(2))
	float := feature.NewColumn(feature.Float, 0)
	float.AppendFloat(0.1)
	require.Equal(t, "0.1", float.TextAt(0))
	times := feature.NewColumn(feature.Timestamp.List(), 0)
	times.AppendList(func(c *feature.Column) { c.Int64s = append(c.Int64s, 1500000) })
	require.Equal(t, `["1970-01-01T00:00:01.5Z"]`, times.TextAt(0))
	text := feature.NewColumn(feature.String, 0)
	text.AppendString("a\x1b[31m\nb")
	text.AppendMissing(feature.Expired)
	require.Equal(t, "a\ufffd[31m\ufffdb", cell(text, 0), "no control character reaches a terminal")
	require.Equal(t, "(EXPIRED)", cell(text, 1))
	require.Nil(t, text.JSONAt(1))
	raw := feature.NewColumn(feature.Bytes, 0)
	raw.AppendBytes([]byte{0, 255})
	require.Equal(t, "0x00ff", raw.TextAt(0))
	require.Equal(t, "AP8=", raw.JSONAt(0))
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

// TestGCPercent: little memory for training sets leaves the collector as it is for serving, much has it collect early.
func TestGCPercent(t *testing.T) {
	for inUse, want := range map[int64]int{0: 400, 16 << 20: 400, 24 << 20: 400, 128 << 20: 100, 256 << 20: 50, 1 << 30: 25, 100 << 30: 25} {
		if got := gcPercent(inUse); got != want {
			t.Errorf("%d bytes: %d %%, want %d", inUse, got, want)
		}
	}
}
