package stats

import (
	"math"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1, 4}, 4},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		if got := Median(c.values); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
	if got := Median(nil); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %v", got)
	}
	values := []float64{3, 1, 2}
	Median(values)
	if values[0] != 3 || values[1] != 1 || values[2] != 2 {
		t.Errorf("Median sorted its argument: %v", values)
	}
}

func TestMedianRatioIsOfRounds(t *testing.T) {
	// The machine was busy in the second round: both sides were slow, and the ratio is the same.
	if got := MedianRatio([]float64{80, 8, 82, 79}, []float64{100, 10, 100, 100}); got != 0.8 {
		t.Errorf("got %v, want 0.8", got)
	}
	if got := MedianRatio([]float64{1, 5}, []float64{0, 10}); got != 0.5 {
		t.Errorf("a round without a base gave %v, want 0.5", got)
	}
	if got := MedianRatio([]float64{1}, []float64{0}); !math.IsNaN(got) {
		t.Errorf("no round with a base gave %v", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("rounds of one side only were accepted")
		}
	}()
	MedianRatio([]float64{1, 2}, []float64{1})
}

func TestDigits(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 12345.6: "12346", 99.94: "99.9", 1.234: "1.23", 0.01234: "0.012", -250: "-250"} {
		if got := Digits(v); got != want {
			t.Errorf("Digits(%v) = %q, want %q", v, got, want)
		}
	}
	if got := Digits(math.NaN()); got != "-" {
		t.Errorf("Digits(NaN) = %q", got)
	}
}
