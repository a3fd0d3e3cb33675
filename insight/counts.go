package insight

import (
	"math"
	"time"
)

// Counts are what was counted of a statement on one kind of server. They add up, over time and
// over instances.
type Counts struct {
	Calls     uint64        `json:"n"`
	Errors    uint64        `json:"errors,omitempty"`
	Rows      uint64        `json:"rows,omitempty"`
	Bytes     uint64        `json:"bytes,omitempty"`
	Untimed   uint64        `json:"untimed,omitempty"`   // calls whose time nobody knows
	Uncounted uint64        `json:"uncounted,omitempty"` // calls whose rows nobody knows
	Took      time.Duration `json:"took,omitempty"`
	Waited    time.Duration `json:"waited,omitempty"`
	// Times and Sizes are the calls by time and by rows: histogram.go has the buckets.
	Times [timeBuckets]uint64 `json:"times"`
	Sizes [sizeBuckets]uint64 `json:"sizes"`
}

// exported are the counts at this moment.
func (c *counts) exported() (n Counts) {
	t := c.read()
	return Counts{
		Calls: t.calls, Errors: t.errors, Rows: t.rows, Bytes: t.bytes, Untimed: t.untimed, Uncounted: t.uncounted,
		Took: t.took, Waited: t.waited, Times: t.times, Sizes: t.sizes,
	}
}

// add counts what was counted elsewhere.
func (c *counts) add(n *Counts) {
	c.calls.Add(uint32(n.Calls))
	c.errors.Add(uint32(n.Errors))
	c.rows.Add(n.Rows)
	c.bytes.Add(n.Bytes)
	c.untimed.Add(uint32(n.Untimed))
	c.uncounted.Add(uint32(n.Uncounted))
	c.times.nanos.Add(uint64(n.Took))
	c.waited.Add(uint64(n.Waited))
	for i, x := range n.Times {
		c.times.buckets[i].Add(uint32(x))
	}
	for i, x := range n.Sizes {
		c.sizes[i].Add(uint32(x))
	}
}

// Add adds what was counted elsewhere.
func (n *Counts) Add(o *Counts) { n.each(o, func(a, b uint64) uint64 { return a + b }) }

// subtract takes off what was counted before.
func (n *Counts) subtract(o *Counts) { n.each(o, less) }

// less is a - b, and 0 if that were negative.
func less(a, b uint64) uint64 { return a - min(a, b) }

func (n *Counts) each(o *Counts, f func(a, b uint64) uint64) {
	n.Calls, n.Errors, n.Rows, n.Bytes = f(n.Calls, o.Calls), f(n.Errors, o.Errors), f(n.Rows, o.Rows), f(n.Bytes, o.Bytes)
	n.Untimed, n.Uncounted = f(n.Untimed, o.Untimed), f(n.Uncounted, o.Uncounted)
	n.Took, n.Waited = time.Duration(f(uint64(n.Took), uint64(o.Took))), time.Duration(f(uint64(n.Waited), uint64(o.Waited)))
	for i := range n.Times {
		n.Times[i] = f(n.Times[i], o.Times[i])
	}
	for i := range n.Sizes {
		n.Sizes[i] = f(n.Sizes[i], o.Sizes[i])
	}
}

// Timed is how many calls have a time.
func (n *Counts) Timed() (calls uint64) {
	for _, x := range n.Times {
		calls += x
	}
	return calls
}

// Mean is the mean time of a call and its variance, in seconds and their square. Of the
// variance only the buckets are known: within each, times are taken to be spread evenly.
func (n *Counts) Mean() (mean, variance float64) {
	calls := float64(n.Timed())
	if calls < 2 {
		return n.Took.Seconds() / max(calls, 1), math.Inf(1)
	}
	mean = n.Took.Seconds() / calls
	for i, x := range n.Times {
		low, high := edges(i)
		off, width := (low+high)/2-mean, high-low
		variance += float64(x) * (off*off + width*width/12)
	}
	return mean, variance / (calls - 1)
}

// Quantile is the time that the part q of all calls does not exceed, in seconds: within a
// bucket, times are taken to be spread evenly.
func (n *Counts) Quantile(q float64) float64 {
	want := q * float64(n.Timed())
	for i, x := range n.Times {
		if x == 0 {
			continue
		}
		if low, high := edges(i); want <= float64(x) {
			return low + (high-low)*want/float64(x)
		}
		want -= float64(x)
	}
	return 0
}

// edges are the bounds of a bucket of times, in seconds.
func edges(i int) (low, high float64) {
	high = timeBound(i).Seconds()
	if i == 0 {
		return 0, high
	}
	return high / 2, high
}
