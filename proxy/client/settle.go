package client

import (
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// noWrites are of a transaction that has written nothing.
var noWrites freshness.Changes

// settle does what is left to do once a server has answered a batch, and gives its
// connection back if nothing holds it.
func (c *Client) settle(w *work) error {
	t, l := &w.try, &c.lease
	l.server.Answered()
	c.count(w)
	if t.status == 0 { // Flush: the server waits for the rest
		if l.stands == atRest {
			l.stands = midBatch
		}
		if t.failed {
			l.stands = midBatchFailed
		}
		if !l.onReplica() {
			c.recordWrites(w, false)
		}
		c.notePins()
		return nil
	}
	c.ready(w)
	if t.unopened {
		return c.giveUpTransaction()
	}
	c.notePins()
	if err := c.restore(w); err != nil {
		return err
	}
	if err := c.readBack(); err != nil {
		return err
	}
	if err := c.passNotifications(); err != nil {
		return err
	}
	if l.held() && l.onReplica() && c.state.Pins&router.PinSetting != 0 && c.state.Tx.Phase == session.Idle {
		c.stayOnPrimary()
	}
	c.notePins()
	c.release()
	return nil
}

// ready takes in the ReadyForQuery that ended a batch.
func (c *Client) ready(w *work) {
	t, l, s := &w.try, &c.lease, &c.state
	if !t.failed {
		l.b.NoteDefined(s.Defined) // it took over what it had not defined
	}
	if l.unpinned && t.failed {
		// What untied the session was undone: it has what its connection has.
		s.Pins |= router.PinOpaque
		l.leave(session.Opaque)
	}
	l.unpinned = false
	ddl := s.Tx.Did.Has(session.DidDDL)
	s.Ready(t.status, t.failed, l.b.Parameter)
	switch t.status {
	case wire.TxIdle:
		l.correct(!t.failed)
		l.ended(!t.failed)
		c.writes = noWrites
		c.names.ClosePortals()
		if s.Pins&router.PinSetting == 0 && unreadableText(s.Settings.Now()) {
			s.Pins |= router.PinSetting // its texts cannot be understood elsewhere
		}
		if ddl {
			c.up.Database.CatalogChanged()
		}
	case wire.TxFailed:
		c.names.DoubtPortals()
	default:
		if t.failed {
			c.names.DoubtPortals()
		}
	}
}

// stayOnPrimary gives up a replica's connection that the session would have to keep: the
// primary's will be made to carry the same, and is kept.
func (c *Client) stayOnPrimary() {
	pins := c.state.Pins
	c.discard()
	c.state.Pins = pins
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
func (c *Client) restore(w *work) error {
	l, s := &c.lease, &c.state
	needed := l.restore || s.Pins != 0 && s.Tx.Phase == session.Idle
	if w.try.status == wire.TxFailed {
		return c.sendLate(w) // nothing can be set now
	}
	if l.restore = false; needed && l.carried.Differs(&s.Settings) {
		changes := l.carried.Until(&s.Settings)
		if err := l.b.Set(c.ctx, changes); err != nil {
			c.discard()
			return wire.Fatalf("08006", "the session's settings could not be restored: %v", err)
		}
		for _, ch := range changes {
			l.carried.Set(router.Set{Name: ch.Name, Value: ch.Value, Reset: ch.Reset, Local: ch.Local})
		}
		if s.Tx.Phase == session.Idle {
			l.ended(true)
		}
	}
	return c.sendLate(w)
}

// sendLate sends the ReadyForQuery that waited for settings to be restored.
func (c *Client) sendLate(w *work) error {
	if len(w.try.late) == 0 {
		return nil
	}
	w.answer = append(c.told.report(w.answer, c.lease.b.Parameters()), w.try.late...)
	return c.flush(w)
}

// count counts and logs what a batch ran.
func (c *Client) count(w *work) {
	target := c.lease.target()
	for i := range w.try.Queue {
		a := &w.try.Queue[i]
		if !a.Runs() || a.Outcome == session.NotRun {
			continue
		}
		class := router.ClassUnknown
		if p := a.Message.Plan; p != nil {
			class = p.Class
		}
		c.svc.Metrics.Statement(target, w.try.decision.Reason, class)
	}
	c.svc.Metrics.Answered(time.Since(w.batch.Started))
	c.logSlow(w)
}

// passNotifications gives the client what it listens to and the server said while
// the proxy spoke with it.
func (c *Client) passNotifications() error {
	if !c.lease.held() {
		return nil
	}
	frames := c.lease.b.Notified()
	if len(frames) == 0 || c.state.Pins&router.PinListen == 0 {
		return nil
	}
	return c.write(frames)
}

// giveUpTransaction ends a batch whose server refused to open the transaction the
// client was told is open: it has failed, and no server knows of it.
func (c *Client) giveUpTransaction() error {
	l := &c.lease
	if c.state.Pins != 0 || l.residue != session.NoResidue {
		c.discard()
		return wire.Fatalf("08006", "the transaction could not be opened")
	}
	c.state.Moved() // aborted, on no server
	l.ended(false)
	if l.b.AtRest() != nil { // what failed came behind BEGIN
		c.discard()
		return nil
	}
	given := c.detach()
	given.pool.Release(given.b)
	return nil
}
