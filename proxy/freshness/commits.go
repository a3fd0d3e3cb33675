// Package freshness remembers what was committed through the proxy and tells how fresh
// a replica must be to run a read: as of the last commit that the read's consistency
// level promises to show. It knows tables, sessions and tenants as numbers and the
// proxy's monotonic clock; it asks no server and waits for nothing.
//
// A session adds up its transaction's Changes and gives them to Commits.Record before
// its client can learn of the commit. A write whose connection was lost before its
// outcome was known is kept by Commits.Doubt until Commits.Resolve.
// Commits.Required joins both to the freshness one read needs.
package freshness

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router/catalog"
)

// Commits is when what was last committed through this proxy in one database: by
// anybody, by each tenant and by each session, by table. A place is a hash, so memory
// is bounded, and a read may wait for what does not concern it but never the other
// way. The zero value is ready; a Commits is safe for concurrent use.
type Commits struct {
	slots   [1 << 13]atomic.Int64 // of cluster.Moment
	floor   atomic.Int64          // of everybody and all tables
	inDoubt atomic.Pointer[[]*InDoubt]
}

// Scope is whose commits: anybody's, a tenant's or a session's. Zero is nobody's.
type Scope uint64

const (
	// Everybody is the scope of all commits.
	Everybody Scope = 1
	// EveryTenant is the scope of commits of which it is not certain for which tenant
	// they were made.
	EveryTenant Scope = 2
)

var scopeSeed = maphash.MakeSeed()

// TenantScope is the scope of the tenant that value stands for.
func TenantScope(value string) Scope { return Scope(maphash.String(scopeSeed, value)) | 4 }

// SessionScope is the scope of the session numbered id.
func SessionScope(id uint64) Scope { return Scope(id)<<3 | 3 }

// Besides tables, a scope has a place for all its commits, and one for those that
// may have touched any table.
const (
	allTables uint64 = 1 << 32
	anyTable  uint64 = 1 << 33
)

func (cs *Commits) slot(s Scope, table uint64) *atomic.Int64 {
	const mix = 0x9E3779B97F4A7C15 // 2^64 divided by the golden ratio
	return &cs.slots[((uint64(s)*mix^table)*mix)>>(64-13)]
}

// raise makes slot at least now.
func raise(slot *atomic.Int64, now cluster.Moment) {
	for last := slot.Load(); last < int64(now); last = slot.Load() {
		if slot.CompareAndSwap(last, int64(now)) {
			return
		}
	}
}

// last is when the latest commit in a scope that touched one of the tables had been
// made, as far as any client was told; 0 if there was none.
func (cs *Commits) last(s Scope, reads catalog.Footprint) cluster.Moment {
	if !reads.Exact() {
		return max(cluster.Moment(cs.slot(s, allTables).Load()), cluster.Moment(cs.floor.Load()))
	}
	at := max(cs.slot(s, anyTable).Load(), cs.floor.Load())
	for i := range reads.Len() {
		at = max(at, cs.slot(s, uint64(reads.ID(i))).Load())
	}
	return cluster.Moment(at)
}

// note says that ch was committed in a scope by now.
func (cs *Commits) note(s Scope, ch *Changes, now cluster.Moment) {
	raise(cs.slot(s, allTables), now)
	if ch.any {
		raise(cs.slot(s, anyTable), now)
		return
	}
	for _, t := range ch.tables[:ch.n] {
		raise(cs.slot(s, uint64(t)), now)
	}
}

// Record says that a session may just have committed ch. It must be called before the
// session's client can know of the commit, so that a read sent then finds it. known
// reports whether the tables of a version of the catalog still are what they were; if
// not, ch counts for any table, which stays so in ch.
func (cs *Commits) Record(session Scope, ch *Changes, known func(version uint64) bool) {
	ch.any = ch.any || !known(ch.version)
	cs.record(session, ch)
	if !ch.any && !known(ch.version) {
		ch.any = true // it became so meanwhile
		cs.record(session, ch)
	}
}

func (cs *Commits) record(session Scope, ch *Changes) {
	now := cluster.Now()
	cs.note(Everybody, ch, now)
	cs.note(session, ch, now)
	switch {
	case ch.several:
		cs.note(EveryTenant, ch, now)
	case ch.tenant != 0:
		cs.note(ch.tenant, ch, now)
	}
}

// WhileTablesChange runs change, which may give tables another meaning. If it reports
// that it did, all that was recorded by then counts for any table. Reads that come
// meanwhile find no replica fresh enough.
func (cs *Commits) WhileTablesChange(change func() (changed bool)) {
	before := cs.floor.Swap(int64(cluster.Never))
	if change() {
		before = int64(cluster.Now())
	}
	cs.floor.Store(before)
}

// OnNotification says that a client is about to be told of a commit by a
// NotificationResponse, whoever made it and whatever it changed.
func (cs *Commits) OnNotification() {
	now := cluster.Now()
	for _, s := range []Scope{Everybody, EveryTenant} {
		cs.note(s, &Changes{any: true}, now)
	}
}
