package pit_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/twofold-ml/twofold/internal/feature"
)

// parseTable reads a table: its first line is the header.
func parseTable(t *testing.T, d *datadriven.TestData, lines []string) specTable {
	var s specTable
	for _, word := range strings.Fields(lines[0]) {
		name, typeName, typed := strings.Cut(word, ":")
		typ, ok := feature.ParseType(typeName)
		switch {
		case isTime(name):
			typ = feature.Timestamp
		case !typed || !ok:
			d.Fatalf(t, "the header %q is not name:TYPE", word)
		}
		s.add(name, typ)
	}
	for _, line := range lines[1:] {
		cells := cell.FindAllString(line, -1)
		if len(cells) != len(s.columns) {
			d.Fatalf(t, "%q has %d cells, the header has %d", line, len(cells), len(s.columns))
		}
		for i, text := range cells {
			parseValue(t, d, s.columns[i], text)
		}
	}
	return s
}

// parseValue appends one cell to a column.
func parseValue(t *testing.T, d *datadriven.TestData, c *feature.Column, text string) {
	if text == "null" {
		c.AppendMissing(feature.Null)
		return
	}
	var err error
	switch c.Type {
	case feature.Timestamp:
		var at int64
		at, err = parseTime(text)
		c.AppendInt64(at)
	case feature.Int32, feature.Int64:
		var v int64
		v, err = strconv.ParseInt(text, 10, 64)
		if c.Type == feature.Int64 {
			c.AppendInt64(v)
		} else {
			c.AppendInt32(int32(v))
		}
	case feature.Double:
		var v float64
		v, err = strconv.ParseFloat(text, 64)
		c.AppendDouble(v)
	case feature.Bool:
		var v bool
		v, err = strconv.ParseBool(text)
		c.AppendBool(v)
	case feature.String, feature.Bytes:
		if strings.HasPrefix(text, `"`) {
			text, err = strconv.Unquote(text)
		}
		c.AppendString(text)
	case feature.DoubleList:
		c.AppendList(func(elem *feature.Column) {
			for word := range strings.FieldsSeq(strings.Trim(text, "[]")) {
				var v float64
				if v, err = strconv.ParseFloat(word, 64); err == nil {
					elem.Doubles = append(elem.Doubles, v)
				}
			}
		})
	default:
		err = fmt.Errorf("no cells of %v in specifications", c.Type)
	}
	if err != nil {
		d.Fatalf(t, "%q: %v", text, err)
	}
}

// formatValue is the cell of row i: "none" where no row was found.
func formatValue(c *feature.Column, i int) string {
	switch c.Status[i] {
	case feature.NotFound:
		return "none"
	case feature.Null:
		return "null"
	}
	switch c.Type {
	case feature.Timestamp:
		return formatTime(c.Int64s[i])
	case feature.String, feature.Bytes:
		text := string(c.BytesAt(i))
		if text == "" || text == "null" || text == "none" || strings.ContainsAny(text, " \"") || strconv.Quote(text) != `"`+text+`"` {
			return strconv.Quote(text)
		}
		return text
	}
	return fmt.Sprint(c.ValueAt(i))
}

// today is the day of times that name no day.
const today = "2013-01-01"

var timeLayouts = []string{"2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02T15:04:05.000000"}

func parseTime(text string) (int64, error) {
	switch text {
	case "earliest":
		return math.MinInt64, nil
	case "latest":
		return math.MaxInt64, nil
	}
	if !strings.Contains(text, "T") {
		text = today + "T" + text
	}
	var at time.Time
	var err error
	for _, layout := range timeLayouts {
		if at, err = time.Parse(layout, text); err == nil {
			return at.UnixMicro(), nil
		}
	}
	return 0, err
}

func formatTime(micros int64) string {
	switch micros {
	case math.MinInt64:
		return "earliest"
	case math.MaxInt64:
		return "latest"
	}
	at := time.UnixMicro(micros).UTC()
	layout := timeLayouts[2]
	switch {
	case at.Truncate(time.Minute).Equal(at):
		layout = timeLayouts[0]
	case at.Truncate(time.Second).Equal(at):
		layout = timeLayouts[1]
	}
	return strings.TrimPrefix(at.Format(layout), today+"T")
}

func parseTTL(t *testing.T, d *datadriven.TestData, text string) feature.TTL {
	switch text {
	case "forever":
		return 0
	case "longest":
		return math.MaxInt64
	}
	ttl, err := time.ParseDuration(text)
	if err != nil {
		d.Fatalf(t, "ttl: %v", err)
	}
	return feature.TTLOf(ttl)
}
