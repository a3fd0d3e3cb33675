package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgweir/pgweir/router"
)

// The classic buckets: their number, and the bound of the first in seconds. The others are its powers of two.
const (
	bucketCount = 24
	firstBucket = 16e-6
)

// times are the options of a histogram of times: classic buckets in powers of two from 16 µs
// to 134 s, and native ones (factor 1.1) for a scraper that asks for them.
func times(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: "pgweir_" + name, Help: help,
		Buckets:                        prometheus.ExponentialBuckets(firstBucket, 2, bucketCount),
		NativeHistogramBucketFactor:    1.1,
		NativeHistogramMaxBucketNumber: 200, // of 23 octaves
	}
}

// byClass is a histogram of times for each kind of server and class that was met.
type byClass struct {
	vec *prometheus.HistogramVec
	of  [router.Targets][router.Classes]atomic.Pointer[prometheus.Observer]
}

func newByClass(name, help string) byClass {
	return byClass{vec: prometheus.NewHistogramVec(times(name, help), []string{"target", "class"})}
}

// observe looks labels up the first time only.
func (h *byClass) observe(t router.Target, c router.Class, d time.Duration) {
	o := h.of[t][c].Load()
	if o == nil {
		met := h.vec.WithLabelValues(t.String(), c.String())
		o = &met
		h.of[t][c].Store(o)
	}
	(*o).Observe(d.Seconds())
}
