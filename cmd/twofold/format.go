package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/twofold-ml/twofold/internal/feature"
)

// cell returns a value for a table: the value, or its status in brackets.
func cell(c *feature.Column, row int) string {
	if !c.IsPresent(row) {
		return "(" + c.Status[row].String() + ")"
	}
	// No control character of a value reaches a terminal.
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, formatPresent(c, row))
}

// formatPresent returns a value as text, "" where it is not PRESENT: numbers with the fewest digits that give them back, times as RFC 3339 in UTC,
// bytes as 0x…, lists as JSON.
func formatPresent(c *feature.Column, row int) string {
	if !c.IsPresent(row) {
		return ""
	}
	switch v := c.ValueAt(row).(type) {
	case string:
		return v
	case []byte:
		return "0x" + hex.EncodeToString(v)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case int64:
		if c.Type == feature.Timestamp {
			return formatTime(v)
		}
		return strconv.FormatInt(v, 10)
	case []any:
		out, err := json.Marshal(jsonValue(c, row))
		if err != nil {
			return err.Error()
		}
		return string(out)
	default:
		return fmt.Sprint(v)
	}
}

// formatTime returns microseconds since the epoch as RFC 3339 in UTC.
func formatTime(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano) }

// jsonValue returns a value for encoding/json, nil where it is not PRESENT: NaN and infinities as text, times as RFC 3339, bytes as base64.
func jsonValue(c *feature.Column, row int) any {
	if c.Status != nil && !c.IsPresent(row) {
		return nil
	}
	v := c.ValueAt(row)
	list, ok := v.([]any)
	if !ok {
		return jsonScalar(c.Type, v)
	}
	out := make([]any, len(list))
	for i, element := range list {
		out[i] = jsonScalar(c.Type.Elem(), element)
	}
	return out
}

func jsonScalar(t feature.Type, v any) any {
	switch x := v.(type) {
	case float32:
		if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
			return strconv.FormatFloat(f, 'g', -1, 32)
		}
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return strconv.FormatFloat(x, 'g', -1, 64)
		}
	case int64:
		if t == feature.Timestamp {
			return formatTime(x)
		}
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	}
	return v
}
