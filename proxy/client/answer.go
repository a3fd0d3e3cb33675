package client

import (
	"errors"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/analysis"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/tail"
	"github.com/pgweir/pgweir/router"
)

// The life of a batch:
//
//	read      the client's messages, analysed as they come         read.go, package analysis
//	decide    which kind of server                                 decide.go
//	acquire   a connection to one, to carry the session's          acquire.go, freshness.go,
//	          settings                                             failover.go, lease.go
//	encode    what the server is sent: the messages, and what      send.go, package batch
//	          must come before
//	relay     the answers, to ReadyForQuery; each is an event      relay.go, copy.go, outcome.go,
//	          for the session's state                              writes.go
//	settle    what is left to do; the connection is kept or        settle.go, readback.go,
//	          given back                                           lease.go (verdict)
//
// What needs no server is answered in here.go, what fails is dealt with in recover.go. As
// long as nothing of an answer has reached the client, a batch that a replica failed can
// go through it again: retry.go decides that.

// maxAttempts bounds how often a batch is sent.
const maxAttempts = 4

// answer reads one batch and answers it. An error ends the session.
func (w *work) answer() (err error) {
	if w.c.told.texts == textsMisread {
		w.c.state.Pins |= router.PinSetting // its texts may be anything: they run on the primary
	}
	if err := w.read(); err != nil {
		return err
	}
	w.record(0)
	defer func() {
		w.spans.End(err)
		w.tally()
		if w.c.state.Tx.Phase == session.Idle {
			w.c.done.seen.Idle()
		}
		w.c.interrupt.Done(w.more())
		w.c.front.Discard(w.batch.Size)
		if err == nil {
			err = tail.Drop(w.c.front, w.batch.Tail) // what no server was sent
		}
	}()
	b := &w.batch
	w.reply = append(w.reply, b.Notices...)
	needs := b.Traits.Has(batch.NeedsServer) || w.c.lease.midBatch() || b.Traits.Has(batch.Refused) && w.c.lease.held()
	if !needs {
		return w.answerAlone()
	}
	if w.c.state.Tx.Phase == session.Idle {
		b.SendFirst()
	}
	if w.answerFirst(); b.Here > 0 {
		w.record(b.Here)
	}
	if w.c.state.Tx.Phase == session.AbortedDeferred && b.RefusedByAll() {
		return w.refuseBatch(analysis.ErrAborted)
	}
	return w.answerByServer()
}

// more reports whether some of the next batch is in the client's buffer.
func (w *work) more() bool { return len(w.c.front.Buffered()) > w.batch.Size+w.batch.Tail }

// flushLast is flush with the last of the answer.
func (w *work) flushLast() error {
	w.c.interrupt.Tell(w.more())
	return w.flush()
}

// answerAlone answers a batch that needs no server.
func (w *work) answerAlone() error {
	for i := range w.batch.Messages {
		m := &w.batch.Messages[i]
		switch {
		case m.Kind == batch.Sync:
			w.c.stands = inStep
			w.c.endLocal()
			w.hearBehind()
			w.reply = wire.AppendReady(w.reply, w.c.state.Tx.Phase.Status())
		case m.Refusal != nil:
			w.fail(m.Refusal, false)
		default:
			w.c.dropUnnamed(m)
			w.emit(m)
		}
	}
	return w.flushLast()
}

// answerFirst answers the messages before the first that needs a server.
func (w *work) answerFirst() {
	for i := range w.batch.Messages {
		m := &w.batch.Messages[i]
		if !m.Here {
			return
		}
		w.c.dropUnnamed(m)
		w.emit(m)
		w.batch.Here++
	}
}

// answerByServer sends the batch to a server until one has answered it.
func (w *work) answerByServer() error {
	defer w.c.clock.WatchTransaction(w.batch.Started)()
	defer w.c.up.Vacate(w.c.ctx, w.batch.Vacates())()
	drawing{w}.foreseen()
	if w.batch.Removes() && w.c.mayResolve() {
		if err := w.c.resolveAndPart(); err != nil {
			return err
		}
	}
	w.begin()
	answered := len(w.reply)
	for n := 1; ; n++ {
		err := w.attempt()
		if err == nil {
			return nil
		}
		var again *retry
		if !errors.As(err, &again) {
			return err
		}
		w.returnToBegin() // what the attempt changed, the next one will
		w.forgetNames()
		w.try.pass = 0 // nothing of it was written
		if w.reply = w.reply[:answered]; n == maxAttempts {
			return w.refuseBatch(again.refusal(n))
		}
		w.learned |= again.lessons
		w.c.svc.Metrics.Retried(again.reason)
	}
}

