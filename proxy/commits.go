package proxy

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// commits is when what was last committed through this proxy in one database: for
// everybody, each tenant and each session, by table. A place is a hash, so its memory
// is bounded and a read may wait for what does not concern it, but never the other
// way. Moments older than what all replicas have cost nothing. Safe for concurrent use.
type commits struct {
	slots  [1 << 13]atomic.Int64 // of cluster.Moment
	floor  atomic.Int64          // of everybody and all tables
	unsure atomic.Pointer[[]*unsureWrite]
}

// scope is whose commits: everybody's, a tenant's or a session's.
type scope uint64

const (
	everybody   scope = 1
	everyTenant scope = 2 // by a session of which it is not certain whose tenant it worked for
)

var scopeSeed = maphash.MakeSeed()

func tenantScope(value string) scope { return scope(maphash.String(scopeSeed, value)) | 4 }

func sessionScope(id uint64) scope { return scope(id)<<3 | 3 }

// anyFootprint is of what may touch any table.
var anyFootprint catalog.Footprint

// Besides tables, a scope has a place for all its commits, and one for those that
// may have touched any table.
const (
	allTables uint64 = 1 << 32
	anyTable  uint64 = 1 << 33
)

func (cs *commits) slot(s scope, table uint64) *atomic.Int64 {
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

// last is a moment at which all that was committed in a scope and touched the tables
// had been, as far as any client was told.
func (cs *commits) last(s scope, reads catalog.Footprint) cluster.Moment {
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
func (cs *commits) note(s scope, ch *changes, now cluster.Moment) {
	raise(cs.slot(s, allTables), now)
	if ch.any {
		raise(cs.slot(s, anyTable), now)
		return
	}
	for _, t := range ch.tables[:ch.n] {
		raise(cs.slot(s, uint64(t)), now)
	}
}

// while runs change, which may give tables another meaning; if it reports so, all that
// was noted by then counts for any table. Reads that come meanwhile find no replica
// fresh enough.
func (cs *commits) while(change func() (other bool)) {
	before := cs.floor.Swap(int64(cluster.Never))
	if change() {
		before = int64(cluster.Now())
	}
	cs.floor.Store(before)
}

// heard says that a client is about to be told of a commit by a notification, whoever
// made it and whatever it changed.
func (cs *commits) heard() {
	now := cluster.Now()
	for _, s := range []scope{everybody, everyTenant} {
		cs.note(s, &changes{any: true}, now)
	}
}

// changes is what a transaction may have changed so far.
type changes struct {
	wrote   bool
	any     bool  // any table
	several bool  // for more tenants than one, or for nobody knows which
	n       uint8 // of tables
	tables  [6]uint32
	version uint64 // of the catalog that says so
	tenant  scope  // 0 is none
}

// add takes in what a plan writes, if that is certain, for a tenant (0 is none), if
// that is.
func (ch *changes) add(writes catalog.Footprint, version uint64, tenant scope, sure bool) {
	if !ch.wrote {
		ch.wrote, ch.version, ch.tenant = true, version, tenant
	}
	if !sure || !writes.Exact() || ch.tenant != tenant {
		ch.several = true
	}
	if !writes.Exact() || ch.version != version {
		ch.any = true
	}
	for i := 0; i < writes.Len() && !ch.any; i++ {
		ch.addTable(writes.ID(i))
	}
}

func (ch *changes) addTable(id uint32) {
	for _, t := range ch.tables[:ch.n] {
		if t == id {
			return
		}
	}
	if int(ch.n) == len(ch.tables) {
		ch.any = true
		return
	}
	ch.tables[ch.n] = id
	ch.n++
}

// concerns reports whether the changes may be among what is read.
func (ch *changes) concerns(reads catalog.Footprint) bool {
	if ch.any || !reads.Exact() {
		return true
	}
	for i := range reads.Len() {
		for _, t := range ch.tables[:ch.n] {
			if t == reads.ID(i) {
				return true
			}
		}
	}
	return false
}

// noteCommit says that what the session changed since BEGIN may just have been
// committed. It is called before the client can know.
func (c *client) noteCommit() {
	d, ch := c.o.db, &c.tx.changes
	if d.stale() || d.plans.Version() != ch.version {
		ch.any = true
	}
	c.noteIn(ch)
	if !ch.any && (d.stale() || d.plans.Version() != ch.version) {
		ch.any = true // it became so meanwhile
		c.noteIn(ch)
	}
}

func (c *client) noteIn(ch *changes) {
	cs, now := &c.o.db.commits, cluster.Now()
	cs.note(everybody, ch, now)
	cs.note(sessionScope(c.id), ch, now)
	switch {
	case len(c.s.cfg.Tenant.Settings) == 0:
	case ch.several:
		cs.note(everyTenant, ch, now)
	case ch.tenant != 0:
		cs.note(ch.tenant, ch, now)
	}
}

// mayWrite takes in what an op may write, unless it is proved to write nothing.
func (c *client) mayWrite(u *unit, o *op) {
	if o.quiet || !o.executes() {
		return
	}
	p := o.plan
	switch {
	case o.errored && p != nil && !u.refused && !commitsWithin(p):
		// It was undone, and with it the transaction or the part since a savepoint.
	case p == nil || u.refused:
		c.tx.changes.add(catalog.Footprint{}, 0, 0, false)
	case !harmless(p):
		tenant, sure := c.tenantNow()
		c.tx.changes.add(p.Writes, p.Version, tenant, sure && !u.touches())
	}
}

// touches reports whether some op may set a custom setting, the tenant's perhaps.
func (u *unit) touches() bool {
	for i := range u.ops {
		if p := u.ops[i].plan; p != nil && len(p.Touches)+len(p.Sets) > 0 {
			return true
		}
	}
	return u.sets
}

// tenantNow is the tenant the session works for, 0 if it is none, and whether that is certain.
func (c *client) tenantNow() (tenant scope, sure bool) {
	if len(c.s.cfg.Tenant.Settings) == 0 {
		return 0, true
	}
	if value, ok := c.tenant(); ok {
		tenant = tenantScope(value)
	}
	return tenant, c.settingsKnown() && c.pins&(router.PinSetting|router.PinOpaque) == 0
}

// noteWrites notes what a unit on the primary may have written or committed. It is
// called before the client gets to know: a read it then sends finds the note.
func (c *client) noteWrites(u *unit, ended bool) {
	for i := range u.queue {
		c.mayWrite(u, &u.queue[i])
	}
	if c.tx.changes.wrote && (ended || c.tx.commits) {
		c.noteCommit()
		c.tx.changes, c.tx.commits = changes{}, false
	}
	if c.tx.ddl && ended {
		c.tx.ddl = false
		c.changesCatalog(u)
	}
}

// foretell notes, before a frame of an op's answer may reach the client, what that
// may tell it to be committed: a command tag comes before ReadyForQuery does.
func (c *client) foretell(u *unit, o *op) {
	if c.role == cluster.RoleReplica || o.quiet || !o.executes() {
		return
	}
	p := o.plan
	if c.tx.open && p != nil && p.Tx.Verb != router.TxCommit && !commitsWithin(p) {
		return
	}
	if c.mayWrite(u, o); c.tx.changes.wrote {
		c.noteCommit()
	}
	if p != nil && p.Flags.Has(router.FlagDDL) {
		c.changesCatalog(u)
	}
}

func (c *client) changesCatalog(u *unit) {
	u.ddl++
	c.o.db.catalogChanged()
}

// redefined reports whether what the unit used may have been changed meanwhile by others.
func (c *client) redefined(u *unit) bool {
	return c.o.db.changes.Load()-u.ddl != c.o.db.seen.Load()
}

// commitsWithin reports whether a statement may commit before it ends: a procedure,
// a DO block, VACUUM and its like, transaction control among other statements.
func commitsWithin(p *router.Plan) bool {
	return p.Flags&(router.FlagTxControl|router.FlagStays) != 0 ||
		!harmless(p) && (p.Reason == router.ReasonUtility || p.Reason == router.ReasonUnparsed || p.Reason == router.ReasonMulti)
}

func harmless(p *router.Plan) bool {
	switch p.Class {
	case router.ClassRead, router.ClassSetting, router.ClassEmpty:
		return true
	case router.ClassTx:
		return p.Tx.Verb != router.TxNone && p.Tx.Verb != router.TxPrepare
	}
	return false
}
