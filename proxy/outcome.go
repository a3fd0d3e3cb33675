package proxy

import (
	"fmt"
	"strings"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// see looks at one message of the server: which answer it belongs to, whether it ends
// it, and whether the client gets it.
func (c *client) see(w *work, a *batch.Awaited, typ byte, frame []byte) (keep bool, err error) {
	t := &w.try
	switch typ {
	case wire.ErrorResponse:
		return c.seeError(w, a, frame)
	case wire.ReadyForQuery:
		return c.seeReady(w, a, frame)
	case wire.ParameterStatus:
		if n, v, ok := wire.ParameterParts(frame); ok {
			c.lease.b.SetParameter(string(n), string(v))
			c.told.pending = true
		}
		return false, nil
	case wire.NotificationResponse:
		c.up.Database.Commits.OnNotification()
		return !a.Internal(), nil
	case wire.NoticeResponse:
		return !a.Internal(), nil
	case wire.CopyInResponse, wire.CopyOutResponse:
		t.hold = false
		return true, nil
	case wire.CopyBothResponse:
		return false, fmt.Errorf("%w: unexpected CopyBothResponse", errServerLost)
	case wire.CommandComplete:
		c.recordBeforeForwarding(w, a)
	}
	if a.Kind.Ends(typ) {
		if a.Kind == batch.Describe && a.Message.Described != nil {
			c.noteRows(a.Message.Described, frame)
		}
		if a.Kind.Executes() {
			t.hold = t.hold && a.Internal()
		}
		t.Head++
		c.done(w, a)
	} else if a.Kind == batch.Query && typ == wire.CommandComplete {
		t.hold = false
	}
	return !a.Internal(), nil
}

// done takes in an answer that says that a message succeeded.
func (c *client) done(w *work, a *batch.Awaited) {
	held, m := c.lease.b.Held(), a.Message
	switch {
	case a.Kind == batch.Parse && a.Shared == nil:
		held.Unnamed = uint64(a.Tag)
	case a.Kind == batch.Parse && !a.Internal() && !c.state.Tx.Did.Has(session.DidSet) && c.state.UsualNames():
		c.up.Parsed.Add(a.Shared, m.Prepared.Snapshot)
	}
	if m == nil {
		return
	}
	switch a.Kind {
	case batch.Parse:
		c.parsed(m)
	case batch.Bind:
		if m.Prepared != nil || m.Tag != 0 {
			c.names.DefinePortal(m.Name, m.Portal)
		}
	case batch.Close:
		c.closed(m)
	case batch.Execute:
		c.ran(w, a, session.Done)
	case batch.Describe, batch.Sync, batch.Query, batch.FunctionCall:
	}
}

// ran gives the session's state the outcome of a statement, and takes in what it means
// for the names and the server connection.
func (c *client) ran(w *work, a *batch.Awaited, out session.Outcome) {
	m := a.Message
	a.Outcome = out
	if out == session.NotRun {
		return
	}
	c.countTenant(m)
	st := session.Executed{Plan: m.Plan, Uncertain: c.redefined(w) && m.Plan != nil && len(m.Plan.Functions)+len(m.Plan.Relations) > 0}
	if p := m.Plan; p != nil {
		st.Sets, st.Followed = m.Sets()
		if p.SetOnly && len(p.Sets) == 0 && c.lease.onReplica() {
			st.Text = string(c.textOf(w, m)) // it can be run again where the transaction goes
		}
	}
	before := c.state.Tx.Modes
	e := c.state.Ran(st, out, c.s.cfg.Settings.Track != nil)
	l := &c.lease
	l.leave(e.Residue)
	l.inspect |= e.Inspect
	l.restore = l.restore || e.Startup
	l.unpinned = l.unpinned || e.Unpinned
	if out != session.Done {
		return
	}
	if l.onReplica() && c.state.Tx.Phase.InBlock() {
		c.state.Tx.Did |= session.DidRead
	}
	switch e.Ended {
	case session.Committed:
		l.carried.Commit()
	case session.RolledBack:
		l.carried.Rollback()
	case session.NoEnd:
	}
	if m.Plan != nil {
		if p := m.Plan; st.Followed {
			l.carried.Follow(p, st.Sets, before)
			for i := range st.Sets {
				c.up.Database.Customs.Add(st.Sets[i].Name)
			}
		}
		if m.Plan.Tx.Verb == router.TxRollback {
			c.writes = noWrites // they are undone
		}
	}
	c.ranNames(m, e.Forgets)
}

// ranNames takes in what a statement that succeeded means for the names.
func (c *client) ranNames(m *batch.Message, forgets bool) {
	held := c.lease.b.Held()
	if m.SQL != nil && m.SQL.Ends {
		held.Drop(m.SQL.Needs.Statement)
		c.names.Forget(m.SQL.Name)
	}
	if forgets || m.Plan != nil && m.Plan.SQL.Verb == router.PreparedDeallocateAll {
		held.Clear()
		c.names.ForgetAll()
	}
	if m.SQL != nil && m.SQL.Makes != nil {
		if len(held.Hold(m.SQL.Makes.Statement)) > 0 {
			c.lease.leave(session.Opaque) // one makes room that cannot be closed now; the connection is, later
		}
		c.names.Define(m.SQL.Name, m.SQL.Makes)
	}
}

// seeReady ends a Sync, a simple query or a function call.
func (c *client) seeReady(w *work, a *batch.Awaited, frame []byte) (keep bool, err error) {
	t := &w.try
	if !a.Kind.Ends(wire.ReadyForQuery) {
		return false, fmt.Errorf("%w: unexpected ReadyForQuery", errServerLost)
	}
	c.lease.b.Ready(frame[wire.HeaderSize])
	if a.Origin == batch.Setup {
		c.lease.b.NoteSettings(t.Carries)
		t.Head++
		return false, nil
	}
	if t.unopened { // the block the client was told is open has failed, and no server knows of it
		frame[wire.HeaderSize] = wire.TxFailed
	}
	t.status, t.hold = frame[wire.HeaderSize], false
	t.failed = t.failed || c.lease.stands == midBatchFailed
	c.lease.stands, c.skipping = atRest, false
	t.Head++
	if a.Kind != batch.Sync && a.Outcome == session.Done {
		c.ran(w, a, session.Done)
	}
	if a.Kind == batch.Query {
		c.lease.b.Held().Unnamed = 0
		c.dropUnnamed()
	}
	if !c.lease.onReplica() {
		c.recordWrites(w, t.status == wire.TxIdle)
	}
	if t.trace && !a.Internal() {
		c.traceBatch(w)
	}
	if c.lease.restore {
		t.late = append([]byte(nil), frame...)
		return false, nil
	}
	if c.told.pending && !(t.failed && t.Takes == batch.TakesWithin) { // that undid what was taken over, too
		w.answer = c.told.report(w.answer, c.lease.b.Parameters())
	}
	return !a.Internal(), nil
}

// seeError takes an ErrorResponse: the batch may be sent again, or everything up
// to its Sync is over.
func (c *client) seeError(w *work, a *batch.Awaited, frame []byte) (keep bool, err error) {
	t := &w.try
	c.dropStatements(t)
	keep = a.Refusal == nil
	fatal := string(wire.ErrorField(frame, 'V')) != "ERROR"
	if again := c.worthRetry(w, a, frame); again != nil && t.hold {
		return false, again
	}
	if fatal || t.syncIgnored {
		// Whether that Sync will be answered, nobody knows.
		return false, &fatalError{frame: append([]byte(nil), frame...)}
	}
	if a.Origin == batch.Setup || a.Origin == batch.Sentinel {
		return false, &adoptError{fromFrame(frame)}
	}
	t.failed, t.hold = true, false
	if keep {
		c.s.metrics.ServerError()
	}
	if m := a.Message; m != nil && m.Prepared != nil && resultChanged(frame) {
		// A client that prepares it again must get a new one, on every server.
		c.s.registry.Forget(m.Prepared.Statement)
	}
	if a.Refusal != nil {
		w.answer = a.Refusal.Append(w.answer)
		c.s.metrics.ProxyError()
	} else if own := c.reword(w, a, frame); &own[0] != &frame[0] {
		w.answer = append(w.answer, own...)
		keep = false
	}
	err = c.failed(w, a, frame)
	c.lease.b.Sent(t.Ready()) // what was skipped is not answered
	return keep, err
}

// failed takes in that a message failed: the server skips to the Sync.
func (c *client) failed(w *work, a *batch.Awaited, frame []byte) error {
	t := &w.try
	t.unopened = a.Origin == batch.Opening
	if a.Message != nil && a.Kind.Executes() {
		out := session.Failed
		if notUnderstood(a.Message.Plan, frame) {
			out = session.NotRun
		}
		c.ran(w, a, out)
	} else {
		a.Outcome = session.NotRun
	}
	if a.Message != nil && a.Kind == batch.Parse && a.Tag != 0 {
		c.names.DropUnnamed() // as PostgreSQL does before it parses
	}
	if a.Kind == batch.Query || a.Kind == batch.FunctionCall {
		return nil // its ReadyForQuery follows
	}
	for t.Head < len(t.Queue) && t.Queue[t.Head].Kind != batch.Sync {
		if t.Head++; t.Head < len(t.Queue) {
			t.Queue[t.Head].Outcome = session.NotRun
		}
	}
	if t.Head == len(t.Queue) {
		return c.endSkipped(w)
	}
	return nil
}

// notUnderstood reports whether a server refused a statement before running any of
// it: what is unknown to the proxy need not be feared then. An error of the parser
// points into the text; one from within a function has a context.
func notUnderstood(p *router.Plan, frame []byte) bool {
	code := string(wire.ErrorField(frame, 'C'))
	if p == nil {
		return code == "34000" // there is no such portal
	}
	if p.Statements == 1 && code == "25P02" {
		return true // nothing runs in a failed transaction
	}
	if p.Statements > 1 || p.Pins&^router.PinOpaque != 0 ||
		wire.ErrorField(frame, 'P') == nil || wire.ErrorField(frame, 'W') != nil {
		return false
	}
	switch p.Reason {
	case router.ReasonUnparsed, router.ReasonUnknownRel, router.ReasonUnknownFn, router.ReasonNoCatalog, router.ReasonWrite:
		return strings.HasPrefix(code, "42")
	}
	return false
}

// endSkipped ends a batch the server skips the rest of, with no Sync to come: a
// simple query behind what failed waits for one as well.
func (c *client) endSkipped(w *work) error {
	if w.batch.End == batch.EndQuery && len(w.batch.Messages) == 1 && !c.lease.midBatch() {
		// The simple query itself was the client's whole batch; what failed was the
		// proxy's. The client awaits a ReadyForQuery.
		if _, err := c.lease.b.Conn.Write(wire.AppendSync(nil)); err != nil {
			return fmt.Errorf("%w: %w", errServerLost, err)
		}
		w.try.Queue = append(w.try.Queue, batch.Awaited{Kind: batch.Sync})
		return nil
	}
	c.skipping = true
	return nil
}

// dropStatements forgets what the rest of the queue was to prepare.
func (c *client) dropStatements(t *attempt) {
	held := c.lease.b.Held()
	for i := t.Head; i < len(t.Queue); i++ {
		switch a := &t.Queue[i]; {
		case a.Here:
		case a.Shared != nil:
			held.Drop(a.Shared)
		case a.Kind == batch.Parse:
			held.Unnamed = 0
		case a.Kind == batch.Close && a.Origin == batch.Internal:
			c.lease.leave(session.Opaque) // a statement that was to be closed is still there
		}
	}
}

// fatalError is an ErrorResponse after which the server closes the connection.
type fatalError struct{ frame []byte }

func (e *fatalError) Error() string {
	return fmt.Sprintf("server: %s (SQLSTATE %s)", wire.ErrorField(e.frame, 'M'), wire.ErrorField(e.frame, 'C'))
}

// adoptError is that a server refused to let its connection carry the session's
// settings. It is not the client's error: another connection may do.
type adoptError struct{ refused *wire.Error }

func (e *adoptError) Error() string {
	return "the server refused the session's settings: " + e.refused.Message
}
func (e *adoptError) Unwrap() error { return e.refused }
