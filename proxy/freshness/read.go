package freshness

import (
	"time"

	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// Read is one statement that a replica may run, and who runs it.
type Read struct {
	Level   router.Consistency
	Tables  catalog.Footprint // what it reads
	Session Scope
	Tenant  Scope          // whose rows it reads; 0 if that is none, or not certain
	Began   cluster.Moment // when it arrived
	// Others is that commits are made past this proxy, too, of which nothing is noted.
	Others bool
	// MaxStaleness is how far a replica may be behind at any level; 0 is any.
	MaxStaleness time.Duration
}

// Required is the freshness a replica must have to run a read: everything committed
// before that moment must be visible there. It is cluster.AnyTime if any replica will
// do.
//
// Strong reads must be fresh as of their arrival, and so must all but eventual ones that
// a write in doubt concerns, and those of a tenant or database that others write, too. The others must see the last commit that touched one of
// their tables: of their session; or of that and their tenant; or of anybody in the
// database, which is also what a tenant's read falls back to while it is not certain
// who the tenant is.
func (cs *Commits) Required(r *Read) cluster.Moment {
	at := cluster.Moment(0)
	switch {
	case r.Level == router.Strong || r.Others && r.Level >= router.Tenant || cs.doubtful(r):
		at = r.Began
	case r.Level == router.Session:
		at = cs.last(r.Session, r.Tables)
	case r.Level == router.Tenant && r.Tenant != 0:
		at = max(cs.last(r.Session, r.Tables), cs.last(r.Tenant, r.Tables), cs.last(EveryTenant, r.Tables))
	case r.Level == router.Tenant:
		at = max(cs.last(r.Session, r.Tables), cs.last(Everybody, r.Tables))
	case r.Level == router.Database:
		at = cs.last(Everybody, r.Tables)
	}
	if at == 0 {
		at = cluster.AnyTime // nothing was committed
	}
	if r.MaxStaleness > 0 {
		at = max(at, r.Began-cluster.Moment(r.MaxStaleness))
	}
	return at
}
