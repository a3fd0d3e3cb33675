package pool

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Limit bounds the connections of several pools together (of one database, of
// one user, on one server). Safe for concurrent use.
//
// A pool that finds it full while somebody waits is starved. It is served when
// a place becomes free, and others see to it that one does: they close idle
// connections at once, and one given back if the starved pool's caller has waited
// longer than their own. So callers of all pools wait about equally long.
type Limit struct {
	order   uint64 // in which limits are locked
	starved atomic.Int64
	over    atomic.Bool // more is open than may be, since it was made narrower

	mu      sync.Mutex // protects the fields below; taken under a Pool's mu, never the other way
	max     int        // 0 is no bound
	n       int
	waiting map[*Pool]time.Time // starved pools, and since when the caller in front waits
	members []*Pool             // replaced, not changed
}

// handOver is how much longer another pool's caller must have waited for a
// connection to be closed in its favour while a pool's own callers wait.
// Each hand-over costs a login.
const handOver = 100 * time.Millisecond

var limits atomic.Uint64

// NewLimit bounds to max connections; 0 is no bound.
func NewLimit(max int) *Limit {
	return &Limit{max: max, order: limits.Add(1), waiting: map[*Pool]time.Time{}}
}

// Set has the limit be another. What is open beyond it is closed as it is given back, and
// what is idle at once.
func (l *Limit) Set(max int) {
	l.mu.Lock()
	wider := max == 0 || l.max > 0 && max > l.max
	l.max = max
	l.over.Store(max > 0 && l.n > max)
	starved := make([]*Pool, 0, len(l.waiting))
	for p := range l.waiting {
		starved = append(starved, p)
	}
	members := l.members
	l.mu.Unlock()
	if wider {
		for _, p := range starved {
			p.serve()
		}
		return
	}
	for _, p := range members {
		for l.over.Load() && p.giveUpIdle() {
		}
	}
}

func (l *Limit) join(p *Pool) {
	l.mu.Lock()
	l.members = append(slices.Clone(l.members), p)
	l.mu.Unlock()
}

func (l *Limit) leave(p *Pool) {
	l.mu.Lock()
	l.members = slices.DeleteFunc(slices.Clone(l.members), func(m *Pool) bool { return m == p })
	delete(l.waiting, p)
	l.starved.Store(int64(len(l.waiting)))
	l.mu.Unlock()
}

// limitsTake takes one place of every limit, or none. If somebody waits for it,
// since is when he came, and the pool is noted as starved by every full limit.
func (p *Pool) limitsTake(since time.Time) bool {
	// All at once: a place taken and put back would be missed by who looked meanwhile.
	for _, l := range p.o.Limits {
		l.mu.Lock()
	}
	free := true
	for _, l := range p.o.Limits {
		if l.max > 0 && l.n >= l.max {
			free = false
			if !since.IsZero() {
				l.waiting[p] = since
				l.starved.Store(int64(len(l.waiting)))
			}
		}
	}
	for _, l := range p.o.Limits {
		if free {
			l.n++
		}
		l.mu.Unlock()
	}
	return free
}

// limitsGive frees one place of every limit and serves the pools that wait for
// one, the longest first. Not under p.mu.
func (p *Pool) limitsGive() {
	var starved []*Pool
	for _, l := range p.o.Limits {
		starved = append(starved, l.give()...)
	}
	for _, s := range starved {
		s.serve()
	}
}

// give frees one place and returns the pools that may want it; those that get none note it again.
func (l *Limit) give() (starved []*Pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n--
	if l.over.Load() && l.n <= l.max {
		l.over.Store(false)
	}
	if len(l.waiting) == 0 {
		return nil
	}
	for s := range l.waiting {
		starved = append(starved, s)
	}
	slices.SortFunc(starved, func(a, b *Pool) int { return l.waiting[a].Compare(l.waiting[b]) })
	clear(l.waiting)
	l.starved.Store(0)
	return starved
}

// yieldsLocked reports whether a connection given back is to be closed because
// another pool is starved: at once if nobody waits here, else if its caller has
// waited clearly longer.
func (p *Pool) yieldsLocked() bool {
	var own time.Time
	if front := p.waiters.front; front != nil {
		own = front.since
	}
	for _, l := range p.o.Limits {
		if l.starved.Load() > 0 && l.starves(p, own) || l.over.Load() {
			return true
		}
	}
	return false
}

// starves reports whether a pool other than p waits, longer than since own if that is set.
func (l *Limit) starves(p *Pool, own time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, since := range l.waiting {
		if s != p && (own.IsZero() || since.Add(handOver).Before(own)) {
			return true
		}
	}
	return false
}

// reclaim closes one idle connection of another pool for each full limit that
// starves p. Not under p.mu.
func (p *Pool) reclaim() {
	for _, l := range p.o.Limits {
		if l.starved.Load() == 0 {
			continue
		}
		l.mu.Lock()
		_, waits := l.waiting[p]
		members := l.members
		l.mu.Unlock()
		for _, other := range members {
			if waits && other != p && other.giveUpIdle() {
				break
			}
		}
	}
}

func (p *Pool) giveUpIdle() bool {
	p.mu.Lock()
	if len(p.idle) == 0 {
		p.mu.Unlock()
		return false
	}
	b := p.dropIdleLocked(0)
	p.mu.Unlock()
	p.Discard(b)
	return true
}
