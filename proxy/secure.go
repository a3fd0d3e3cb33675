package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// staleAfter is how long a connection may have been idle before it is looked at
// before use: a server that was restarted has closed it.
const staleAfter = 50 * time.Millisecond

// secure makes c.b a connection to a server the decision asks for, carrying the
// session's settings. If that fails the unit must not run.
func (c *client) secure(u *unit, d router.Decision) error {
	u.decision, u.begun, u.fresh, u.adopt, u.ahead = d, false, false, nil, nil
	if c.b != nil && d.Target == router.TargetPrimary && c.role == cluster.RoleReplica {
		if c.pins != 0 && !c.tx.open {
			c.discard()
			return wire.Fatalf("08006", "the session's state is on a replica and cannot be moved")
		}
		u.repeats = c.inUnit && !c.tx.open && len(c.tx.steps) > 0
		if err := c.leaveReplica(); err != nil {
			return err
		}
	}
	if c.b != nil {
		if !c.b.Canceled() || c.inUnit { // a Sync of the proxy's own would end the unit
			return nil
		}
		if err := c.b.CancelDone(c.ctx); err != nil {
			c.discard()
			return fmt.Errorf("%w: %w", errServerLost, err)
		}
		return nil
	}
	// What the proxy itself has set so far in this implicit transaction is a part of it.
	u.repeats = u.repeats || !c.tx.open && len(c.tx.steps) > 0
	if err := c.acquire(u, d); err != nil {
		return err
	}
	u.fresh, u.begun = true, c.tx.open
	return nil
}

// leaveReplica ends a transaction that has only read on a replica, for it to go on elsewhere.
func (c *client) leaveReplica() error {
	frames := wire.AppendSync(nil)
	if c.tx.open {
		frames = wire.AppendQuery(nil, "ROLLBACK")
		if c.inUnit {
			if _, err := c.b.RoundTrip(c.ctx, wire.AppendSync(nil)); err != nil {
				c.discard()
				return nil // nothing is lost with it
			}
		}
	}
	b := c.b
	status, err := b.RoundTrip(c.ctx, frames)
	if err != nil || status != wire.TxIdle || c.doubt || c.dirty || !c.tx.open && c.settings.atRisk {
		c.discard() // what it carries is not certain
		return nil
	}
	c.carriesAfter(!c.tx.open)
	c.letGo().Release(b)
	return nil
}

// elsewhere is the decision once a replica turned out not to do.
var elsewhere = router.Decision{Target: router.TargetPrimary}

// errServerLost is that a server connection failed.
var errServerLost = errors.New("server connection lost")

// acquire takes a connection from the pool of a server the decision asks for. A
// server that cannot be reached is left to the monitor, and another one tried as
// long as the configuration lets a statement wait.
func (c *client) acquire(u *unit, d router.Decision) error {
	want := pool.Want{Settings: c.settings.now, Touched: c.touched.With(u.setsFirst())}
	if c.tx.open || u.repeats {
		want.Settings = c.settings.atBegin()
	}
	for {
		s, role, err := c.pick(u, d)
		if err != nil {
			return err
		}
		p := c.up.Of(s)
		b := p.TryAcquire(want)
		if b == nil {
			b, err = c.await(p, want)
			if c.moveOn(u, s, err) {
				continue
			}
			if err != nil && role == cluster.RoleReplica && errors.As(err, new(*pgconn.PgError)) {
				// It lets nobody in, or not this user yet; the primary knows best.
				c.s.metrics.Retried(metrics.RetryLost)
				d, u.decision.Reason = elsewhere, router.ReasonRetried
				continue
			}
			if err != nil {
				return unserved(err)
			}
		} else if (u.wary || u.started.Sub(b.Used) > staleAfter || !u.onlyReads()) && !b.Alive() {
			p.Discard(b)
			continue
		}
		if role == cluster.RoleReplica {
			fresh, err := c.isFresh(u, s, b)
			if err != nil || !fresh {
				p.Release(b)
			}
			if err != nil {
				return err
			}
			if !fresh {
				d, u.decision.Reason = elsewhere, router.ReasonFreshness
				continue
			}
		}
		c.take(b, p, s, role)
		err = c.adopt(u, want.Settings)
		if !c.lostUnused(u, s, err) {
			return err
		}
	}
}

// setsFirst are the custom settings a unit sets before it could read them.
func (u *unit) setsFirst() (names []string) {
	for i := range u.ops {
		o := &u.ops[i]
		if !o.executes() {
			continue
		}
		if o.plan == nil || len(o.plan.Sets) == 0 || o.plan.Statements > 1 && !o.plan.SetOnly {
			break
		}
		names = append(names, o.touches()...)
	}
	return names
}

