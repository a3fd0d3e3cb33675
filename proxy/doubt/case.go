package doubt

import (
	"context"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// Case is what it takes to resolve the doubts of one session, outside a transaction. What its
// methods return is what the statements meant for the server connection.
type Case struct {
	*Doubts
	State       *session.State // takes in what they left
	Service     *upstream.Service
	Up          *upstream.Pools
	Application string
	Backend     *backend.Backend
}

// Known resolves doubts that the catalog, if it is up to date, can tell by now.
func (c Case) Known() []session.Effects {
	if !c.Any() || c.Up.Database.Stale() {
		return nil
	}
	return c.resolve(c.plan, false)
}

// All resolves all doubts: it asks the server of what the catalog does not know, and where that
// does not help waits for the catalog.
func (c Case) All(ctx context.Context) []session.Effects {
	db, left := c.Up.Database, c.Known()
	if few := c.ask(ctx); few != nil {
		left = append(left, c.resolve(func(text string) *router.Plan { return db.Plans.Knowing([]byte(text), few) }, false)...)
		if few.Lasting && !db.Stale() {
			db.CatalogChanged(upstream.Change{}) // somebody else made it
		}
	}
	if c.Backend.AtRest() != nil { // it was lost while it was asked
		left = append(left, session.Effects{Residue: session.Opaque})
	}
	if !c.Any() {
		return left
	}
	if !db.Stale() {
		db.CatalogChanged(upstream.Change{})
	}
	if db.AwaitCatalog(ctx); db.Stale() {
		left = append(left, session.Effects{Residue: session.Opaque})
	}
	return append(left, c.resolve(c.plan, true)...)
}

// ask asks the server of the relations in the texts in doubt; nil if that cannot tell.
func (c Case) ask(ctx context.Context) *catalog.Few {
	snapshot := c.Up.Database.Plans.Snapshot()
	if !c.Any() || c.cause&redefined != 0 || !snapshot.Loaded() {
		return nil
	}
	var names []string
	for _, t := range c.texts {
		for _, r := range c.plan(t.text).Relations {
			names = append(names, r[strings.IndexByte(r, '.')+1:])
		}
	}
	c.Service.Metrics.ReadBack()
	few, err := catalog.AskFew(ctx, c.Backend.QueryParam, snapshot, names)
	if err != nil {
		return nil
	}
	few.Add(c.made)
	return few
}

func (c Case) plan(text string) *router.Plan {
	return c.Up.Database.Plans.Get([]byte(text)).For(c.Up.Key.User, c.Application)
}

// resolve takes in what statements in doubt have left behind, as far as their plans tell, or
// all if it is the last word.
func (c Case) resolve(plan func(text string) *router.Plan, last bool) (left []session.Effects) {
	if c.Outdated(c.Up.Database.Removals()) {
		left = append(left, session.Effects{Residue: session.Opaque}) // nobody else shall have the connection
	}
	cfg := &c.Service.Config
	unreported := c.State.Unreported // the server has said since what decides how texts are read
	defer func() { c.State.Unreported = unreported }()
	plans, residue := c.Doubts.resolve(plan, slices.Concat(cfg.Tenant.Settings, cfg.Settings.Assert, cfg.Settings.Track), last)
	for _, p := range plans {
		e := c.State.Ran(&session.Executed{Plan: p}, session.Done, cfg.Settings.Track)
		e.Residue = max(e.Residue, residue)
		left = append(left, e)
	}
	return left
}

// MaySet are the settings that code nobody can see through may have set: those the operator
// declared, nil if he did not. On a replica, where it runs only because its transaction has to
// stay, they are those that are known at all: a session could do nothing there but end. Its
// connection is nobody else's then.
func MaySet(p *router.Plan, onReplica bool, of *upstream.Service, db *upstream.Database) []string {
	switch cfg := &of.Config; {
	case cfg.Settings.Track != nil || !onReplica || p != nil && p.Pins&router.PinOpaque == 0:
		return cfg.Settings.Track
	default:
		return append(append(db.Customs.Names(), cfg.Tenant.Settings...), cfg.Settings.Assert...) // not nil
	}
}
