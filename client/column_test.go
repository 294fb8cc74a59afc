package client_test

import (
	"testing"
	"time"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// TestOnlyPresentValuesAreValues: beside every other status lies a zero, which must not be taken for a value.
func TestOnlyPresentValuesAreValues(t *testing.T) {
	at := time.Date(2013, 1, 31, 1, 2, 3, 4000, time.UTC)
	statuses := []twofoldv1.ValueStatus{
		twofoldv1.ValueStatus_VALUE_STATUS_PRESENT, twofoldv1.ValueStatus_VALUE_STATUS_NULL,
		twofoldv1.ValueStatus_VALUE_STATUS_NOT_FOUND, twofoldv1.ValueStatus_VALUE_STATUS_EXPIRED,
	}
	for _, c := range []struct {
		column *twofoldv1.Column
		get    func(c *twofoldv1.Column, row int) (any, bool)
		want   any
	}{
		{client.Strings("s", "a", "", "", ""), untyped(client.String), "a"},
		{client.Int64s("i", 1, 0, 0, 0), untyped(client.Int64), int64(1)},
		{client.Int32s("j", 2, 0, 0, 0), untyped(client.Int32), int32(2)},
		{client.Doubles("d", 1.5, 0, 0, 0), untyped(client.Double), 1.5},
		{client.Floats("f", 2.5, 0, 0, 0), untyped(client.Float), float32(2.5)},
		{client.Bools("b", true, false, false, false), untyped(client.Bool), true},
		{client.Timestamps("t", at, at, at, at), untyped(client.Timestamp), at},
	} {
		if got, ok := c.get(c.column, 0); !ok || got != c.want {
			t.Errorf("%s without statuses: %v, %v", c.column.GetName(), got, ok)
		}
		c.column.Statuses = statuses
		if got, ok := c.get(c.column, 0); !ok || got != c.want {
			t.Errorf("%s: %v, %v", c.column.GetName(), got, ok)
		}
		for _, row := range []int{1, 2, 3, 4, -1} {
			if got, ok := c.get(c.column, row); ok {
				t.Errorf("%s: row %d is %v and is said to be there", c.column.GetName(), row, got)
			}
		}
	}
	if got, ok := client.Int64(client.Doubles("d", 1), 0); ok {
		t.Errorf("a DOUBLE column has the INT64 %v", got)
	}
	if client.Find([]*twofoldv1.Column{client.Int64s("a", 1)}, "b") != nil {
		t.Error("a column of another name was found")
	}
}

// untyped is a getter of a value of any type.
func untyped[T any](get func(*twofoldv1.Column, int) (T, bool)) func(*twofoldv1.Column, int) (any, bool) {
	return func(c *twofoldv1.Column, row int) (any, bool) {
		v, ok := get(c, row)
		return v, ok
	}
}
