package offline

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/twofold-ml/twofold/internal/feature"
)

// partition is a column whose value is in the name of a folder: "dt=2013-01-01".
type partition struct {
	name, value string
	null        bool
}

// hiveNull is how Hive spells null in a folder's name.
const hiveNull = "__HIVE_DEFAULT_PARTITION__"

// partitionsOf gives the partitions in the folders of a path. Of two folders of the same name, the inner one counts.
func partitionsOf(path string) []partition {
	var parts []partition
	segments := strings.Split(path, "/")
	for _, segment := range segments[:len(segments)-1] {
		name, value, ok := strings.Cut(segment, "=")
		if !ok || name == "" {
			continue
		}
		p := partition{name: unescape(name), value: unescape(value), null: value == hiveNull}
		for i := range parts {
			if parts[i].name == p.name {
				parts = append(parts[:i], parts[i+1:]...)
				break
			}
		}
		parts = append(parts, p)
	}
	return parts
}

// unescape undoes the percent-encoding of a folder's name; a name that is not encoded stays.
func unescape(s string) string {
	if decoded, err := url.PathUnescape(s); err == nil {
		return decoded
	}
	return s
}

func findPartition(parts []partition, name string) (partition, bool) {
	for _, p := range parts {
		if p.name == name {
			return p, true
		}
	}
	return partition{}, false
}

// timeLayouts are the forms of a time in a folder's name, all UTC where they do not say.
var timeLayouts = []string{
	time.DateOnly, time.DateTime, "2006-01-02T15:04:05", time.RFC3339, "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02-15", "20060102T150405Z",
}

func parseTime(s string) (int64, bool) {
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixMicro(), true
		}
	}
	return 0, false
}

// column gives the value as a column of one row.
func (p partition) column(t feature.Type) (*feature.Column, error) {
	c := feature.NewColumn(t, 1)
	if p.null {
		c.AppendMissing(feature.Null)
		return c, nil
	}
	if err := p.appendTo(c); err != nil {
		return nil, fmt.Errorf("the folder %s=%s is not %v: %w", p.name, p.value, t, err)
	}
	return c, nil
}

func (p partition) appendTo(c *feature.Column) error {
	switch c.Type {
	case feature.Bool:
		v, err := strconv.ParseBool(strings.ToLower(p.value))
		c.AppendBool(v)
		return err
	case feature.Int32:
		v, err := strconv.ParseInt(p.value, 10, 32)
		c.AppendInt32(int32(v))
		return err
	case feature.Int64:
		v, err := strconv.ParseInt(p.value, 10, 64)
		c.AppendInt64(v)
		return err
	case feature.Float:
		v, err := strconv.ParseFloat(p.value, 32)
		c.AppendFloat(float32(v))
		return err
	case feature.Double:
		v, err := strconv.ParseFloat(p.value, 64)
		c.AppendDouble(v)
		return err
	case feature.String, feature.Bytes:
		c.AppendString(p.value)
		return nil
	case feature.Timestamp:
		micros, ok := parseTime(p.value)
		if !ok {
			return fmt.Errorf("write it as a date (2013-01-31) or as a time (2013-01-31 10:00:00)")
		}
		c.AppendInt64(micros)
		return nil
	default:
		return fmt.Errorf("a folder's name cannot hold a list")
	}
}

// inferType gives the narrowest type that holds all values of a partition: INT64, TIMESTAMP (of dates) or STRING. Numbers with leading
// zeros are strings, so that nothing is lost.
func inferType(values []partition) feature.Type {
	allInts, allTimes, known := true, true, false
	for _, p := range values {
		if p.null {
			continue
		}
		known = true
		v, err := strconv.ParseInt(p.value, 10, 64)
		allInts = allInts && err == nil && strconv.FormatInt(v, 10) == p.value
		_, isTime := parseTime(p.value)
		allTimes = allTimes && isTime
	}
	switch {
	case known && allInts:
		return feature.Int64
	case known && allTimes:
		return feature.Timestamp
	default:
		return feature.String
	}
}
