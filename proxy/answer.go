package proxy

import (
	"errors"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// The life of a batch:
//
//	read      the client's messages, analysed as they come
//	decide    which kind of server
//	acquire   a connection to one, to carry the session's settings
//	encode    what the server is sent: the messages, and what must come before
//	relay     the answers, to ReadyForQuery; each is an event for the session's state
//	settle    what is left to do; the connection is kept or given back
//
// As long as nothing of an answer has reached the client, a batch that a replica
// failed can go through it again.

// maxAttempts bounds how often a batch is sent.
const maxAttempts = 4

// answer reads one batch and answers it. An error ends the session.
func (c *client) answer(w *work) error {
	if err := c.read(w); err != nil {
		return err
	}
	defer func() { c.front.Discard(w.batch.Size) }()
	b := &w.batch
	w.answer = append(w.answer, b.Notices...)
	needs := b.Traits.Has(batch.NeedsServer) || c.lease.midBatch() || b.Traits.Has(batch.Refused) && c.lease.held()
	if !needs {
		return c.answerAlone(w)
	}
	c.answerFirst(w)
	if c.state.Tx.Phase == session.AbortedDeferred && refusedByAll(b) {
		return c.refuseBatch(w, errAborted)
	}
	return c.answerByServer(w)
}

var errAborted = wire.Errorf("25P02", "current transaction is aborted, commands ignored until end of transaction block")

// answerAlone answers a batch that needs no server.
func (c *client) answerAlone(w *work) error {
	for i := range w.batch.Messages {
		m := &w.batch.Messages[i]
		switch {
		case m.Kind == batch.Sync:
			c.skipping = false
			c.endLocal()
			w.answer = wire.AppendReady(w.answer, c.state.Tx.Phase.Status())
		case m.Refusal != nil:
			c.fail(w, m.Refusal, false)
		default:
			c.emit(w, m)
		}
	}
	return c.flush(w)
}

// answerFirst answers the messages before the first that needs a server.
func (c *client) answerFirst(w *work) {
	for i := range w.batch.Messages {
		m := &w.batch.Messages[i]
		if !m.Here {
			return
		}
		c.emit(w, m)
		w.batch.Here++
	}
}

// endLocal ends the implicit transaction of what the proxy answered itself.
func (c *client) endLocal() {
	if !c.state.Tx.Phase.InBlock() {
		c.names.ClosePortals()
		c.state.EndLocal()
	}
}

// fail adds an error of the proxy's own where no server takes part. ready is whether
// ReadyForQuery follows at once.
func (c *client) fail(w *work, e *wire.Error, ready bool) {
	w.answer = e.Append(w.answer)
	c.s.metrics.ProxyError()
	c.state.Refused()
	if ready {
		w.answer = wire.AppendReady(w.answer, c.state.Tx.Phase.Status())
	} else {
		c.skipping = true
	}
}

// refuseBatch answers all that is left of a batch with an error, no server having a
// part in it.
func (c *client) refuseBatch(w *work, e *wire.Error) error {
	b := &w.batch
	c.fail(w, e, b.End == batch.EndQuery && !b.Traits.Has(batch.Refused))
	if b.Traits.Has(batch.HasSync) {
		c.skipping = false
		w.answer = wire.AppendReady(w.answer, c.state.Tx.Phase.Status())
	}
	return c.flush(w)
}

// answerByServer sends the batch to a server until one has answered it.
func (c *client) answerByServer(w *work) error {
	c.interrupt.begin()
	defer c.interrupt.done()
	before, answered := c.before(), len(w.answer)
	for n := 1; ; n++ {
		err := c.attempt(w)
		if err == nil {
			return nil
		}
		var again *retry
		if !errors.As(err, &again) {
			return err
		}
		c.returnTo(before) // what the attempt changed, the next one will
		c.forgetNames(w)
		if w.answer = w.answer[:answered]; n == maxAttempts {
			return c.refuseBatch(w, again.refusal(n))
		}
		w.learned |= again.lessons
		c.s.metrics.Retried(again.reason)
	}
}

// before is what an attempt that is to be made again must find.
type before struct {
	state  session.State
	writes freshness.Changes
}

func (c *client) before() before { return before{c.state.Snapshot(), c.writes} }

// returnTo brings the session back to where it was before an attempt, but for what it
// lost meanwhile.
func (c *client) returnTo(b before) {
	c.state, c.writes = b.state.Snapshot(), b.writes
	if !c.lease.held() {
		c.state.Moved()
	}
}

// forgetNames takes back the names that the attempt's answers, held back from the
// client, gave and took.
func (c *client) forgetNames(w *work) {
	for i := w.try.Head - 1; i >= 0; i-- {
		a := &w.try.Queue[i]
		switch m := a.Message; {
		case m == nil || m.Name == "":
		case a.Kind == batch.Parse:
			c.names.Forget(m.Name)
		case a.Kind == batch.Close && m.Target == 'S' && m.Prepared != nil:
			c.names.Define(m.Name, m.Prepared)
		}
	}
}

// attempt sends the batch once. A *retry says that it may be sent again.
func (c *client) attempt(w *work) error {
	t := &w.try
	t.reset()
	t.decision = c.decide(w)
	if w.learned.has(onPrimary) {
		t.decision = router.Decision{Target: router.TargetPrimary, Reason: router.ReasonRetried}
	}
	t.Renew = w.learned.has(prepareAnew)
	if err := c.secure(w); err != nil {
		return c.refuseByError(w, err)
	}
	c.defines(w)
	c.checkRows(w)
	bytes := c.encode(w)
	if !t.asksServer() {
		return c.answerHere(w)
	}
	return c.exchange(w, bytes)
}

// asksServer reports whether any awaited answer is a server's.
func (t *attempt) asksServer() bool {
	for i := range t.Queue {
		if !t.Queue[i].Here {
			return true
		}
	}
	return false
}

// encode makes what the server is sent, and notes what the client is to be told for it.
func (c *client) encode(w *work) []byte {
	t := &w.try
	e := batch.Encoder{
		Attempt: &t.Attempt, Batch: &w.batch, Bytes: c.front.Buffered()[:w.batch.Size],
		State: &c.state, Unnamed: &c.names.Unnamed, Held: c.lease.b.Held(), Registry: c.s.registry,
	}
	c.carry(t)
	return e.Encode()
}

// carry notes what the connection will carry once it has run what is sent before the
// client's messages. If the server refuses any of it, the connection is closed or the
// transaction undone.
func (c *client) carry(t *attempt) {
	l := &c.lease
	switch t.Takes {
	case batch.TakesAhead:
		l.carried = session.Carrying(t.Carries)
	case batch.TakesWithin:
		for _, ch := range t.Changes {
			l.carried.Set(router.Set{Name: ch.Name, Value: ch.Value, Reset: ch.Reset})
		}
	case batch.TakesNothing:
	}
	l.asserted = l.asserted || t.Asserts != nil && t.Takes != batch.TakesAhead
	if (t.Opens || t.Repeats) && len(c.state.Settings.Log()) > 0 {
		c.told.pending = true
		l.carried.Replay(&c.state.Settings)
	}
}

// exchange sends the bytes over the held connection and deals with the answer.
func (c *client) exchange(w *work, bytes []byte) error {
	t := &w.try
	if c.interrupt.run(c.lease.b) {
		return c.giveUp(w, errCanceled)
	}
	t.hold, t.trace = c.mayRetry(w), c.preferences().trace
	c.s.metrics.Sent(time.Since(w.batch.Started))
	err := c.relay(w, bytes)
	c.interrupt.pause()
	if err != nil {
		return c.recover(w, err)
	}
	return c.settle(w)
}

// answerHere gives the answers of a batch all of which turned out to be the proxy's
// own: statements the server holds already. Its Sync is still to come.
func (c *client) answerHere(w *work) error {
	t := &w.try
	for ; t.Head < len(t.Queue); t.Head++ {
		c.emit(w, t.Queue[t.Head].Message)
	}
	if err := c.flush(w); err != nil {
		return err
	}
	return c.settle(w)
}

// refuseByError answers the batch with what kept a server from taking it.
func (c *client) refuseByError(w *work, err error) error {
	var lost *lostError
	var again *retry
	if errors.As(err, &lost) || errors.As(err, &again) {
		return err
	}
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	e := toClient(err, c.s.cfg)
	if e.Severity == "FATAL" {
		return e
	}
	return c.refuseBatch(w, e)
}