// before is what an attempt that is to be made again must find.
type before struct {
	state  session.State
	writes freshness.Changes
}

// begin keeps what the session is before the first attempt.
func (w *work) begin() {
	w.c.state.CopyTo(&w.before.state)
	w.before.writes = w.c.writes
}

// returnToBegin brings the session back to that, but for what it lost meanwhile.
func (w *work) returnToBegin() {
	w.before.state.CopyTo(&w.c.state)
	w.c.writes = w.before.writes
	if !w.c.lease.held() {
		w.c.state.Moved()
	}
}

// forgetNames takes back the names that the attempt's answers, held back from the
// client, gave and took.
func (w *work) forgetNames() {
	for i := w.try.Head - 1; i >= 0; i-- {
		a := &w.try.Queue[i]
		switch m := a.Message; {
		case a.Given != nil:
			a.Given.Statement.Naming = session.ServersName
			w.c.names.Define(a.Given.Name, a.Given.Statement)
		case m == nil || m.Name == "":
		case a.Kind == batch.Parse:
			w.c.names.Forget(m.Name)
		case a.Kind == batch.Close && m.Target == 'S' && m.Prepared != nil:
			w.c.names.Define(m.Name, m.Prepared)
		}
	}
}

// attempt sends the batch once. A *retry says that it may be sent again.
func (w *work) attempt() error {
	t := &w.try
	t.reset()
	t.definitions = w.c.up.Database.Definitions()
	if w.c.svc.Config.Routing.Shadow {
		t.decision = w.decideShadowed()
	} else {
		t.decision = w.decide()
	}
	if w.learned.has(onPrimary) {
		t.decision = router.Decision{Target: router.TargetPrimary, Reason: router.ReasonRetried}
	}
	t.Renew = w.learned.has(prepareAnew)
	if err := (acquisition{w}).acquire(); err != nil {
		return w.refuseByError(err)
	}
	w.c.lease.would = t.would
	acquisition{w}.defines()
	if (rowCheck{w}).checkRows(); t.RefuseAt == 0 {
		drawing{w}.begins()
	}
	if w.c.lease.onReplica() && w.mustStay() && t.RefuseAt == 0 && !w.c.state.Tx.Phase.Failed() {
		t.RefuseAt, t.Refusal = w.batch.Locks(), batch.ErrNoLock
	}
	bytes := w.encode()
	if !t.AsksServer() {
		return w.answerHere()
	}
	return w.exchange(bytes)
}

// exchange sends the bytes over the held connection and deals with the answer.
func (w *work) exchange(bytes []byte) error {
	t := &w.try
	switch err := w.c.interrupt.Run(w.c.lease.b, w.plan()); {
	case errors.Is(err, interrupt.ErrCanceled):
		return recovery{w}.giveUp(interrupt.ErrCanceled)
	case err != nil:
		return recovery{w}.recover(err)
	}
	if t.trace = w.c.preferences().Trace; (repetition{w}).mayRetry() {
		t.flow = heldBack
	}
	now := time.Now()
	w.c.svc.Metrics.Sent(w.c.lease.target(), w.plan().Class, now.Sub(w.batch.Started))
	w.c.done.seen.Sent(w.batch.Started, now)
	if t.Tail == 0 {
		defer w.c.clock.WatchStatement()()
	}
	err := relay{w}.run(bytes)
	w.c.interrupt.Pause()
	if err != nil {
		return recovery{w}.recover(err)
	}
	return settlement{w}.settle()
}

// answerHere gives the answers of a batch all of which turned out to be the proxy's
// own: statements the server holds already. Its Sync is still to come.
func (w *work) answerHere() error {
	t := &w.try
	for ; t.Head < len(t.Queue); t.Head++ {
		w.emit(t.Queue[t.Head].Message)
	}
	if err := w.flush(); err != nil {
		return err
	}
	return settlement{w}.settle()
}
