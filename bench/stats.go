package main

import (
	"cmp"
	"math"
	"slices"
)

// median is the middle of the values, the mean of the two middle ones of an even
// number, NaN of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	m := len(s) / 2
	if len(s)%2 == 1 {
		return s[m]
	}
	return (s[m-1] + s[m]) / 2
}

// percentile is the smallest value that at least p per cent of the values do not
// exceed (the nearest rank). The values must be sorted and not empty.
func percentile[T cmp.Ordered](sorted []T, p float64) T {
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// medianRatio is the median of ratios.
func medianRatio(a, b []float64) float64 { return median(ratios(a, b)) }

// ratios forms a/b within every round in which both were measured, so that a slow moment
// of the machine harms no comparison.
func ratios(a, b []float64) (all []float64) {
	for i := range min(len(a), len(b)) {
		if r := a[i] / b[i]; !math.IsNaN(r) && !math.IsInf(r, 0) {
			all = append(all, r)
		}
	}
	return all
}

// known are the values that were measured.
func known(values []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(values), math.IsNaN)
}

// valuesOf are one figure's values, one a round.
func valuesOf(samples []figures, figure func(figures) float64) []float64 {
	var all []float64
	for _, f := range samples {
		all = append(all, figure(f))
	}
	return all
}
