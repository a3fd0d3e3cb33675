package client

import (
	"fmt"
	"weak"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/doubt"
	"github.com/pgweir/pgweir/proxy/notify"
	"github.com/pgweir/pgweir/proxy/observe"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// outcomes takes in what a server says to an attempt, message by message.
type outcomes struct{ *work }

// see looks at one message of the server: which answer it belongs to, whether it ends
// it, and whether the client gets it.
func (o outcomes) see(a *batch.Awaited, typ byte, frame []byte) (keep bool, err error) {
	t := &o.try
	switch typ {
	case wire.ErrorResponse:
		return o.seeError(a, frame)
	case wire.ReadyForQuery:
		return o.seeReady(a, frame)
	case wire.ParameterStatus:
		if n, v, ok := wire.ParameterParts(frame); ok {
			o.c.lease.b.SetParameter(string(n), string(v))
			o.c.told.pending = true
		}
		return false, nil
	case wire.NotificationResponse:
		notify.Rename(frame, o.c.lease.b.PID(), o.c.who.pid)
		o.c.up.Database.Commits.OnNotification()
		return !a.Internal(), nil
	case wire.NoticeResponse:
		return !a.Internal(), nil
	case wire.CopyInResponse, wire.CopyOutResponse:
		t.sure()
		return true, nil
	case wire.CopyBothResponse:
		return false, fmt.Errorf("%w: unexpected CopyBothResponse", upstream.ErrServerLost)
	case wire.ParameterDescription:
		if a.Message != nil && a.Message.Described != nil {
			a.Message.Described.Told.Types = string(frame[wire.HeaderSize:])
		}
	case wire.CommandComplete, wire.PortalSuspended:
		if o.c.done.seen.Complete(typ, frame); typ == wire.CommandComplete {
			recorder(o).recordBeforeForwarding(a)
		}
	}
	if a.Kind.Ends(typ) {
		if a.Kind == batch.Describe && a.Message.Described != nil {
			o.noteRows(a.Message.Described, frame)
		}
		if a.Kind.Executes() && !a.Internal() {
			t.sure()
		}
		t.Head++
		if o.done(a); a.Kind == batch.Execute && a.Message != nil {
			o.ran(a, session.Done)
		}
	} else if a.Kind == batch.Query && typ == wire.CommandComplete && !o.ranPart(a) {
		t.sure()
	}
	return !a.Internal(), nil
}

// done takes in an answer that says that a message succeeded, but for what it ran.
func (o outcomes) done(a *batch.Awaited) {
	held, m := o.c.lease.b.Held(), a.Message
	if a.Internal() {
		o.spans.TookOver()
	}
	switch {
	case a.Kind == batch.Parse && a.Shared == nil:
		held.Unnamed = uint64(a.Tag)
	case a.Kind == batch.Parse && !a.Internal() && !o.c.state.Tx.Did.Has(session.DidSet) && o.c.state.UsualNames():
		o.c.up.Parsed.Add(a.Shared.Name, weak.Make(m.Prepared.Snapshot))
	}
	if a.Given != nil {
		o.gave(a.Given)
	}
	if m == nil {
		return
	}
	switch a.Kind {
	case batch.Parse:
		m.Parsed(&o.c.names, o.bytes())
	case batch.Bind:
		if m.Prepared != nil || m.Tag != 0 {
			o.c.names.DefinePortal(m.Name, m.Portal)
		}
	case batch.Close:
		m.Closed(&o.c.names)
	case batch.Execute, batch.Describe, batch.Sync, batch.Query, batch.FunctionCall:
	}
}

// ran gives the session's state the outcome of a statement, and takes in what it means
// for the names and the server connection.
func (o outcomes) ran(a *batch.Awaited, out session.Outcome) {
	m := a.Message
	if a.Outcome = out; out == session.NotRun {
		return
	}
	if out == session.Done {
		o.spans.Ran(m)
	}
	if o.c.done.seen != nil && m.Plan != nil && m.Plan.Statement != nil {
		defer o.observe(m, out, o.c.state.Tx.Phase.InBlock())
	}
	o.c.countTenant(m)
	o.c.lease.b.Ran(m.Plan)
	unseen := (m.Parts() == nil || a.Parts == 0) && o.mayMeanOther(m)
	var st session.Executed
	var e session.Effects
	switch parts := m.Parts(); {
	case parts == nil:
		st.Plan = o.believed(m, m.Plan)
		if p := m.Plan; p != nil {
			st.Sets, _ = m.Sets()
			if p.SetOnly && len(p.Sets) == 0 && o.c.lease.onReplica() {
				st.Text = string(o.textOf(m)) // it can be run again where the transaction goes
			}
		}
		e = o.executed(&st, out)
	case out == session.Failed && a.Parts < len(parts):
		p := parts[a.Parts]
		st.Plan, st.Sets = o.believed(m, p), p.Sets
		e = o.executed(&st, out)
	case a.Parts != len(parts):
		unseen = true // the server took it for other statements
	}
	if unseen {
		o.c.ranUnseen()
	}
	if out == session.Done {
		o.ranNames(m, e.Forgets)
	}
}

// observe tells what observes the session that a statement has ended. was is whether a
// transaction block was open before.
func (o outcomes) observe(m *batch.Message, out session.Outcome, was bool) {
	o.c.done.seen.Ran(&observe.Statement{
		Message: m, Batch: &o.batch, Sent: o.bytes(), OnPrimary: !o.c.lease.onReplica(), Failed: out != session.Done,
		Reason: o.try.decision.Reason, Bytes: o.try.rowBytes, WasInBlock: was, InBlock: o.c.state.Tx.Phase.InBlock(),
		Settings: o.c.state.Settings.Now(), Unnamed: &o.c.names.Unnamed,
	})
	o.try.rowBytes = 0
}

// ranPart takes in that a server has carried out one of the statements of a string. again is
// that it may be sent again even if the client knows that.
func (o outcomes) ranPart(a *batch.Awaited) (again bool) {
	parts := a.Message.Parts()
	if a.Parts++; a.Parts > len(parts) {
		return false
	}
	if a.Parts == 1 && o.mayMeanOther(a.Message) {
		o.c.ranUnseen()
	}
	p := parts[a.Parts-1]
	o.executed(&session.Executed{Plan: o.believed(a.Message, p), Sets: p.Sets}, session.Done)
	return p.Opens()
}

// believed is p, the plan of what ran of a message, without what it says only because
// names in it are not known, if that is judged later: not of what a replica ran.
func (o outcomes) believed(m *batch.Message, p *router.Plan) *router.Plan {
	doubtful, redefined := o.doubtful(p)
	switch {
	case !doubtful:
	case !o.doubt(m, p, redefined):
		o.c.ranUnseen()
	case p.Flags.Has(router.FlagIgnorant) && !o.c.lease.onReplica():
		return p.Doubted()
	}
	return p
}

// executed gives the session's state, and what is known of the server connection, the outcome of one statement.
func (o outcomes) executed(st *session.Executed, out session.Outcome) session.Effects {
	s, p := &o.c.state, st.Plan
	if s.Refuses(p, out) {
		return session.Effects{}
	}
	snapshot := o.c.up.Database.Plans.Snapshot()
	st.Plan = doubt.Of(p, s, snapshot, func() string { return snapshot.Default(o.c.up.Config.ServerUser, "search_path") })
	before := s.Tx.Modes
	e := s.Ran(st, out, doubt.MaySet(p, o.c.lease.onReplica(), o.c.svc, o.c.up.Database))
	if o.c.lease.ran(&e); e.Ended != session.NoEnd {
		o.c.names.ClosePortals() // a chain goes on without them
	}
	if o.c.lease.changes(st); o.c.lease.onReplica() {
		if s.RanOnReplica(st, e.Ended == session.NoEnd && o.batch.Traits.Has(batch.OpensCursor) && o.c.modes().Access == router.ReadOnly); p == nil || p.Pins&router.PinOpaque != 0 {
			o.c.lease.leave(session.Opaque)
		}
	}
	if out != session.Done {
		return e
	}
	if p.TakesSnapshot() { // in an implicit transaction too, which a BEGIN behind it may make a block
		s.Queried(o.c.lease.onReplica())
	}
	o.c.lease.follow(st, e.Ended, before)
	if p != nil && (p.Flags&(router.FlagDDL|router.FlagTemporary) != 0 || p.Tx.Verb == router.TxRollbackTo) {
		o.c.lease.doubts.Makes(p)
	}
	o.c.lease.b.NoteTemporary(p != nil && p.Flags&(router.FlagDDL|router.FlagTemporary) != 0) // REFRESH … CONCURRENTLY, too
	if p != nil && p.Tx.Verb == router.TxRollback {
		o.c.writes = noWrites // they are undone
	}
	for i := range st.Sets {
		o.c.up.Database.Customs.Add(st.Sets[i].Name)
	}
	return e
}

// ranNames takes in what a statement that succeeded means for the names.
func (o outcomes) ranNames(m *batch.Message, forgets bool) {
	held := o.c.lease.b.Held()
	if m.SQL != nil && m.SQL.Ends != nil {
		if m.SQL.Ends.Naming == session.ServersName {
			held.Drop(m.SQL.Ends.Statement)
		}
		o.c.names.Forget(m.SQL.Name)
	}
	for _, name := range m.Drops {
		o.c.names.Forget(name)
	}
	if forgets || m.Plan != nil && m.Plan.SQL.Verb == router.PreparedDeallocateAll {
		held.Clear()
		o.c.names.ForgetAll()
		for i := range o.try.Queue[o.try.Head:] { // what is prepared behind it in the batch
			if a := &o.try.Queue[o.try.Head+i]; a.Kind == batch.Parse && a.Shared != nil {
				held.Hold(a.Shared)
			}
		}
	}
	if m.SQL != nil && m.SQL.Makes != nil {
		held.Hold(m.SQL.Makes.Statement)
		o.c.names.Define(m.SQL.Name, m.SQL.Makes)
	}
}

// gave takes in that the connection has a statement under the client's name. From now on only its
// server knows what becomes of one that was prepared by SQL.
func (o outcomes) gave(g *batch.Given) {
	g.Statement.Naming = session.BothNames
	if g.Statement.Statement.SQL != "" {
		o.c.names.Forget(g.Name)
	}
	o.c.state.Pins |= router.PinPrepared
	o.c.lease.leave(session.Discardable)
}

// seeReady ends a Sync, a simple query or a function call.
func (o outcomes) seeReady(a *batch.Awaited, frame []byte) (keep bool, err error) {
	t := &o.try
	if len(frame) != wire.HeaderSize+1 || !a.Kind.Ends(wire.ReadyForQuery) {
		return false, fmt.Errorf("%w: unexpected ReadyForQuery", upstream.ErrServerLost)
	}
	o.c.lease.b.Ready(frame[wire.HeaderSize])
	if a.Origin == batch.Setup {
		o.c.lease.b.NoteSettings(t.Carries)
		o.spans.TookOver()
		t.Head++
		return false, nil
	}
	if t.fate == unopened { // the block the client was told is open has failed, and no server knows of it
		frame[wire.HeaderSize] = wire.TxFailed
	}
	t.sure()
	t.status = frame[wire.HeaderSize]
	if !t.failed() && o.c.lease.stands == midBatchFailed {
		t.fate = failed
	}
	o.c.lease.stands, o.c.stands = atRest, inStep
	t.Head++
	if a.Kind != batch.Sync && a.Outcome == session.Done {
		o.ran(a, session.Done)
	}
	held := o.c.lease.b.Held()
	if held.EndBatch(); a.Kind == batch.Query {
		held.Unnamed = 0
		o.c.names.Queried()
	}
	if !o.c.lease.onReplica() {
		recorder(o).recordWrites(t.status == wire.TxIdle)
	}
	if t.trace && !a.Internal() {
		o.traceBatch()
	}
	if o.c.lease.restore || o.c.ear.NotifiesItself() && t.status == wire.TxIdle {
		t.late = append([]byte(nil), frame...)
		return false, nil
	}
	if o.c.told.pending && !t.undidTaken() {
		o.reply = o.c.told.report(o.reply, o.c.lease.b.Parameters())
	}
	return !a.Internal(), nil
}

// seeError takes an ErrorResponse: the batch may be sent again, or everything up
// to its Sync is over.
func (o outcomes) seeError(a *batch.Awaited, frame []byte) (keep bool, err error) {
	if o.c.ctx.Err() != nil {
		return false, errShutdown // for which it was canceled
	}
	t := &o.try
	o.dropStatements()
	if o.spans != nil {
		o.spans.Failed(a.Message, string(wire.ErrorField(frame, 'C')))
	}
	keep = a.Refusal == nil
	fatal := string(wire.ErrorField(frame, 'V')) != "ERROR"
	if t.Stale(a, frame) {
		// A client that prepares it again must get a new one, on every server.
		o.c.svc.Registry.Forget(a.Message.Prepared.Statement)
	}
	if again := repetition(o).worthRetry(a, frame); again != nil && t.flow == heldBack {
		return false, again
	}
	if fatal || t.flow == copyingPastSync {
		// Whether that Sync will be answered, nobody knows.
		return false, &fatalError{frame: append([]byte(nil), frame...)}
	}
	if a.Origin == batch.Setup || a.Origin == batch.Sentinel {
		return false, &adoptError{wire.ReadError(frame)}
	}
	t.sure()
	t.fate = failed
	if a.Origin == batch.Client {
		drawing(o).drew() // in vain, perhaps, but the sequence has given
	}
	if keep {
		o.c.svc.Metrics.ServerError()
	}
	if a.Refusal != nil {
		o.reply = a.Refusal.Append(o.reply)
		o.c.svc.Metrics.ProxyError()
	} else if own := batch.Reword(a, o.c.clock.Reword(frame), o.bytes(), &o.c.names); &own[0] != &frame[0] {
		o.reply = append(o.reply, own...)
		keep = false
	}
	err = o.failed(a, frame)
	o.c.lease.b.Sent(t.Ready()) // what was skipped is not answered
	return keep, err
}

// failed takes in that a message failed: the server skips to the Sync.
func (o outcomes) failed(a *batch.Awaited, frame []byte) error {
	t := &o.try
	if a.Origin == batch.Opening {
		t.fate = unopened
	}
	if a.Message != nil && a.Kind.Executes() {
		out := session.Failed
		switch p := a.Message.Plan; {
		case batch.NotUnderstood(p, frame):
			out = session.NotRun
		case o.c.lease.onReplica() && batch.RefusedWrite(p, frame):
			if out = session.NotRun; p.Pins != 0 {
				o.c.lease.leave(session.Opaque) // with what it called, a lock perhaps
			}
		}
		o.ran(a, out)
	} else {
		a.Outcome = session.NotRun
	}
	if a.Message != nil && a.Kind == batch.Parse && a.Tag != 0 {
		o.c.names.DropUnnamed() // as PostgreSQL does before it parses
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
		return o.endSkipped()
	}
	return nil
}

// endSkipped ends a batch the server skips the rest of, with no Sync to come: a
// simple query behind what failed waits for one as well.
func (o outcomes) endSkipped() error {
	if o.batch.End == batch.EndQuery && len(o.batch.Messages) == 1 && !o.c.lease.midBatch() {
		// The simple query itself was the client's whole batch; what failed was the
		// proxy's. The client awaits a ReadyForQuery.
		if err := o.wrote(); err != nil {
			return err
		}
		if _, err := o.c.lease.b.Conn.Write(wire.AppendSync(nil)); err != nil {
			return upstream.Lost(err)
		}
		o.try.Queue = append(o.try.Queue, batch.Awaited{Kind: batch.Sync})
		return nil
	}
	o.c.stands = skipping
	return nil
}

// dropStatements forgets what the rest of the queue was to prepare.
func (o outcomes) dropStatements() {
	t, held := &o.try, o.c.lease.b.Held()
	for i := t.Head; i < len(t.Queue); i++ {
		switch a := &t.Queue[i]; {
		case a.Origin == batch.Here:
		case a.Kind == batch.Close && a.Shared != nil:
			held.Owe(a.Shared)
		case a.Shared != nil:
			held.Drop(a.Shared)
		case a.Kind == batch.Parse:
			held.Unnamed = 0
		case a.Kind == batch.Close && a.Origin == batch.Internal:
			o.c.lease.leave(session.Opaque) // a statement that was to be closed is still there
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
