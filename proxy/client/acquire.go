package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/tracing"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// staleAfter is how long a connection may have been idle before it is looked at
// before use: a server that was restarted has closed it.
const staleAfter = 50 * time.Millisecond

// acquisition is how a batch comes by a server connection that carries the session's
// settings.
type acquisition struct{ *work }

// acquire sees to it that the session holds a connection to a server the decision asks
// for, which carries the session's settings, or will by the time the batch runs there. If
// that fails the batch must not run.
func (a acquisition) acquire() error {
	t, l := &a.try, &a.c.lease
	if l.held() && t.decision.Target == router.TargetPrimary && l.onReplica() {
		if err := a.moveToPrimary(); err != nil {
			return err
		}
	}
	if !l.held() {
		return a.takeFromPool()
	}
	if l.midBatch() { // a Sync of the proxy's own would end the batch
		return nil
	}
	if err := l.b.CancelDone(a.c.ctx); err != nil {
		a.c.discard()
		return upstream.Lost(err)
	}
	if a.c.state.Tx.Phase == session.Open || a.c.state.Tx.Phase == session.Aborted {
		return nil
	}
	if (a.c.state.Pins == 0 || l.doubts.Any()) && a.mayReset() { // a connection kept for a moment only may not be the one for it
		if err := a.c.resolveAndPart(); err != nil {
			return err
		}
	}
	if l.held() && a.c.state.Pins == 0 && !l.doubts.Any() && !l.b.Alive() { // it was kept for a moment only
		a.c.discard()
	}
	if !l.held() {
		return a.takeFromPool()
	}
	return a.takeChannels()
}

// moveToPrimary ends what a transaction or batch did on a replica, to go on elsewhere.
func (a acquisition) moveToPrimary() error {
	// A portal that the batch needs is there, or COMMIT AND CHAIN kept what only its server knows.
	if a.c.state.Pins != 0 && !a.c.state.Tx.Phase.InBlock() || a.batch.Traits.Has(batch.Resumes) || a.c.state.Known >= session.UnknownPartly || a.c.state.Tx.Did.Has(session.DidKeep) {
		a.c.discard()
		return errStuck
	}
	began := time.Now()
	a.c.leaveReplica()
	a.spans.Took(tracing.TakeOver, began)
	return nil
}

// takeFromPool takes a connection from the pool of a server the decision asks for. A
// server that cannot be reached is left to the monitor, and another one tried as
// long as the configuration lets a statement wait.
func (a acquisition) takeFromPool() error {
	t, s := &a.try, &a.c.state
	inBlock := s.Tx.Phase.InBlock()
	if !inBlock && (len(s.Settings.Log()) > 0 || s.Tx.Did.Has(session.DidRead) || s.Tx.Modes != (router.Modes{})) {
		// What was done so far in this implicit transaction is a part of it.
		t.Replays = batch.ReplaysImplicit
	}
	want := pool.Want{Settings: s.Settings.Now(), Defined: s.Defined.With(a.batch.SetsFirst())}
	if a.batch.Draws() != nil {
		want.Draws = a.c.who.id
	}
	if inBlock || t.Replays == batch.ReplaysImplicit {
		want.Settings = s.Settings.Begin()
	}
	begun := a.mayReset()
	for {
		server, role, err := a.pick()
		if err != nil {
			return err
		}
		l := lease{pool: a.c.up.Of(server), server: server, role: role}
		if begun {
			l.residue = session.Opaque // it is nobody else's
			want.Dial = a.c.begunBy(server)
		}
		want.Replaceable = l.onReplica() // the primary will do
		again, err := a.take(&l, want)
		if again {
			continue
		}
		if err != nil {
			return err
		}
		t.Asserts, t.Drops = nil, 0
		if another := a.c.attach(l); another {
			t.Asserts, t.Drops = a.c.svc.Assertion, batch.Plans
		}
		err = a.prepare(want.Settings)
		if !a.lostUnused(server, err) {
			return err
		}
	}
}

