package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	setting "github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// staleAfter is how long a connection may have been idle before it is looked at
// before use: a server that was restarted has closed it.
const staleAfter = 50 * time.Millisecond

// errServerLost is that a server connection failed.
var errServerLost = errors.New("server connection lost")

// secure sees to it that the session holds a connection to a server the decision asks
// for, which carries the session's settings, or will by the time the batch runs there. If
// that fails the batch must not run.
func (c *client) secure(w *work) error {
	t, l := &w.try, &c.lease
	if l.held() && t.decision.Target == router.TargetPrimary && l.onReplica() {
		if err := c.moveToPrimary(w); err != nil {
			return err
		}
	}
	if !l.held() {
		return c.acquire(w)
	}
	if !l.b.Canceled() || l.midBatch() { // a Sync of the proxy's own would end the batch
		return nil
	}
	if err := l.b.CancelDone(c.ctx); err != nil {
		c.discard()
		return fmt.Errorf("%w: %w", errServerLost, err)
	}
	return nil
}

// moveToPrimary ends what a transaction or batch did on a replica, to go on elsewhere.
func (c *client) moveToPrimary(w *work) error {
	inBlock := c.state.Tx.Phase.InBlock()
	if c.state.Pins != 0 && !inBlock {
		c.discard()
		return errStuck
	}
	w.try.Repeats = c.lease.midBatch() && !inBlock && len(c.state.Settings.Log()) > 0
	c.leaveReplica()
	return nil
}

// leaveReplica ends a transaction that has only read on a replica. Nothing is lost with
// its connection if that fails.
func (c *client) leaveReplica() {
	l := &c.lease
	inBlock := c.state.Tx.Phase.InBlock()
	if inBlock && l.midBatch() {
		if _, err := l.b.RoundTrip(c.ctx, wire.AppendSync(nil)); err != nil {
			c.discard()
			return
		}
	}
	frames := wire.AppendSync(nil)
	if inBlock {
		frames = wire.AppendQuery(nil, "ROLLBACK")
	}
	status, err := l.b.RoundTrip(c.ctx, frames)
	if err != nil || status != wire.TxIdle || l.residue != session.NoResidue || !inBlock && c.state.Settings.Changed() {
		c.discard() // what it carries is not certain
		return
	}
	l.stands = atRest
	l.ended(!inBlock)
	given := c.detach()
	given.pool.Release(given.b)
	c.state.Moved()
}

// acquire takes a connection from the pool of a server the decision asks for. A
// server that cannot be reached is left to the monitor, and another one tried as
// long as the configuration lets a statement wait.
func (c *client) acquire(w *work) error {
	t, s := &w.try, &c.state
	inBlock := s.Tx.Phase.InBlock()
	// What the proxy itself has set so far in this implicit transaction is a part of it.
	t.Repeats = t.Repeats || !inBlock && len(s.Settings.Log()) > 0
	want := pool.Want{Settings: s.Settings.Now(), Defined: s.Defined.With(w.batch.SetsFirst())}
	if inBlock || t.Repeats {
		want.Settings = s.Settings.Begin()
	}
	for {
		server, role, err := c.pick(w)
		if err != nil {
			return err
		}
		l := lease{pool: c.up.Of(server), server: server, role: role}
		again, err := c.take(w, &l, want)
		if again {
			continue
		}
		if err != nil {
			return err
		}
		c.attach(l)
		err = c.prepare(w, want.Settings)
		if !c.lostUnused(w, server, err) {
			return err
		}
	}
}

// take takes a connection out of a pool, into l. again is that another server is to be
// tried.
func (c *client) take(w *work, l *lease, want pool.Want) (again bool, err error) {
	t := &w.try
	b := l.pool.TryAcquire(want)
	if b == nil {
		b, err = c.await(l.pool, want)
		if c.moveOn(w, l.server, err) {
			return true, nil
		}
		if err != nil && l.onReplica() && errors.As(err, new(*pgconn.PgError)) {
			// It lets nobody in, or not this user yet; the primary knows best.
			c.s.metrics.Retried(metrics.RetryLost)
			t.decision = router.Decision{Target: router.TargetPrimary, Reason: router.ReasonRetried}
			return true, nil
		}
		if err != nil {
			return false, unserved(err)
		}
	} else if (w.learned.has(trustNothing) || w.batch.Started.Sub(b.Pooled().Released) > staleAfter || !w.batch.Reads()) && !b.Alive() {
		l.pool.Discard(b)
		return true, nil
	}
	if l.onReplica() {
		fresh, err := c.isFresh(w, l.server, b)
		if err != nil || !fresh {
			l.pool.Release(b)
		}
		if err != nil {
			return false, err
		}
		if !fresh {
			t.decision = router.Decision{Target: router.TargetPrimary, Reason: router.ReasonFreshness}
			return true, nil
		}
	}
	l.b = b
	return false, nil
}

// prepare makes the connection just taken carry the session's settings, or says how it
// will, and brings it to where an aborted transaction is.
func (c *client) prepare(w *work, want setting.Settings) error {
	t := &w.try
	t.Fresh = true
	aborted := c.state.Tx.Phase == session.AbortedDeferred
	t.Opens = c.state.Tx.Phase == session.Deferred
	if err := c.adopt(w, want, aborted); err != nil || !aborted {
		return err
	}
	b := c.lease.b
	status, err := b.RoundTrip(c.ctx, wire.AppendQuery(nil, batch.Aborted(&c.state)))
	var refused *backend.ServerError
	if status != wire.TxFailed || !errors.As(err, &refused) {
		c.discard()
		return fmt.Errorf("%w: the aborted transaction could not be opened: %w", errServerLost, err)
	}
	c.lease.carried.Replay(&c.state.Settings)
	c.state.Tx.Phase = session.Aborted
	return nil
}

