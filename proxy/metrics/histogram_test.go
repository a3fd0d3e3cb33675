package metrics

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/testing/protocmp"
)

// TestHistogram: what is counted is in the buckets that prometheus would have it in, bounds and their neighbours too.
func TestHistogram(t *testing.T) {
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "pgweir_n", Help: "h",
		Buckets:                     prometheus.ExponentialBuckets(firstBucket, 2, bucketCount),
		NativeHistogramBucketFactor: 1.1,
	})
	ours := &histogram{desc: desc("n", "h")}
	both := func(d time.Duration) {
		theirs.Observe(d.Seconds())
		ours.observe(d)
	}
	for k := firstOctave << nativeSchema; k < lastOctave<<nativeSchema; k++ {
		d := time.Duration(math.Exp2(float64(k)/8) * 1e9)
		for _, d := range []time.Duration{d - 1, d, d + 1} {
			both(d)
		}
	}
	for i := range bucketCount {
		d := 16 * time.Microsecond << i
		for _, d := range []time.Duration{d - 1, d, d + 1} {
			both(d)
		}
	}
	for range 100_000 {
		both(time.Duration(math.Exp(rand.Float64()*18) * 1000))
	}
	read := func(m prometheus.Metric) *dto.Metric {
		var d dto.Metric
		require.NoError(t, m.Write(&d))
		d.Histogram.CreatedTimestamp = nil
		sum := d.Histogram.GetSampleSum()
		d.Histogram.SampleSum = nil
		require.Greater(t, sum, 0.0)
		return &d
	}
	if diff := cmp.Diff(read(theirs), read(ours), protocmp.Transform()); diff != "" {
		t.Errorf("prometheus has -, pgweir +:\n%s", diff)
	}
	require.InEpsilon(t, sumOf(t, theirs), sumOf(t, ours), 1e-9)
}

func sumOf(t *testing.T, m prometheus.Metric) float64 {
	var d dto.Metric
	require.NoError(t, m.Write(&d))
	return d.Histogram.GetSampleSum()
}

// TestHistogramEnds: what no cell is made for counts in the first or last bucket.
func TestHistogramEnds(t *testing.T) {
	h := &histogram{desc: desc("n", "h")}
	for _, d := range []time.Duration{math.MinInt64, -1, 0, 1, time.Hour, math.MaxInt64} {
		h.observe(d)
	}
	times := h.times()
	require.EqualValues(t, 4, times[0])
	require.EqualValues(t, 2, times[bucketCount])
	require.EqualValues(t, 6, times.Count())
}

// TestHistogramAllocates: counting costs no allocation.
func TestHistogramAllocates(t *testing.T) {
	h := &histogram{desc: desc("n", "h")}
	require.Zero(t, testing.AllocsPerRun(100, func() { h.observe(time.Millisecond) }))
}