// touches are the custom settings an op may set.
func (o *op) touches() []string {
	sets, ok := o.bound()
	if !ok || len(sets) == 0 {
		return o.plan.Touches
	}
	names := make([]string, len(sets))
	for i := range sets {
		names[i] = sets[i].Name
	}
	return names
}

// touches notes on the connection what the unit may set there, however it ends.
func (c *client) touches(u *unit) {
	for i := range u.ops {
		p := u.ops[i].plan
		if p != nil && len(p.Touches)+len(p.Sets) > 0 {
			c.b.Touch(session.Names{}.With(u.ops[i].touches()))
		}
		if p != nil && p.Pins&router.PinOpaque != 0 {
			c.b.Touch(session.Names{}.With(c.s.cfg.Settings.Track))
		}
	}
}

// adopt makes the connection carry the session's settings: in the same write as
// the unit where that is as safe, else before it.
func (c *client) adopt(u *unit, want session.Settings) error {
	b := c.b
	changes := b.Changes(want, c.touched)
	if want != (session.Settings{}) || len(changes) > 0 {
		c.s.metrics.Adopted(len(changes))
	}
	if len(changes) > 0 {
		c.untold = c.untold || slices.ContainsFunc(changes, func(ch session.Change) bool { return !session.IsCustom(ch.Name) })
		switch {
		case c.adoptWithin(u, changes):
			u.adopt = changes
		case u.end != endPart && !slices.ContainsFunc(changes, session.Change.Recodes):
			u.ahead, u.want = changes, want
		default:
			if err := b.Adopt(c.ctx, want, c.touched); err != nil {
				c.discard()
				return err
			}
		}
	}
	b.Touch(c.touched)
	return nil
}

// pick chooses the server: a replica for reads, else the primary, for which it waits.
func (c *client) pick(u *unit, d router.Decision) (*cluster.Server, cluster.Role, error) {
	cl := c.up.Cluster
	t := cl.Topology()
	if d.Target == router.TargetReplica {
		s, err := c.reader(u)
		if err != nil {
			return nil, cluster.RoleUnknown, err
		}
		if s != nil {
			if t.Primary == s {
				u.decision.Reason = router.ReasonPrimaryReads
				return s, cluster.RolePrimary, nil
			}
			return s, cluster.RoleReplica, nil
		}
		u.decision.Reason = router.ReasonNoReplica
		if len(t.Replicas) > 0 {
			u.decision.Reason = router.ReasonFreshness
		}
	}
	if t.Primary != nil {
		return t.Primary, cluster.RolePrimary, nil
	}
	primary, err := c.awaitPrimary(u)
	return primary, cluster.RolePrimary, err
}

// await waits for a connection of a pool.
func (c *client) await(p *pool.Pool, want pool.Want) (*backend.Backend, error) {
	started := time.Now()
	c.mu.Lock()
	c.queued = true
	c.mu.Unlock()
	b, err := p.Acquire(want, c)
	if canceled := c.endWait(); canceled && b != nil {
		p.Release(b)
		b, err = nil, errCanceled
	}
	c.s.metrics.AwaitedConnection(time.Since(started))
	return b, err
}

// Late implements pool.Patience: from now on the wait ends if the client sends a
// cancel request or vanishes.
func (c *client) Late() context.Context {
	ctx, cancel := context.WithCancelCause(c.ctx)
	c.mu.Lock()
	c.queued, c.waiting = true, cancel
	if c.canceled {
		cancel(errCanceled)
	}
	c.mu.Unlock()
	c.unwatch = c.front.WatchClose(func() { cancel(&lostError{errors.New("closed while waiting")}) })
	return ctx
}

// endWait ends what Late began, and reports whether a cancel request came.
func (c *client) endWait() (canceled bool) {
	if c.unwatch != nil {
		c.unwatch()
		c.unwatch = nil
	}
	c.mu.Lock()
	if c.waiting != nil {
		c.waiting(nil)
	}
	canceled = c.canceled
	c.queued, c.canceled, c.waiting = false, false, nil
	c.mu.Unlock()
	return canceled
}

// unreachable reports whether err is of a server that is not there, rather than of a
// login it refused or could not be given, or of a client that is gone.
func unreachable(err error) bool {
	return upstream.Unreachable(err) && !errors.As(err, new(*lostError))
}
