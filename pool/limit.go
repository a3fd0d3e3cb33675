package pool

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Limit bounds the connections of several pools together (of one database, of
// one user, on one server): to a number, and to what the server lets in (see full.go).
// Safe for concurrent use.
//
// A pool that finds it full while somebody waits is starved. It is served when
// a place becomes free, and others see to it that one does: they close idle
// connections at once, and one given back if the starved pool's caller has waited
// longer than their own. So callers of all pools wait about equally long.
type Limit struct {
	order   uint64 // in which limits are locked
	refused atomic.Uint64
	// pressed is not 0 while a connection given back may have to make way for somebody.
	pressed atomic.Int64

	mu         sync.Mutex          // protects the fields below; taken under a Pool's mu, never the other way
	max        int                 // 0 is no bound of ours
	reserve    int                 // of these, for privileged pools
	n          int                 // places taken
	dialing    int                 // of these, by logins under way
	privileged int                 // of these, by privileged pools
	claims     int                 // callers of Claim that the server has refused
	waiting    map[*Pool]time.Time // starved pools, and since when the caller in front waits
	members    []*Pool             // replaced, not changed
	full       full
}

// handOver is how much longer another pool's caller must have waited for a
// connection to be closed in its favour while a pool's own callers wait.
// Each hand-over costs a login.
const handOver = 100 * time.Millisecond

// precedence is how much longer callers of a privileged pool count as having waited.
const precedence = time.Hour

var limits atomic.Uint64

// NewLimit bounds to max connections, 0 being what the server lets in. Of these, reserve
// are for privileged pools only.
func NewLimit(max, reserve int) *Limit {
	return &Limit{max: max, reserve: reserve, order: limits.Add(1), waiting: map[*Pool]time.Time{}}
}

// Set has the limit bound to other numbers, as NewLimit does. What is open beyond it is closed as it is given back, and
// what is idle at once.
func (l *Limit) Set(max, reserve int) {
	l.mu.Lock()
	l.max, l.reserve = max, reserve
	l.pressLocked()
	starved, members := l.starvedLocked(), l.members
	l.mu.Unlock()
	serveAll(starved)
	for _, p := range members {
		for l.isOver(p.o.Privileged) && p.giveUpIdle() {
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
	l.pressLocked()
	l.mu.Unlock()
}

// boundLocked is how many places there are for a pool.
func (l *Limit) boundLocked(privileged bool) int {
	bound := l.full.bound()
	if l.max > 0 {
		bound = min(bound, l.max)
	}
	if !privileged {
		bound -= max(l.reserve-l.privileged, 0)
	}
	return bound
}

// pressLocked notes whether connections must make way.
func (l *Limit) pressLocked() {
	pressed := len(l.waiting) + l.claims
	if l.overLocked(false) {
		pressed++
	}
	l.pressed.Store(int64(pressed))
}

// overLocked reports whether there are more connections than there may be. Of logins under way
// nobody knows what becomes.
func (l *Limit) overLocked(privileged bool) bool { return l.n-l.dialing > l.boundLocked(privileged) }

// addLocked counts places in or out.
func (l *Limit) addLocked(p *Pool, n int) {
	l.n += n
	if p.o.Privileged {
		l.privileged += n
	}
	l.pressLocked()
}

// limitsTake takes one place of every limit, or none. If somebody waits for it,
// since is when he came, and the pool is noted as starved by every full limit.
func (p *Pool) limitsTake(since time.Time) bool {
	// All at once: a place taken and put back would be missed by who looked meanwhile.
	for _, l := range p.o.Limits {
		l.mu.Lock()
	}
	free, waits := true, !since.IsZero()
	for _, l := range p.o.Limits {
		if l.n >= l.boundLocked(p.o.Privileged) && !(waits && l.mayProbeLocked(p)) {
			free = false
			if waits {
				l.waiting[p] = p.o.rank(since)
				l.pressLocked()
			}
		}
	}
	for _, l := range p.o.Limits {
		if free {
			l.dialing++
			l.addLocked(p, 1)
		}
		l.mu.Unlock()
	}
	return free
}

// rank is when a caller counts as having come.
func (o *Options) rank(since time.Time) time.Time {
	if o.Privileged && !since.IsZero() {
		return since.Add(-precedence)
	}
	return since
}

// limitsGive frees one place of every limit and serves the pools that wait for
// one, the longest first. Not under p.mu.
func (p *Pool) limitsGive() {
	for _, l := range p.o.Limits {
		l.mu.Lock()
		l.addLocked(p, -1)
		starved := l.starvedLocked()
		l.mu.Unlock()
		serveAll(starved)
	}
}

func serveAll(pools []*Pool) {
	for _, p := range pools {
		p.serve()
	}
}

// starvedLocked takes out the pools that may want a place; those that get none note it again.
func (l *Limit) starvedLocked() (starved []*Pool) {
	if len(l.waiting) == 0 {
		return nil
	}
	for s := range l.waiting {
		starved = append(starved, s)
	}
	slices.SortFunc(starved, func(a, b *Pool) int { return l.waiting[a].Compare(l.waiting[b]) })
	clear(l.waiting)
	l.pressLocked()
	return starved
}

// yieldsLocked reports whether a connection given back is to be closed because there are
// more than there may be, or another pool is starved: at once if nobody waits here, else
// if its caller has waited clearly longer.
func (p *Pool) yieldsLocked() bool {
	var own time.Time
	if front := p.waiters.front; front != nil {
		own = p.o.rank(front.since)
	}
	for _, l := range p.o.Limits {
		if l.pressed.Load() > 0 && l.presses(p, own) {
			return true
		}
	}
	return false
}

// presses reports whether a connection of p must make way: for another pool that waits,
// longer than since own if that is set, for a claim, or because there are too many.
func (l *Limit) presses(p *Pool, own time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.claims > 0 || l.overLocked(p.o.Privileged) {
		return true
	}
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
		if l.pressed.Load() == 0 {
			continue
		}
		l.mu.Lock()
		_, waits := l.waiting[p]
		l.mu.Unlock()
		if waits {
			l.reclaimFor(p)
		}
	}
}

// reclaimFor closes one idle connection of a pool other than p, if there is one.
func (l *Limit) reclaimFor(p *Pool) {
	l.mu.Lock()
	members := l.members
	l.mu.Unlock()
	for _, other := range members {
		if other != p && other.giveUpIdle() {
			return
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
	p.leave(b)
	p.Discard(b)
	return true
}
