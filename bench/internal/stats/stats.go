// Package stats is the little arithmetic that benchmark reports need.
package stats

import (
	"math"
	"slices"
	"strconv"
)

// Median returns the middle of the values, the mean of the two middle ones where their number is even, and NaN where there are none. It
// does not change values.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// MedianRatio returns the median of a[i]/b[i], where i is one round: what disturbs a round disturbs both of its sides, so that the ratio
// of a round is steadier than the ratio of medians. Rounds whose b is 0 say nothing and are left out. It panics where the lengths
// differ, which is a bug of the caller.
func MedianRatio(a, b []float64) float64 {
	if len(a) != len(b) {
		panic("stats: rounds of one side only")
	}
	ratios := make([]float64, 0, len(a))
	for i := range a {
		if b[i] != 0 {
			ratios = append(ratios, a[i]/b[i])
		}
	}
	return Median(ratios)
}

// Digits formats v with about three significant digits and without an exponent: "1234", "12.3", "0.123". NaN is "-".
func Digits(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case size >= 100 || size == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case size >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case size >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
}