// take takes a connection out of a pool, into l. again is that another server is to be
// tried.
func (a acquisition) take(l *lease, want pool.Want) (again bool, err error) {
	t := &a.try
	b := l.pool.TryAcquire(want)
	if b == nil {
		b, err = a.await(l.pool, want)
		if a.moveOn(l.server, err) {
			return true, nil
		}
		if err != nil && l.onReplica() && (errors.As(err, new(*pgconn.PgError)) || upstream.LockedOut(err)) {
			// It lets nobody in, or not this user yet; the primary knows best.
			a.c.svc.Metrics.Retried(metrics.RetryLost)
			t.decision = router.Decision{Target: router.TargetPrimary, Reason: router.ReasonRetried}
			return true, nil
		}
		if err != nil {
			return false, a.c.up.Unserved(l.server, err)
		}
		if !l.onReplica() && a.c.up.Cluster.Topology().Primary != l.server { // meanwhile
			giveBack(l.pool, b, want)
			return true, nil
		}
	} else if (a.learned.has(trustNothing) || a.batch.Started.Sub(b.Pooled().Released) > staleAfter || !a.batch.Reads()) && !b.Alive() {
		l.pool.Discard(b)
		return true, nil
	}
	if !l.onReplica() && upstream.OfStandby(a.c.ctx, b) && a.moveOn(l.server, upstream.ErrStandby) {
		l.pool.Discard(b)
		return true, nil
	}
	if l.onReplica() {
		fresh, err := needs(a).isFresh(l.server, b)
		if err != nil || !fresh {
			giveBack(l.pool, b, want)
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
// will, and brings it to where the transaction is, if that has failed or what is asked before the
// batch needs it.
func (a acquisition) prepare(want setting.Settings) error {
	t, s := &a.try, &a.c.state
	aborted, asks := s.Tx.Phase == session.AbortedDeferred, rowCheck(a).due()
	if s.Tx.Phase == session.Deferred {
		t.Replays = batch.ReplaysBlock
	}
	if err := a.adopt(want, aborted || asks || a.batch.Tail > 0); err != nil {
		return err
	}
	err := a.takeChannels()
	switch {
	case err != nil:
	case aborted:
		err = a.open(batch.Aborted(s), wire.TxFailed)
	case asks && t.Opens() && s.NamesChanged():
		err = a.open(batch.OpenBlock(s), wire.TxOpen)
	}
	return err
}

// open has a server run a text that brings it to where the transaction is, a block of a status.
func (a acquisition) open(text string, want byte) error {
	l, s := &a.c.lease, &a.c.state
	status, err := l.b.RoundTrip(a.c.ctx, wire.AppendQuery(nil, text))
	var refused *backend.ServerError
	if status != want || errors.As(err, &refused) != (want == wire.TxFailed) {
		a.c.discard()
		return fmt.Errorf("%w: the transaction could not be opened: %w", upstream.ErrServerLost, err)
	}
	l.carried.Replay(&s.Settings)
	a.try.Replays, s.Tx.Phase = batch.ReplaysNothing, session.Open
	if want == wire.TxFailed {
		s.Tx.Phase = session.Aborted
	}
	return nil
}

// adopt makes the connection carry the session's settings: in the same write as the
// batch where that is as safe, else (or if now is said) before it. A connection that was
// another session's is made to assert what isolation rests on, in the same way.
func (a acquisition) adopt(want setting.Settings, now bool) error {
	t, b := &a.try, a.c.lease.b
	defined := a.c.state.Defined
	changes := b.Changes(want, defined)
	if want != (setting.Settings{}) || len(changes) > 0 {
		a.c.svc.Metrics.Adopted(len(changes))
	}
	if slices.ContainsFunc(changes, func(ch setting.Change) bool { return !setting.IsCustom(ch.Name) }) {
		a.c.told.pending = true
	}
	t.Changes, t.Carries, t.User = changes, want, a.c.up.Credentials().User
	t.Asserts = t.Asserts.Taking(changes, b.HadTemporary())
	if mixed := b.HandPlansOver(changes, a.c.up.Database.Folds(), b.Parameter); !mixed {
		t.Drops = 0
	}
	switch {
	case t.Drops == 0 && len(changes) == 0 && (t.Asserts == nil || t.Opens() && !now && a.batch.TakesSnapshot() && !a.learned.has(trustNothing)):
	case !now && a.mayAdoptWithin(changes):
		t.Takes = batch.TakesWithin
	case !now && a.batch.End != batch.EndPart && !slices.ContainsFunc(changes, setting.Change.Recodes):
		t.Takes = a.ahead()
	default:
		if err := a.adoptNow(want); err != nil {
			return err
		}
	}
	b.NoteMayDefine(defined)
	return nil
}

// ahead is how what is sent ahead of the batch runs: a transaction by the defaults that the
// connection carries may be refused by a standby, or wait.
func (a acquisition) ahead() batch.Takes {
	if a.c.up.Isolation(a.c.lease.b.Settings()) == router.Serializable {
		return batch.TakesApart
	}
	return batch.TakesAhead
}

// adoptNow is adopt in round trips of its own.
func (a acquisition) adoptNow(want setting.Settings) error {
	t, b, began := &a.try, a.c.lease.b, time.Now()
	err := b.Adopt(a.c.ctx, want, a.c.state.Defined)
	if err == nil && t.Asserts != nil {
		_, err = b.RoundTrip(a.c.ctx, wire.AppendQuery(nil, backend.AnyDefault+t.Asserts.Query(want, a.c.up.Credentials().User)))
	}
	if err == nil && t.Drops != 0 {
		_, err = b.RoundTrip(a.c.ctx, wire.AppendQuery(nil, backend.AnyDefault+"DISCARD PLANS"))
		b.PlansDiscarded()
	}
	a.spans.Took(tracing.TakeOver, began)
	if t.Changes, t.Asserts, t.Drops = nil, nil, 0; err != nil {
		var refused *backend.ServerError
		if errors.As(err, &refused) && !upstream.Ending(refused.Frame) {
			return a.adoptElsewhere(&adoptError{wire.ReadError(refused.Frame)})
		}
		a.c.discard()
		return err
	}
	a.c.lease.carries(session.Carrying(want, b.Defaults()))
	return nil
}

// mayAdoptWithin reports whether a connection may take over the session's settings in
// the same implicit transaction as the batch: in one write, and undone by its
// failure. That needs a batch that does not end the transaction itself.
func (a acquisition) mayAdoptWithin(changes []setting.Change) bool {
	for _, ch := range changes {
		if strings.HasPrefix(ch.Name, "default_transaction_") {
			return false // they would be too late for it
		}
	}
	if a.c.state.Pins != 0 || a.needsChannels() || a.c.state.Tx.Phase.InBlock() || a.batch.Continues() {
		return false // the connection stays, whatever is undone
	}
	return a.batch.Plain() && !a.leavesBlock()
}

// leavesBlock reports whether what is executed before the batch without a Sync may be a block
// that the batch does not end.
func (w *work) leavesBlock() bool {
	return w.batch.End == batch.EndQuery && batch.LeavesBlock(w.c.lease.b.Parameter("server_version"))
}

// defines notes on the connection which placeholders the batch may define there,
// however it ends.
func (a acquisition) defines() {
	for i := range a.batch.Messages {
		m := &a.batch.Messages[i]
		p := m.Plan
		if p == nil || m.Here {
			continue
		}
		if len(p.Touches)+len(p.Sets) > 0 {
			a.c.lease.b.NoteMayDefine(setting.Names{}.With(m.Touches()))
		}
		if p.Pins&router.PinOpaque != 0 {
			a.c.lease.b.NoteMayDefine(setting.Names{}.With(a.c.svc.Config.Settings.Track))
		}
	}
}

// pick chooses the server: a replica for reads, else the primary, for which it waits.
func (a acquisition) pick() (*cluster.Server, cluster.Role, error) {
	t := a.c.up.Cluster.Topology()
	d := &a.try.decision
	if d.Target == router.TargetReplica {
		s, err := needs(a).reader()
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
	primary, err := a.awaitPrimary()
	return primary, cluster.RolePrimary, err
}

// giveBack gives a connection back that was not used.
func giveBack(p *pool.Pool, b *backend.Backend, want pool.Want) {
	if want.Dial != nil {
		p.Discard(b)
		return
	}
	p.Release(b)
}

// await waits for a connection of a pool.
func (a acquisition) await(p *pool.Pool, want pool.Want) (*backend.Backend, error) {
	started := time.Now()
	b, err := p.Acquire(want, a.c.interrupt)
	if a.c.interrupt.EndWait() { // the cancel request may have broken off a login
		if b != nil {
			giveBack(p, b, want)
		}
		b, err = nil, interrupt.ErrCanceled
	}
	waited := time.Since(started)
	a.spans.Took(tracing.WaitPool, started)
	a.c.svc.Metrics.Awaited(metrics.WaitPool, waited)
	a.c.up.Traffic.Waited(waited)
	return b, err
}

// adoptElsewhere closes a connection that refused to carry the session's settings, and has
// the batch, of which it ran nothing, sent over another one. The error is not the client's.
func (a acquisition) adoptElsewhere(refused *adoptError) error {
	server := zap.String("server", a.c.lease.server.Address)
	switch why, unclean := batch.Unclean(refused.refused.Message); {
	case !unclean:
		a.c.Log().Warn("a server connection could not take over the session's settings; it is closed", server,
			zap.String("sqlstate", refused.refused.Code), zap.String("error", refused.refused.Shown()))
	case why != batch.TemporarySchema || !a.hasNoTemporary():
		a.c.svc.Metrics.AssertionFailed()
		a.c.Log().Error("server connection is not clean; it is closed: what ran on it is not what the catalog says, or a fault of the proxy",
			server, zap.String("found", why), zap.Strings("ran", a.c.lease.b.Trail()))
	}
	pinned, again := a.c.state.Pins != 0, &retry{reason: metrics.RetryLost, err: refused, lessons: trustNothing}
	if a.c.lease.onReplica() {
		again.lessons |= onPrimary // whose settings may be others
	}
	a.c.discard()
	if pinned || !repetition(a).untouched() && a.c.state.Tx.Phase != session.Deferred {
		return wire.Fatalf("08006", "%v", refused)
	}
	return again
}

// hasNoTemporary reports whether the connection, whose batch failed, has no temporary
// objects: REFRESH MATERIALIZED VIEW CONCURRENTLY in a function leaves an empty schema.
func (a acquisition) hasNoTemporary() bool {
	if recovery(a).drain() != nil {
		return false
	}
	found, err := a.c.lease.b.Inspect(a.c.ctx, backend.Question{Leftovers: backend.Temporary})
	return err == nil && found.Leftovers == 0
}
