package feature_test

import (
	"testing"

	"github.com/twofold-ml/twofold/internal/feature"
)

// TestWindows fills a column from two windows, one of which has left its memory, and compares it with one that was filled in order.
func TestWindows(t *testing.T) {
	for _, kind := range []feature.Type{feature.Bool, feature.Int32, feature.Int64, feature.Timestamp, feature.Float, feature.Double} {
		fill := func(c *feature.Column, from, to int) {
			for i := from; i < to; i++ {
				switch kind {
				case feature.Bool:
					c.AppendBool(i%2 == 1)
				case feature.Int32:
					c.AppendInt32(int32(i))
				case feature.Float:
					c.AppendFloat(float32(i))
				case feature.Double:
					c.AppendDouble(float64(i))
				default:
					c.AppendInt64(int64(i))
				}
			}
			c.AppendMissing(feature.Null)
		}
		want := feature.NewColumn(kind, 0)
		fill(want, 0, 4)
		fill(want, 4, 7)
		got := feature.NewColumn(kind, 10)
		first := got.Window(0, 5)
		elsewhere := feature.NewColumn(kind, 0)
		fill(elsewhere, 4, 7)
		fill(first, 0, 4)
		got.Put(elsewhere, 5)
		got.Put(first, 0)
		got.SetLen(9)
		if !got.HasWindow() || !got.Equal(want) {
			t.Errorf("%v: got %v, want %v", kind, got, want)
		}
	}
	for _, kind := range []feature.Type{feature.String, feature.Bytes, feature.Double.List()} {
		if feature.NewColumn(kind, 0).HasWindow() {
			t.Errorf("%v has windows", kind)
		}
	}
}
