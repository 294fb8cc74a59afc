package entityfile

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twofold-ml/twofold/internal/feature"
)

// AppendText appends a value that is written as text to a column of any type but lists: numbers in decimals, true and false, times as ParseTime
// takes them; BYTES may be written as 0x… . The error names neither row nor column.
func AppendText(c *feature.Column, text string) error {
	switch c.Type {
	case feature.Bool:
		v, err := parseBool(text)
		if err != nil {
			return err
		}
		c.AppendBool(v)
	case feature.Int32, feature.Int64:
		return appendInteger(c, text)
	case feature.Float, feature.Double:
		return appendFloat(c, text)
	case feature.Timestamp:
		t, err := ParseTime(text)
		if err != nil {
			return err
		}
		c.AppendInt64(t.UnixMicro())
	case feature.Bytes:
		return appendBinary(c, text)
	default:
		c.AppendString(text)
	}
	return nil
}

func appendInteger(c *feature.Column, text string) error {
	bits := 64
	if c.Type == feature.Int32 {
		bits = 32
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, bits)
	if err != nil {
		return fmt.Errorf("%q is not an %v", text, c.Type)
	}
	if c.Type == feature.Int32 {
		c.AppendInt32(int32(n)) //nolint:gosec // it was parsed as 32 bits
	} else {
		c.AppendInt64(n)
	}
	return nil
}

func appendFloat(c *feature.Column, text string) error {
	bits := 64
	if c.Type == feature.Float {
		bits = 32
	}
	v, err := strconv.ParseFloat(text, bits)
	if err != nil {
		return fmt.Errorf("%q is not a %v", text, c.Type)
	}
	if c.Type == feature.Float {
		c.AppendFloat(float32(v))
	} else {
		c.AppendDouble(v)
	}
	return nil
}

func appendBinary(c *feature.Column, text string) error {
	digits, ok := strings.CutPrefix(text, "0x")
	if !ok {
		c.AppendBytes([]byte(text))
		return nil
	}
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return fmt.Errorf("%q is not hexadecimal after 0x", text)
	}
	c.AppendBytes(raw)
	return nil
}

func parseBool(text string) (bool, error) {
	switch {
	case strings.EqualFold(text, "true"):
		return true, nil
	case strings.EqualFold(text, "false"):
		return false, nil
	default:
		return false, fmt.Errorf("%q is neither true nor false", text)
	}
}

// timeForm is one way to write a time.
type timeForm struct {
	layout string
	zoned  bool
}

// timeForms are the forms of a time; one without a zone is UTC. Each takes a fraction of a second. No text has two of them.
var timeForms = []timeForm{
	{time.RFC3339, true}, {"2006-01-02 15:04:05", false}, {"2006-01-02T15:04:05", false}, {"2006-01-02 15:04:05Z07:00", true}, {"2006-01-02 15:04:05 Z07:00", true},
	{"2006-01-02 15:04:05 UTC", true}, {"2006-01-02 15:04", false}, {"2006-01-02T15:04", false}, {time.DateOnly, false},
}

// ParseTime reads a time: RFC 3339, or like "2013-01-31 15:04:05", also without seconds or hours, which is UTC.
func ParseTime(text string) (time.Time, error) {
	t, _, err := parseTime(text, 0)
	return t, err
}

// parseTime is ParseTime that tries one form first, and says which it was.
func parseTime(text string, first int) (time.Time, int, error) {
	if t, err := time.Parse(timeForms[first].layout, text); err == nil {
		return t, first, nil
	}
	for i, form := range timeForms {
		if t, err := time.Parse(form.layout, text); err == nil {
			return t, i, nil
		}
	}
	return time.Time{}, 0, fmt.Errorf("%q is not a time; write for example 2013-01-31T15:04:05Z, or 2013-01-31 15:04:05 for UTC", text)
}
