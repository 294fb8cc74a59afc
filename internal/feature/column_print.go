package feature

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// TextAt returns row i as text for people, "" where it is not Present: numbers with the fewest digits that give them back, times as RFC 3339 in UTC,
// bytes as 0x…, lists as JSON.
func (c *Column) TextAt(i int) string {
	if !c.IsPresent(i) {
		return ""
	}
	switch v := c.ValueAt(i).(type) {
	case string:
		return v
	case []byte:
		return "0x" + hex.EncodeToString(v)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case int64:
		if c.Type == Timestamp {
			return TimeText(v)
		}
		return strconv.FormatInt(v, 10)
	case []any:
		out, err := json.Marshal(c.JSONAt(i))
		if err != nil {
			return err.Error()
		}
		return string(out)
	default:
		return fmt.Sprint(v)
	}
}

// TimeText returns microseconds since the Unix epoch as RFC 3339 in UTC.
func TimeText(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano) }

// JSONAt returns row i for encoding/json, nil where it is not Present: NaN and infinities as text, times as RFC 3339, bytes as base64.
func (c *Column) JSONAt(i int) any {
	if c.Status != nil && !c.IsPresent(i) {
		return nil
	}
	v := c.ValueAt(i)
	list, ok := v.([]any)
	if !ok {
		return jsonScalar(c.Type, v)
	}
	out := make([]any, len(list))
	for k, element := range list {
		out[k] = jsonScalar(c.Type.Elem(), element)
	}
	return out
}

func jsonScalar(t Type, v any) any {
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
		if t == Timestamp {
			return TimeText(x)
		}
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	}
	return v
}
