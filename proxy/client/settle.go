package client

import (
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// noWrites are of a transaction that has written nothing.
var noWrites freshness.Changes

// settlement is what is left to do once a server has answered a batch.
type settlement struct{ *work }

// settle does what is left to do once a server has answered a batch, and gives its
// connection back if nothing holds it.
func (st settlement) settle() error {
	t, l := &st.try, &st.c.lease
	l.server.Answered()
	st.count()
	if !t.failed() {
		drawing(st).drew()
	}
	if t.status == 0 { // Flush: the server waits for the rest
		if l.stands == atRest {
			l.stands = midBatch
		}
		if t.failed() {
			l.stands = midBatchFailed
		}
		if !l.onReplica() {
			recorder(st).recordWrites(false)
		}
		st.c.publishPins()
		return nil
	}
	st.ready()
	if t.fate == unopened {
		return st.giveUpTransaction()
	}
	st.c.publishPins()
	if err := st.hearOwn(); err != nil {
		return err
	}
	if err := st.restore(); err != nil {
		return err
	}
	st.c.resolve(st.c.ctx, false)
	return st.part()
}

// part learns what the session has left on the connection, as far as it has to be asked, and
// gives it back if nothing holds it.
func (st settlement) part() error {
	l := &st.c.lease
	if err := st.readBack(); err != nil {
		return err
	}
	if l.held() && st.c.state.Pins != 0 && st.c.state.Tx.Phase == session.Idle && !l.midBatch() {
		if err := st.align(); err != nil {
			return err
		}
	}
	if err := st.passNotifications(); err != nil {
		return err
	}
	if st.c.state.Tx.Phase == session.Idle && !l.midBatch() {
		if err := st.shareChannels(); err != nil {
			return err
		}
		if err := st.c.passHeard(st.c.ear.Take()); err != nil {
			return err
		}
	}
	if l.held() && l.onReplica() && st.c.state.Pins&router.PinSetting != 0 && st.c.state.Tx.Phase == session.Idle {
		st.stayOnPrimary()
	}
	st.c.publishPins()
	st.c.release()
	return nil
}

// ready takes in the ReadyForQuery that ended a batch.
func (st settlement) ready() {
	t, l, s := &st.try, &st.c.lease, &st.c.state
	if !t.failed() {
		l.b.NoteDefined(s.Defined) // it took over what it had not defined
	}
	if l.unpinned != 0 && t.failed() {
		// What untied the session was undone: it has what its connection has.
		s.Pins |= router.PinOpaque
		l.leave(session.Opaque)
	}
	l.unpinned = router.PinNone
	did := s.Tx.Did
	s.Ready(t.status, t.failed(), l.b.Parameter)
	switch t.status {
	case wire.TxIdle:
		l.correct(!t.failed())
		l.ended(!t.failed())
		st.c.writes = noWrites
		st.c.names.ClosePortals()
		if s.Pins&router.PinSetting == 0 && session.MayMisread(s.Settings.Now()) {
			s.Pins |= router.PinSetting // its texts cannot be understood elsewhere
		}
		if did.Has(session.DidDDL) {
			recorder(st).changesCatalog(did)
		}
	case wire.TxOpen:
		if t.failed() {
			st.c.names.DoubtPortals()
		}
	case wire.TxFailed:
		st.c.names.DoubtPortals()
	}
}

// stayOnPrimary gives up a replica's connection that the session would have to keep: the
// primary's will be made to carry the same, and is kept.
func (st settlement) stayOnPrimary() {
	pins := st.c.state.Pins
	st.c.discard()
	st.c.state.Pins = pins
}

// correct takes over the server's words for the settings it reports.
func (l *lease) correct(commit bool) {
	if !commit || !l.carried.Changed() {
		return
	}
	for name, reported := range session.Reported {
		if _, ok := l.carried.Kept().Value(name); ok {
			l.carried.Correct(name, l.b.Parameter(reported))
		}
	}
}

// restore sets the session's startup settings again where RESET or RESET ALL returned
// them to the server's defaults: they are what these return to. It also makes a
// connection that the session keeps carry what a failed batch undid.
func (st settlement) restore() error {
	l, s := &st.c.lease, &st.c.state
	keeps := s.Pins != 0 || l.asked != nil || l.doubts.Any()
	needed := l.restore || s.Tx.Phase.InBlock() && l.b.Defaults() != s.Settings.Reset() || keeps && s.Tx.Phase == session.Idle && !s.NeedsReadBack()
	if st.try.status == wire.TxFailed {
		return st.sendLate() // nothing can be set now
	}
	if l.restore = false; needed {
		if err := st.align(); err != nil {
			return err
		}
	}
	return st.sendLate()
}

// align makes the connection carry what the session has.
func (st settlement) align() error {
	l, s := &st.c.lease, &st.c.state
	changes := l.b.StandIns(s.Missing(&l.carried))
	if len(changes) == 0 {
		return nil
	}
	if err := l.b.Set(st.c.ctx, changes); err != nil {
		st.c.discard()
		return wire.Fatalf("08006", "the session's settings could not be restored: %v", err)
	}
	for _, ch := range changes {
		l.carried.Set(router.Set{Name: ch.Name, Value: ch.Value, Reset: ch.Reset, Local: ch.Local})
	}
	if s.Tx.Phase == session.Idle {
		l.ended(true)
	}
	return nil
}

// sendLate sends the ReadyForQuery that waited.
func (st settlement) sendLate() error {
	t := &st.try
	if len(t.late) == 0 {
		return nil
	}
	if !t.undidTaken() || !st.c.lease.carried.Differs(&st.c.state.Settings) {
		st.reply = st.c.told.report(st.reply, st.c.lease.b.Parameters())
	}
	st.reply = append(st.reply, t.late...)
	return st.flushLast()
}

// count counts and logs what a batch ran.
func (st settlement) count() {
	target := st.c.lease.target()
	for i := range st.try.Queue {
		a := &st.try.Queue[i]
		if !a.Runs() || a.Outcome == session.NotRun {
			continue
		}
		class := router.ClassUnknown
		if p := a.Message.Plan; p != nil {
			class = p.Class
		}
		st.counted(target, st.try.decision.Reason, class)
	}
	st.answered(target, st.plan().Class)
	st.logSlow()
}

// passNotifications gives the client what it listens to and the server said while
// the proxy spoke with it.
func (st settlement) passNotifications() error {
	if !st.c.lease.held() {
		return nil
	}
	frames := st.c.lease.b.Notified()
	if len(frames) == 0 || st.c.state.Pins&router.PinListen == 0 {
		return nil
	}
	return st.c.passOwn(frames)
}

// giveUpTransaction ends a batch whose server refused to open the transaction the
// client was told is open: it has failed, and no server knows of it.
func (st settlement) giveUpTransaction() error {
	l := &st.c.lease
	if st.c.state.Pins != 0 || l.residue != session.NoResidue {
		st.c.discard()
		return wire.Fatalf("08006", "the transaction could not be opened")
	}
	st.c.state.Moved() // aborted, on no server
	l.ended(false)
	if l.b.AtRest() != nil { // what failed came behind BEGIN
		st.c.discard()
		return nil
	}
	given := st.c.detach()
	given.pool.Release(given.b)
	return nil
}
