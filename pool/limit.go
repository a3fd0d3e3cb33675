package pool

import (
	"sync"
	"sync/atomic"

	"github.com/pgweir/pgweir/pool/backend"
)

// Limit bounds the connections of several pools together (of one database, of
// one user, on one server). Safe for concurrent use.
type Limit struct {
	max     int64
	n       atomic.Int64
	starved atomic.Int64 // pools that found it full and have waiters

	mu      sync.Mutex // protects the fields below
	waiting map[*Pool]struct{}
	members []*Pool
}

// NewLimit bounds to max connections; nil for 0, which is no bound.
func NewLimit(max int) *Limit {
	if max <= 0 {
		return nil
	}
	return &Limit{max: int64(max), waiting: map[*Pool]struct{}{}}
}

func (l *Limit) join(p *Pool) {
	l.mu.Lock()
	l.members = append(l.members, p)
	l.mu.Unlock()
}

func (l *Limit) take() bool {
	if l.n.Add(1) <= l.max {
		return true
	}
	l.n.Add(-1)
	return false
}

// limitsTake takes one place of every limit, or none. A pool that gets none is
// noted, to be served when a place becomes free.
func (p *Pool) limitsTake() bool {
	for i, l := range p.o.Limits {
		if l.take() {
			continue
		}
		l.note(p)
		// The place may have become free between the two steps.
		if l.take() {
			continue
		}
		for _, taken := range p.o.Limits[:i] {
			taken.n.Add(-1)
		}
		return false
	}
	return true
}

func (l *Limit) note(p *Pool) {
	l.mu.Lock()
	if _, known := l.waiting[p]; !known {
		l.waiting[p] = struct{}{}
		l.starved.Add(1)
	}
	l.mu.Unlock()
}

// limitsGive frees one place of every limit and serves the pools that wait for one. Not under p.mu.
func (p *Pool) limitsGive() {
	for _, l := range p.o.Limits {
		l.n.Add(-1)
	}
	for _, l := range p.o.Limits {
		if l.starved.Load() == 0 {
			continue
		}
		l.mu.Lock()
		starved := l.waiting
		l.waiting = map[*Pool]struct{}{}
		l.starved.Store(0)
		l.mu.Unlock()
		for s := range starved {
			s.mu.Lock()
			retired := s.serveLocked()
			s.mu.Unlock()
			s.closeAll(retired)
		}
	}
}

// starvedElsewhere reports whether another pool waits for a place of a limit of
// p's, so that keeping an idle connection would starve it.
func (p *Pool) starvedElsewhere() bool {
	for _, l := range p.o.Limits {
		if l.starved.Load() > 0 {
			return true
		}
	}
	return false
}

// reclaim closes one idle connection of another pool for each full limit p waits for. Not under p.mu.
func (p *Pool) reclaim() {
	for _, l := range p.o.Limits {
		if l.starved.Load() == 0 {
			continue
		}
		l.mu.Lock()
		members := l.members
		l.mu.Unlock()
		for _, other := range members {
			if other != p && other.giveUpIdle() {
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
	p.closeAll([]*backend.Backend{b})
	return true
}
