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

// Retired reports whether the sessions that use p ought to end: the configuration in force
// lets nobody in as their user, or has them logged in to something else.
func (p *Pools) Retired() bool { return p.terms.Load().Effective == config.Effective{} }