// adopt makes the connection carry the session's settings: in the same write as the
// batch where that is as safe, else (or if now is said) before it. A connection that was
// another session's is made to assert what isolation rests on, in the same way.
func (c *client) adopt(w *work, want setting.Settings, now bool) error {
	t, b := &w.try, c.lease.b
	defined := c.state.Defined
	changes := b.Changes(want, defined)
	if want != (setting.Settings{}) || len(changes) > 0 {
		c.s.metrics.Adopted(len(changes))
	}
	if slices.ContainsFunc(changes, func(ch setting.Change) bool { return !setting.IsCustom(ch.Name) }) {
		c.told.pending = true
	}
	t.Changes, t.Carries = changes, want
	if c.lease.another {
		t.Asserts = c.s.assertion
	}
	switch {
	case len(changes) == 0 && (t.Asserts == nil || t.Opens && !now):
	case !now && c.mayAdoptWithin(w, changes):
		t.Takes = batch.TakesWithin
	case !now && w.batch.End != batch.EndPart && !slices.ContainsFunc(changes, setting.Change.Recodes):
		t.Takes = batch.TakesAhead
	default:
		if err := c.adoptNow(w, want); err != nil {
			return err
		}
	}
	b.NoteMayDefine(defined)
	return nil
}

// adoptNow is adopt in round trips of its own.
func (c *client) adoptNow(w *work, want setting.Settings) error {
	t, b := &w.try, c.lease.b
	err := b.Adopt(c.ctx, want, c.state.Defined)
	if err == nil && t.Asserts != nil {
		_, err = b.RoundTrip(c.ctx, wire.AppendQuery(nil, t.Asserts.Query(want)))
	}
	if t.Changes, t.Asserts = nil, nil; err != nil {
		var refused *backend.ServerError
		if errors.As(err, &refused) && !upstream.Ending(refused.Frame) {
			return c.adoptElsewhere(w, &adoptError{fromFrame(refused.Frame)})
		}
		c.discard()
		return err
	}
	c.lease.carries(session.Carrying(want))
	return nil
}

// mayAdoptWithin reports whether a connection may take over the session's settings in
// the same implicit transaction as the batch: in one write, and undone by its
// failure. That needs a batch that does not end the transaction itself.
func (c *client) mayAdoptWithin(w *work, changes []setting.Change) bool {
	for _, ch := range changes {
		if strings.HasPrefix(ch.Name, "default_transaction_") {
			return false // they would be too late for it
		}
	}
	if c.state.Pins != 0 || c.state.Tx.Phase.InBlock() || w.batch.End == batch.EndFlush || w.batch.End == batch.EndPart {
		return false // the connection stays, whatever is undone
	}
	return w.batch.Plain()
}

// defines notes on the connection which placeholders the batch may define there,
// however it ends.
func (c *client) defines(w *work) {
	for i := range w.batch.Messages {
		m := &w.batch.Messages[i]
		p := m.Plan
		if p == nil || m.Here {
			continue
		}
		if len(p.Touches)+len(p.Sets) > 0 {
			c.lease.b.NoteMayDefine(setting.Names{}.With(m.Touches()))
		}
		if p.Pins&router.PinOpaque != 0 {
			c.lease.b.NoteMayDefine(setting.Names{}.With(c.s.cfg.Settings.Track))
		}
	}
}

// pick chooses the server: a replica for reads, else the primary, for which it waits.
func (c *client) pick(w *work) (*cluster.Server, cluster.Role, error) {
	t := c.up.Cluster.Topology()
	d := &w.try.decision
	if d.Target == router.TargetReplica {
		s, err := c.reader(w)
		if err != nil {
			return nil, cluster.RoleUnknown, err
		}
		if s != nil {
			if t.Primary == s {
				d.Reason = router.ReasonPrimaryReads
				return s, cluster.RolePrimary, nil
			}
			return s, cluster.RoleReplica, nil
		}
		d.Reason = router.ReasonNoReplica
		if len(t.Replicas) > 0 {
			d.Reason = router.ReasonFreshness
		}
	}
	if t.Primary != nil {
		return t.Primary, cluster.RolePrimary, nil
	}
	primary, err := c.awaitPrimary(w)
	return primary, cluster.RolePrimary, err
}

// await waits for a connection of a pool.
func (c *client) await(p *pool.Pool, want pool.Want) (*backend.Backend, error) {
	started := time.Now()
	b, err := p.Acquire(want, c)
	if canceled := c.endWait(); canceled && b != nil {
		p.Release(b)
		b, err = nil, errCanceled
	}
	c.s.metrics.AwaitedConnection(time.Since(started))
	return b, err
}

// unreachable reports whether err is of a server that is not there, rather than of a
// login it refused or could not be given, or of a client that is gone.
func unreachable(err error) bool {
	return err != nil && !errors.As(err, new(*lostError)) && upstream.Unreachable(err)
}
