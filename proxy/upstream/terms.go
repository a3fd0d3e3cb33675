package upstream

import (
	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/router"
)

// Terms are what the configuration in force says of a user in a database. They never
// change: reading the configuration again makes others.
type Terms struct {
	config.Effective
	Route       router.Route
	Consistency router.Consistency
	// Retired is that the sessions ought to end: the configuration in force lets nobody in as
	// their user, or has them logged in to something else. The rest is what was in force before.
	Retired bool
}

func newTerms(eff config.Effective) *Terms {
	t := &Terms{Effective: eff}
	t.Route, _ = router.ParseRoute(eff.Route)
	t.Consistency, _ = router.ParseConsistency(eff.Consistency)
	return t
}

// Terms are those in force.
func (p *Pools) Terms() *Terms { return p.terms.Load() }

// Timeouts are those in force.
func (p *Pools) Timeouts() config.Timeouts { return p.Terms().Timeouts }

// Retired reports whether the sessions that use p ought to end.
func (p *Pools) Retired() bool { return p.terms.Load().Retired }

// retire has the sessions that use p end.
func (p *Pools) retire() {
	t := *p.Terms()
	t.Retired = true
	p.terms.Store(&t)
}

// serves reports whether p is for clients of such terms: what they share is where they say.
func (p *Pools) serves(eff *config.Effective) bool {
	was := &p.Config
	return eff.Cluster == was.Cluster && eff.Database == was.Database && eff.ServerUser == was.ServerUser
}
