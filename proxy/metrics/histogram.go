package metrics

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/pgweir/pgweir/router"
)

// The classic buckets: their number, and the bound of the first in seconds. The others are its powers of two.
const (
	bucketCount = 24
	firstBucket = 16e-6
)

// nativeSchema is that of native buckets: 2^schema of them an octave.
const nativeSchema = 3

// Cells are the intervals that the bounds of classic and native buckets make together: of an octave
// [2^(e-1), 2^e) of seconds these are cellBounds, each the upper bound of its cell, as a
// share of 2^e. What is greater than all of them is in the first cell of the next octave.
var cellBounds = [...]float64{
	0.5, firstBucket * (1 << 15), // the only classic one
	math.Exp2(-7. / 8), math.Exp2(-6. / 8), math.Exp2(-5. / 8), math.Exp2(-4. / 8), math.Exp2(-3. / 8), math.Exp2(-2. / 8), math.Exp2(-1. / 8),
}

// The octaves that are told apart: from a microsecond to four minutes. What is beyond counts in
// the first or last cell.
const (
	firstOctave = -19
	lastOctave  = 8
	cellsOctave = 9
	cellCount   = (lastOctave-firstOctave+1)*cellsOctave + 1
)

// histogram counts times in classic buckets in powers of two from 16 µs to 134 s, and
// in native ones for a scraper that asks for them. It does what a histogram of prometheus
// does for a quarter of the time, as it has all the buckets there may be. It is a prometheus.Metric.
type histogram struct {
	desc   *prometheus.Desc
	values []string     // of the labels
	sum    atomic.Int64 // ns
	cells  [cellCount]atomic.Uint64
}

// observe counts a time.
func (h *histogram) observe(d time.Duration) {
	h.cells[cellOf(d.Seconds())].Add(1)
	h.sum.Add(int64(d))
}

// cellOf is the cell of a time in seconds.
func cellOf(v float64) int {
	bits := math.Float64bits(max(v, 0))
	octave := int(bits>>52) - 1022
	if octave < firstOctave {
		return 0
	}
	if octave > lastOctave {
		return cellCount - 1
	}
	share := math.Float64frombits(bits&(1<<52-1) | 1022<<52)
	i := 0
	for i < cellsOctave && cellBounds[i] < share {
		i++
	}
	return (octave-firstOctave)*cellsOctave + i
}

// classicOf is the classic bucket of a cell; bucketCount is that without a bound.
func classicOf(cell int) int {
	octave, i := cell/cellsOctave+firstOctave, cell%cellsOctave
	if i > 1 {
		octave++
	}
	return min(max(octave+15, 0), bucketCount)
}

// nativeOf is the native bucket of a cell: bucket k is up to 2^(k/8) seconds.
func nativeOf(cell int) int {
	octave, i := cell/cellsOctave+firstOctave, cell%cellsOctave
	if i > 1 {
		i--
	}
	return (octave-1)<<nativeSchema + i
}

// times are the counts by classic bucket. What is observed meanwhile may be among them or not.
func (h *histogram) times() (t Times) {
	for i := range h.cells {
		t[classicOf(i)] += h.cells[i].Load()
	}
	return t
}

// Desc implements prometheus.Metric.
func (h *histogram) Desc() *prometheus.Desc { return h.desc }

// Write implements prometheus.Metric.
func (h *histogram) Write(to *dto.Metric) error {
	var classic Times
	native, count := map[int]int64{}, uint64(0)
	for i := range h.cells {
		if n := h.cells[i].Load(); n > 0 {
			classic[classicOf(i)] += n
			native[nativeOf(i)] += int64(n)
			count += n
		}
	}
	m, err := prometheus.NewConstNativeHistogram(h.desc, count, time.Duration(h.sum.Load()).Seconds(), native, nil, 0,
		nativeSchema, prometheus.DefNativeHistogramZeroThreshold, time.Time{}, h.values...)
	if err != nil {
		return err
	}
	if err := m.Write(to); err != nil {
		return err
	}
	to.Histogram.CreatedTimestamp = nil
	total, bound := uint64(0), firstBucket
	for _, n := range classic[:bucketCount] {
		total += n
		to.Histogram.Bucket = append(to.Histogram.Bucket, &dto.Bucket{CumulativeCount: new(total), UpperBound: new(bound)})
		bound *= 2
	}
	return nil
}

// byClass is a histogram of times for each kind of server and class that was met.
type byClass struct {
	desc *prometheus.Desc
	of   [router.Targets][router.Classes]atomic.Pointer[histogram]
}

func newByClass(name, help string) byClass {
	return byClass{desc: desc(name, help, "target", "class")}
}

func (b *byClass) observe(t router.Target, c router.Class, d time.Duration) {
	h := b.of[t][c].Load()
	if h == nil {
		b.of[t][c].CompareAndSwap(nil, &histogram{desc: b.desc, values: []string{t.String(), c.String()}})
		h = b.of[t][c].Load()
	}
	h.observe(d)
}

func (b *byClass) collect(to sink) {
	for t := range b.of {
		for c := range b.of[t] {
			if h := b.of[t][c].Load(); h != nil {
				to <- h
			}
		}
	}
}
