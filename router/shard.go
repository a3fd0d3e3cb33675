package router

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pgweir/pgweir/router/tenant"
)

// shardCount spreads locks and eviction; a power of two.
const shardCount = 64

// entry is one cached key. All but used is written before it is shared.
type entry struct {
	hash uint64
	key  string
	kind keyKind
	plan *Plan
	// dependent: the plan depends on a literal, so it is found by the exact text;
	// this entry is then that one's parent.
	dependent bool
	parent    *entry
	used      atomic.Uint32 // lives left in the clock, up to maxUsed
	slot      int           // in the ring; guarded by the shard's lock
}

// maxUsed is how many turns of the clock a hot entry survives without a hit. A
// new entry has none, so a flood of texts seen once evicts itself.
const maxUsed = 3

// shard is a part of the cache with a clock of its own.
type shard struct {
	limit int

	mu    sync.RWMutex // guards the fields below
	byKey map[uint64]*entry
	ring  []*entry // nil where one was removed
	free  []int
	hand  int
	bytes int
}

func (s *shard) init(limit int) {
	s.limit = limit
	s.byKey = make(map[uint64]*entry)
}

func (g *generation) shard(hash uint64) *shard { return &g.shards[hash>>58&(shardCount-1)] }

// lookup finds the entry of key made under parent. Keys are compared whole, so
// no collision of hashes gives a wrong plan.
func (s *shard) lookup(hash uint64, key []byte, kind keyKind, parent *entry) *entry {
	s.mu.RLock()
	e := s.byKey[hash]
	s.mu.RUnlock()
	if e == nil || e.kind != kind || e.parent != parent || e.key != string(key) {
		return nil
	}
	if u := e.used.Load(); u < maxUsed {
		e.used.Store(u + 1)
	}
	return e
}

// insert keeps e unless it would crowd out too much, and evicts to make room.
// It reports whether e was kept.
func (g *generation) insert(e *entry, evictions *counters) bool {
	s := g.shard(e.hash)
	cost := e.cost()
	if cost > s.limit/4 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.byKey[e.hash]; old != nil {
		s.removeLocked(old)
	}
	for s.bytes+cost > s.limit && s.evictLocked() {
		evictions.add(e.hash)
	}
	s.addLocked(e, cost)
	return true
}

func (s *shard) addLocked(e *entry, cost int) {
	if n := len(s.free); n > 0 {
		e.slot = s.free[n-1]
		s.free = s.free[:n-1]
		s.ring[e.slot] = e
	} else {
		e.slot = len(s.ring)
		s.ring = append(s.ring, e)
	}
	s.byKey[e.hash] = e
	s.bytes += cost
}

func (s *shard) removeLocked(e *entry) {
	delete(s.byKey, e.hash)
	s.ring[e.slot] = nil
	s.free = append(s.free, e.slot)
	s.bytes -= e.cost()
}

// evictLocked removes the first entry the hand finds without lives; it takes at
// most maxUsed+1 turns. It reports whether there was one.
func (s *shard) evictLocked() bool {
	if len(s.byKey) == 0 {
		return false
	}
	for {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		e := s.ring[s.hand]
		s.hand++
		if e == nil {
			continue
		}
		u := e.used.Load()
		if u == 0 {
			s.removeLocked(e)
			return true
		}
		e.used.Store(u - 1)
	}
}

func (s *shard) remove(hash uint64, key []byte, kind keyKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byKey[hash]; e != nil && e.kind == kind && e.key == string(key) {
		s.removeLocked(e)
	}
}

func (s *shard) size() (entries, bytes int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.byKey), s.bytes
}

// entryOverhead is an entry's own size with its places in the map and the ring.
const entryOverhead = int(unsafe.Sizeof(entry{})) + 64

func (e *entry) cost() int { return entryOverhead + len(e.key) + e.plan.cost() }

// cost estimates the bytes p holds.
func (p *Plan) cost() int {
	if p == nil {
		return 0
	}
	n := int(unsafe.Sizeof(*p)) + p.Reads.Size() + p.Writes.Size() + len(p.Tx.Name) + len(p.SQL.Name) + len(p.Vacates) + len(p.Own.Name) + len(p.Own.Value)
	for _, list := range [][]string{p.Touches, p.Relations, p.Functions} {
		for _, s := range list {
			n += int(unsafe.Sizeof(s)) + len(s)
		}
	}
	for _, part := range p.Parts {
		n += part.cost()
	}
	for _, s := range p.Sets {
		n += int(unsafe.Sizeof(s)) + len(s.Name) + len(s.Value)
	}
	for _, v := range p.Variants {
		n += int(unsafe.Sizeof(v)) + len(v.User) + len(v.Application) + int(unsafe.Sizeof(*p))
	}
	if f := p.Tenant; f != nil {
		n += int(unsafe.Sizeof(*f)) + len(f.Tables)*(int(unsafe.Sizeof(tenant.Table{}))+80) +
			len(f.Values)*(int(unsafe.Sizeof(tenant.Value{}))+64) + len(f.Reason) + len(f.Fingerprint)
	}
	return n + p.SQL.Inner.cost()
}

// counters is one number in several places, so that cores do not fight for it.
type counters [8]struct {
	n atomic.Uint64
	_ [56]byte
}

func (c *counters) add(hash uint64) { c[hash&7].n.Add(1) }

func (c *counters) sum() (n uint64) {
	for i := range c {
		n += c[i].n.Load()
	}
	return n
}
