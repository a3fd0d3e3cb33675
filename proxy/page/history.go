package page

import (
	"time"

	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/router"
)

const (
	// kept is how many points there are: of the last five minutes.
	kept = 300
	// apart is between the samples that a window begins with, and window how long it is about.
	apart  = 10 * time.Second
	window = time.Minute
)

// Point is what happened in one second, in rates.
type Point struct {
	At      int64   `json:"at"` // milliseconds since 1970
	Replica float64 `json:"replica"`
	Primary float64 `json:"primary"`
	Local   float64 `json:"local"`
	P50     float64 `json:"p50"` // milliseconds
	P99     float64 `json:"p99"`
	Errors  float64 `json:"errors"`
	// Waits: for a connection, for a replica to be fresh enough, for a primary.
	Pool      float64 `json:"pool"`
	Freshness float64 `json:"freshness"`
	NoPrimary float64 `json:"no_primary"`
}

// history are the last points. The zero value has none.
type history struct {
	ring [kept]Point
	n    int // that were added
}

func (h *history) add(p Point) {
	h.ring[h.n%kept] = p
	h.n++
}

// points are all of them, the oldest first.
func (h *history) points() []Point {
	if h.n <= kept {
		return h.ring[:h.n:h.n]
	}
	first := h.n % kept
	return append(append([]Point(nil), h.ring[first:]...), h.ring[:first]...)
}

// sample is what was counted up to a moment.
type sample struct {
	at time.Time
	*metrics.Counts
}

// acquired is how often connections were taken up to a moment, by server.
type acquired struct {
	at time.Time
	by map[string]uint64
}

// sampler makes points of what was counted, and keeps what the last minute began with.
type sampler struct {
	last     sample
	earlier  []sample // the oldest first; the first is that of the window
	acquired []acquired
	// slow is what costs more to find out, of a few seconds ago.
	slow slow
}

// add takes what was counted up to now, and returns what happened since the last time.
func (s *sampler) add(now time.Time, c *metrics.Counts) Point {
	before := s.last
	s.last = sample{now, c}
	if before.Counts == nil {
		before = s.last
	}
	if n := len(s.earlier); n == 0 || now.Sub(s.earlier[n-1].at) >= apart {
		s.earlier = append(s.earlier, s.last)
	}
	for len(s.earlier) > 1 && now.Sub(s.earlier[1].at) >= window {
		s.earlier = s.earlier[1:]
	}
	return point(before, s.last)
}

// per is what there was of something in each second; none in no time.
func per(d time.Duration, before, after uint64) float64 {
	if d <= 0 {
		return 0
	}
	return float64(after-before) / d.Seconds()
}

func point(before, after sample) Point {
	d := after.at.Sub(before.at)
	took := answered(before, after)
	return Point{
		At:      after.at.UnixMilli(),
		Replica: per(d, ran(before, router.TargetReplica), ran(after, router.TargetReplica)),
		Primary: per(d, ran(before, router.TargetPrimary), ran(after, router.TargetPrimary)),
		Local:   per(d, ran(before, router.TargetAny), ran(after, router.TargetAny)),
		P50:     ms(took.Quantile(0.5)), P99: ms(took.Quantile(0.99)),
		Pool:      per(d, before.Waits[metrics.WaitPool], after.Waits[metrics.WaitPool]),
		Freshness: per(d, before.Waits[metrics.WaitFreshness], after.Waits[metrics.WaitFreshness]),
		NoPrimary: per(d, before.Waits[metrics.WaitPrimary], after.Waits[metrics.WaitPrimary]),
		Errors:    per(d, before.ProxyErrors+before.ServerErrors, after.ProxyErrors+after.ServerErrors),
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// ran is how many statements ran on a kind of server.
func ran(s sample, t router.Target) (n uint64) {
	for r := range s.Statements[t] {
		for _, c := range s.Statements[t][r] {
			n += c
		}
	}
	return n
}

// reads is how many of them were reads.
func reads(s sample, t router.Target) (n uint64) {
	for r := range s.Statements[t] {
		n += s.Statements[t][r][router.ClassRead]
	}
	return n
}

// answered are the times of all batches that servers answered.
func answered(before, after sample) metrics.Times {
	return of(before, after, router.TargetReplica).Plus(of(before, after, router.TargetPrimary))
}

// of are those that one kind of server answered.
func of(before, after sample, t router.Target) metrics.Times {
	return after.Answered[t].Since(before.Answered[t])
}

// shares are what part of the connections taken lately each server has, and how many in a second.
func (s *sampler) shares(now time.Time, taken map[string]uint64) (rates map[string]float64) {
	s.acquired = append(s.acquired, acquired{now, taken})
	for len(s.acquired) > 1 && now.Sub(s.acquired[1].at) >= apart {
		s.acquired = s.acquired[1:]
	}
	before := s.acquired[0]
	rates = map[string]float64{}
	for server, n := range taken {
		if b, known := before.by[server]; known && n >= b { // pools go, and their counts with them
			rates[server] = per(now.Sub(before.at), b, n)
		}
	}
	return rates
}
