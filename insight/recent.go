package insight

import (
	"slices"
	"time"
)

// Recent is how often statements of a Book were called in each of the last intervals, and what
// they took. It takes room only for those that were called. One goroutine uses it at a time.
type Recent struct {
	book *Book
	most int      // intervals
	last []called // up to the last sample, by the place in book.order
	ring []interval
}

// called are calls of the statement at a place in the order of its Book.
type called struct {
	place uint32
	calls uint32
	took  time.Duration
}

type interval struct {
	end    time.Time
	length time.Duration
	called []called // by place
}

// Moment is what was called of one statement in an interval.
type Moment struct {
	End    time.Time
	Length time.Duration
	Calls  uint64
	Took   time.Duration
}

// NewRecent makes a Recent of the last intervals, which begins with the next sample.
func (b *Book) NewRecent(intervals int) *Recent { return &Recent{book: b, most: intervals} }

// Sample ends an interval and begins the next one.
func (r *Recent) Sample(now time.Time) {
	r.book.mu.Lock()
	all := r.book.order // what is there never changes
	r.book.mu.Unlock()
	first := r.last == nil
	in := interval{end: now}
	if n := len(r.ring); n > 0 {
		in.length = now.Sub(r.ring[n-1].end)
	}
	r.last = slices.Grow(r.last, len(all)-len(r.last)+1)[:len(all)] // never nil again
	for i, s := range all {
		c := called{place: uint32(i)}
		for target := range targets {
			c.calls += s.counts[target].calls.Load()
			c.took += time.Duration(s.counts[target].times.nanos.Load())
		}
		was := r.last[i]
		if r.last[i] = c; !first && c.calls != was.calls {
			in.called = append(in.called, called{c.place, c.calls - was.calls, c.took - was.took})
		}
	}
	if r.ring = append(r.ring, in); len(r.ring) > r.most+1 { // the first only says when the second began
		r.ring = slices.Delete(r.ring, 0, 1)
	}
}

// Of are the last intervals of s, the oldest first.
func (r *Recent) Of(s *Statement) []Moment {
	r.book.mu.Lock()
	place := slices.Index(r.book.order, s)
	r.book.mu.Unlock()
	if place < 0 || len(r.ring) == 0 {
		return nil
	}
	var moments []Moment
	for _, in := range r.ring[1:] {
		m := Moment{End: in.end, Length: in.length}
		if i, found := slices.BinarySearchFunc(in.called, uint32(place), func(c called, place uint32) int { return int(c.place) - int(place) }); found {
			m.Calls, m.Took = uint64(in.called[i].calls), in.called[i].took
		}
		moments = append(moments, m)
	}
	return moments
}
