package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// csvBatchRows is the number of rows of a record made from CSV.
const csvBatchRows = 8192

// csvRows reads a CSV file twice: once to infer the types of columns that nobody named, once for the rows.
type csvRows struct {
	file   *os.File
	reader *csv.Reader
	names  []string
	types  []feature.Type
	schema *arrow.Schema
	// timeColumn is the column that must not be null.
	timeColumn string
}

// openCSV opens a CSV file with a header line. types are the types of some columns. An empty cell, in quotes or not, is null; in
// timeColumn it is an error that names its line.
func openCSV(file *os.File, types map[string]feature.Type, timeColumn string) (*entityRows, error) {
	c := &csvRows{file: file, timeColumn: timeColumn}
	if err := c.rewind(); err != nil {
		return nil, err
	}
	if name := duplicate(c.names); name != "" {
		return nil, fault.New(fault.Invalid, "two columns are named %q", name)
	}
	rows, err := c.infer(types)
	if err != nil {
		return nil, err
	}
	if err := c.rewind(); err != nil {
		return nil, err
	}
	fields := make([]arrow.Field, len(c.names))
	for i, name := range c.names {
		fields[i] = arrowwire.Field(name, c.types[i])
	}
	c.schema = arrow.NewSchema(fields, nil)
	return &entityRows{schema: c.schema, rows: rows, each: c.each, close: func() {}}, nil
}

// rewind starts at the first row again.
func (c *csvRows) rewind() error {
	if _, err := c.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("it must be a file that can be read twice; use - for a pipe: %w", err)
	}
	in := bufio.NewReaderSize(c.file, 1<<20)
	if mark, _ := in.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = in.Discard(3) // was peeked at
	}
	c.reader = csv.NewReader(in)
	c.reader.ReuseRecord = true
	head, err := c.reader.Read()
	if errors.Is(err, io.EOF) {
		return fault.New(fault.Invalid, "it is empty; the first line must name the columns")
	}
	if err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	c.names = append([]string(nil), head...)
	return nil
}

// infer sets the types and returns the number of rows.
func (c *csvRows) infer(types map[string]feature.Type) (int64, error) {
	guesses := make([]guess, len(c.names))
	var rows int64
	for {
		record, err := c.reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fault.New(fault.Invalid, "%w", err)
		}
		rows++
		for i, text := range record {
			if _, ok := types[c.names[i]]; !ok {
				guesses[i].see(text)
			}
		}
	}
	c.types = make([]feature.Type, len(c.names))
	for i, name := range c.names {
		if t, ok := types[name]; ok {
			c.types[i] = t
		} else {
			c.types[i] = guesses[i].result()
		}
	}
	return rows, nil
}

// guess is what a column's cells have in common.
type guess struct{ any, notInt, notDouble, notBool bool }

func (g *guess) see(text string) {
	if text == "" || g.notInt && g.notDouble && g.notBool {
		return
	}
	g.any = true
	_, err := strconv.ParseInt(text, 10, 64)
	g.notInt = g.notInt || err != nil || leadingZero(text)
	// A whole number that is too large for INT64 is an id.
	g.notDouble = g.notDouble || errors.Is(err, strconv.ErrRange) || leadingZero(text) || !survivesDouble(text)
	if !g.notBool {
		_, err := parseBool(text)
		g.notBool = err != nil
	}
}

// leadingZero reports whether text is a number that is written like a code ("007", "+1", "0x1p4", "1_000"), which must stay text.
func leadingZero(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	return strings.HasPrefix(digits, "+") || strings.ContainsAny(digits, "xX_") ||
		len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9'
}

// survivesDouble reports whether text is a number that DOUBLE holds with all its digits.
func survivesDouble(text string) bool {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return false
	}
	digits := significantDigits(text)
	if len(digits) > 17 {
		return false
	}
	return len(digits) == 0 || significantDigits(strconv.FormatFloat(v, 'e', len(digits)-1, 64)) == digits
}

// significantDigits returns the digits of a decimal number without zeros at its ends.
func significantDigits(number string) string {
	mantissa, _, _ := strings.Cut(strings.ToLower(number), "e")
	digits := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, mantissa)
	return strings.Trim(digits, "0")
}

func (g *guess) result() feature.Type {
	switch {
	case !g.any:
		return feature.String
	case !g.notInt:
		return feature.Int64
	case !g.notDouble:
		return feature.Double
	case !g.notBool:
		return feature.Bool
	default:
		return feature.String
	}
}

func (c *csvRows) each(ctx context.Context, yield func(arrow.RecordBatch) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		columns, err := c.read()
		if err != nil || columns[0].Len() == 0 {
			return err
		}
		record, err := newRecord(c.schema, columns)
		if err != nil {
			return err
		}
		err = yield(record)
		record.Release()
		if err != nil {
			return err
		}
	}
}

// read reads the next rows; none at the end.
func (c *csvRows) read() ([]*feature.Column, error) {
	columns := make([]*feature.Column, len(c.names))
	for i, t := range c.types {
		columns[i] = feature.NewColumn(t, csvBatchRows)
	}
	for range csvBatchRows {
		cells, err := c.reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fault.New(fault.Invalid, "%w", err)
		}
		for i, text := range cells {
			err := appendCell(columns[i], text)
			if text == "" && c.names[i] == c.timeColumn {
				err = errors.New("the time is null; give every row its time, or leave the row out")
			}
			if err != nil {
				line, column := c.reader.FieldPos(i)
				return nil, fault.New(fault.Invalid, "line %d, character %d: column %q: %w", line, column, c.names[i], err)
			}
		}
	}
	return columns, nil
}

func appendCell(c *feature.Column, text string) error {
	if text == "" {
		c.AppendMissing(feature.Null)
		return nil
	}
	switch c.Type {
	case feature.Bool:
		v, err := parseBool(text)
		if err != nil {
			return err
		}
		c.AppendBool(v)
	case feature.Float, feature.Double:
		bits := map[feature.Type]int{feature.Float: 32, feature.Double: 64}[c.Type]
		v, err := strconv.ParseFloat(text, bits)
		if err != nil {
			return fmt.Errorf("%q is not a %v", text, c.Type)
		}
		if c.Type == feature.Float {
			c.AppendFloat(float32(v))
		} else {
			c.AppendDouble(v)
		}
	case feature.Timestamp:
		t, err := parseTime(text)
		if err != nil {
			return err
		}
		c.AppendInt64(t.UnixMicro())
	default:
		return appendText(c, text)
	}
	return nil
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, fmt.Errorf("%q is neither true nor false", text)
	}
}

// timeLayouts are the forms of a time in CSV; one without a zone is UTC. Each takes a fraction of a second.
var timeLayouts = []string{
	time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00",
	"2006-01-02 15:04:05 UTC", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly,
}

func parseTime(text string) (time.Time, error) {
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time; write for example 2013-01-31T15:04:05Z, or 2013-01-31 15:04:05 for UTC", text)
}
