package main

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
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 2, 3}, 2.5},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v, want NaN", got)
	}
	values := []float64{3, 1, 2}
	if median(values); values[0] != 3 {
		t.Errorf("median sorted the caller's values: %v", values)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for _, c := range []struct {
		sorted []int
		p      float64
		want   int
	}{
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 99.5, 100},
		{hundred, 100, 100},
		{hundred, 0, 1},
		{[]int{10, 20, 30}, 50, 20},
		{[]int{10, 20, 30}, 99, 30},
		{[]int{10}, 1, 10},
	} {
		if got := percentile(c.sorted, c.p); got != c.want {
			t.Errorf("percentile %v of %d values = %d, want %d", c.p, len(c.sorted), got, c.want)
		}
	}
}

func TestMedianRatio(t *testing.T) {
	nan := math.NaN()
	// The middle round failed for one, the last was slow for both.
	if got := medianRatio([]float64{12, nan, 60}, []float64{10, 10, 50}); math.Abs(got-1.2) > 1e-9 {
		t.Errorf("ratio = %v, want 1.2", got)
	}
	if got := medianRatio([]float64{1}, nil); !math.IsNaN(got) {
		t.Errorf("ratio to nothing = %v, want NaN", got)
	}
	if got := medianRatio([]float64{1}, []float64{0}); !math.IsNaN(got) {
		t.Errorf("ratio to zero = %v, want NaN", got)
	}
}
