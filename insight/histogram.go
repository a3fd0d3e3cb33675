package insight

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// durations counts times in the buckets of the proxy's metrics: powers of two from 16 µs
// to about two minutes.
type durations struct {
	buckets [timeBuckets]atomic.Uint32
	nanos   atomic.Uint64
}

const (
	timeBuckets = 24
	firstBucket = 4 // 1<<4 µs
)

func (d *durations) add(t time.Duration) {
	t = max(t, 0)
	i := max(bits.Len64(uint64(t.Microseconds()))-firstBucket, 0)
	d.buckets[min(i, timeBuckets-1)].Add(1)
	d.nanos.Add(uint64(t))
}

// sizeBuckets are powers of four of rows, from none to 4^8 and more.
const sizeBuckets = 10

func sizeBucket(rows uint64) int { return min((bits.Len64(rows)+1)/2, sizeBuckets-1) }

// quantile is the bound of the bucket in which the part q of all counts is reached: bound
// gives that of bucket i.
func quantile[T any](counts []uint64, q float64, bound func(i int) T) (t T) {
	var all, sum uint64
	for _, n := range counts {
		all += n
	}
	if all == 0 {
		return t
	}
	for i, n := range counts {
		if sum += n; float64(sum) >= q*float64(all) {
			return bound(i)
		}
	}
	return bound(len(counts) - 1)
}

func timeBound(i int) time.Duration { return time.Duration(1<<(i+firstBucket)) * time.Microsecond }

// sizeBound is the smallest number of rows of bucket i.
func sizeBound(i int) uint64 {
	if i == 0 {
		return 0
	}
	return 1 << (2 * (i - 1))
}
