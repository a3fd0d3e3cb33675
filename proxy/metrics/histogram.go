package metrics

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// histogram counts durations in buckets of powers of two from 16 µs on.
type histogram struct {
	buckets [24]atomic.Uint64
	sum     atomic.Int64 // ns
}

const firstBucket = 4 // 1<<4 µs

func (h *histogram) observe(d time.Duration) {
	us := uint64(max(d, 0)) / 1000
	i := max(bits.Len64(us)-firstBucket, 0)
	h.buckets[min(i, len(h.buckets)-1)].Add(1)
	h.sum.Add(int64(d))
}

func (h *histogram) collect(to sink, desc *prometheus.Desc, labels ...string) {
	counts := make(map[float64]uint64, len(h.buckets))
	var total uint64
	for i := range h.buckets {
		total += h.buckets[i].Load()
		if i < len(h.buckets)-1 {
			counts[float64(uint64(1)<<(i+firstBucket))/1e6] = total
		}
	}
	to.histogram(desc, total, float64(h.sum.Load())/1e9, counts, labels...)
}
