package compare

import (
	"cmp"
	"math"
	"slices"

	"github.com/pgweir/pgweir/insight"
)

// How it is judged whether a statement is slower. Two tests ask whether chance alone may make
// the difference, because each sees what the other does not:
//
//   - that of Mann and Whitney compares the calls by their ranks, which a few very slow ones
//     cannot sway. It sees the buckets of the histogram only, so that what stays within a bucket
//     of a factor of two is equal.
//   - that of Welch compares the means, which are known exactly. The few very slow ones make
//     its variance so large that it says nothing.
//
// A difference must also be large enough to matter: of the mean by the wanted part, or of the
// median, if then a call of one period exceeds one of the other with a probability of 0.6 or
// more. The smaller probability counts twice, as there are two tests, and over all statements
// and routes that of Holm's procedure counts, so that of 20 comparisons of equal periods at most one, on
// average, finds any difference at all.
//
// All of this takes calls for independent of each other. Times of a busy server are not quite:
// what lasts for a while, such as a checkpoint or another job, is a difference between periods.

// verdict is whether something differs.
type verdict struct {
	change float64 // how many times as much
	p      float64 // that chance alone makes it
	tell   func(*verdict)
}

// status is what v says, once it is corrected.
func (v *verdict) status(more, less Status) Status {
	switch {
	case v.p >= level:
		return Same
	case v.change > 1:
		return more
	}
	return less
}

// superiority is the smallest probability that a call of one period exceeds one of the other
// that counts as a difference.
const superiority = 0.6

// slower compares times.
func slower(before, after *insight.Counts, part float64) *verdict {
	m1, v1 := before.Mean()
	m2, v2 := after.Mean()
	v := &verdict{change: m2 / m1, p: 1}
	if matters(m2/m1, part) {
		v.p = welch(m1, v1, float64(before.Timed()), m2, v2, float64(after.Timed()))
	}
	p, exceeds := mannWhitney(before.Times[:], after.Times[:])
	median := after.Quantile(0.5) / before.Quantile(0.5)
	if p < v.p && matters(median, part) && max(exceeds, 1-exceeds) >= superiority && (exceeds > 0.5) == (median > 1) {
		v.change, v.p = median, p
	}
	v.p = min(2*v.p, 1)
	return v
}

// more compares the statements of each transaction of a route by Welch's test. Where each
// transaction has as many, there is no variance, and any difference is one.
func more(before, after *insight.RouteCounts, part float64) *verdict {
	mean := func(n *insight.RouteCounts) (mean, variance, count float64) {
		count = float64(n.Transactions)
		mean = float64(n.Statements) / count
		return mean, max(float64(n.Squares)-count*mean*mean, 0) / (count - 1), count
	}
	m1, v1, n1 := mean(before)
	m2, v2, n2 := mean(after)
	v := &verdict{change: m2 / m1, p: 1}
	if matters(v.change, part) {
		v.p = welch(m1, v1, n1, m2, v2, n2)
	}
	return v
}

// matters reports whether a factor is a change by the wanted part, up or down.
func matters(factor, part float64) bool { return max(factor, 1/factor) >= 1+part }

// welch is the probability that means as different come from populations with the same, by
// Welch's t-test (B. L. Welch, Biometrika 34, 1947). The distribution of t is turned into the
// normal one by the approximation of D. L. Wallace (Annals of Mathematical Statistics 30, 1959,
// section 5), which is good to a thousandth.
func welch(m1, v1, n1, m2, v2, n2 float64) float64 {
	e1, e2 := v1/n1, v2/n2
	if m1 == m2 || math.IsInf(e1+e2, 1) {
		return 1
	}
	if e1+e2 == 0 {
		return 0
	}
	t := (m2 - m1) / math.Sqrt(e1+e2)
	df := (e1 + e2) * (e1 + e2) / (e1*e1/(n1-1) + e2*e2/(n2-1))
	return bothTails((8*df + 1) / (8*df + 3) * math.Sqrt(df*math.Log1p(t*t/df)))
}

// bothTails is how probable it is that a normal variable is z away from its mean, or more.
func bothTails(z float64) float64 { return math.Erfc(math.Abs(z) / math.Sqrt2) }

// mannWhitney is the probability that ranks as different come from the same population, and the
// probability that one of after exceeds one of before. Both are counted in the same buckets; what
// is in one bucket is tied. It is the normal approximation of U with the variance for ties and the
// correction for continuity (H. B. Mann and D. R. Whitney, Annals of Mathematical Statistics 18,
// 1947; E. L. Lehmann, Nonparametrics, 1975, section 1.4).
func mannWhitney(before, after []uint64) (p, exceeds float64) {
	var u, n1, n2, ties float64
	for i := range before {
		a, b := float64(before[i]), float64(after[i])
		u += b * (n1 + a/2)
		n1, n2 = n1+a, n2+b
		ties += (a+b)*(a+b)*(a+b) - (a + b)
	}
	n := n1 + n2
	if n1 == 0 || n2 == 0 {
		return 1, 0.5
	}
	variance := n1 * n2 / 12 * (n + 1 - ties/(n*(n-1)))
	if exceeds = u / (n1 * n2); variance <= 0 {
		return 1, exceeds
	}
	return bothTails(max(math.Abs(u-n1*n2/2)-0.5, 0) / math.Sqrt(variance)), exceeds
}

// correct turns the probabilities of single tests into those for all of them, by Holm's
// procedure (S. Holm, Scandinavian Journal of Statistics 6, 1979).
func correct(all []*verdict) {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(x, y *verdict) int { return cmp.Compare(x.p, y.p) })
	least := 0.0
	for i, v := range sorted {
		least = max(least, min(v.p*float64(len(sorted)-i), 1))
		v.p = least
	}
}
