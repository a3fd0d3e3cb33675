package metrics

import (
	"math"
	"time"

	"github.com/pgweir/pgweir/router"
)

// Counts are what was counted since the process began, as plain numbers. The difference of two of
// them is what happened in between.
type Counts struct {
	Statements   [router.Targets][router.Reasons][router.Classes]uint64
	Answered     [router.Targets]Times
	Waits        [Waits]uint64
	ProxyErrors  uint64
	ServerErrors uint64
}

// Counts reads all of them.
func (m *Metrics) Counts() *Counts {
	c := &Counts{ProxyErrors: m.proxyErrors.Load(), ServerErrors: m.serverErrors.Load()}
	for t := range c.Statements {
		for r := range c.Statements[t] {
			for class := range c.Statements[t][r] {
				c.Statements[t][r][class] = m.statements[t][r][class].Load()
			}
		}
	}
	for t := range c.Answered {
		for class := range m.answered.of[t] {
			if h := m.answered.of[t][class].Load(); h != nil {
				c.Answered[t] = c.Answered[t].Plus(h.times())
			}
		}
	}
	for w := range c.Waits {
		c.Waits[w] = m.waits[w].times().Count()
	}
	return c
}

// Times are durations, counted by the classic buckets of a histogram.
type Times [bucketCount + 1]uint64

// Plus is t and another one's counts.
func (t Times) Plus(o Times) Times {
	for i := range t {
		t[i] += o[i]
	}
	return t
}

// Since is what was counted after another one was read.
func (t Times) Since(o Times) Times {
	for i := range t {
		t[i] -= o[i]
	}
	return t
}

// Count is how many there are.
func (t Times) Count() (n uint64) {
	for _, c := range t {
		n += c
	}
	return n
}

// Quantile is the duration that the part q of them does not exceed, within the bucket as if they were
// spread evenly there; 0 if there are none.
func (t Times) Quantile(q float64) time.Duration {
	rank, lower := q*float64(t.Count()), 0.0
	for i, n := range t {
		upper := firstBucket * math.Pow(2, float64(min(i, bucketCount-1)))
		if n > 0 && rank <= float64(n) {
			return time.Duration((lower + (upper-lower)*rank/float64(n)) * float64(time.Second))
		}
		rank, lower = rank-float64(n), upper
	}
	return 0
}
