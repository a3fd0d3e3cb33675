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
func (c *Client) answer(w *work) error {
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
		return c.refuseBatch(w, analysis.ErrAborted)
	}
	return c.answerByServer(w)
}

// answerAlone answers a batch that needs no server.
func (c *Client) answerAlone(w *work) error {
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
func (c *Client) answerFirst(w *work) {
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
func (c *Client) endLocal() {
	if !c.state.Tx.Phase.InBlock() {
		c.names.ClosePortals()
		c.state.EndLocal()
	}
}

// answerByServer sends the batch to a server until one has answered it.
func (c *Client) answerByServer(w *work) error {
	c.interrupt.Begin()
	defer c.interrupt.Done()
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
		c.svc.Metrics.Retried(again.reason)
	}
}

// before is what an attempt that is to be made again must find.
type before struct {
	state  session.State
	writes freshness.Changes
}

func (c *Client) before() before { return before{c.state.Snapshot(), c.writes} }

// returnTo brings the session back to where it was before an attempt, but for what it
// lost meanwhile.
func (c *Client) returnTo(b before) {
	c.state, c.writes = b.state.Snapshot(), b.writes
	if !c.lease.held() {
		c.state.Moved()
	}
}

// forgetNames takes back the names that the attempt's answers, held back from the
// client, gave and took.
func (c *Client) forgetNames(w *work) {
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
func (c *Client) attempt(w *work) error {
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

// exchange sends the bytes over the held connection and deals with the answer.
func (c *Client) exchange(w *work, bytes []byte) error {
	t := &w.try
	if c.interrupt.Run(c.lease.b) {
		return c.giveUp(w, interrupt.ErrCanceled)
	}
	t.hold, t.trace = c.mayRetry(w), c.preferences().Trace
	c.svc.Metrics.Sent(time.Since(w.batch.Started))
	err := c.relay(w, bytes)
	c.interrupt.Pause()
	if err != nil {
		return c.recover(w, err)
	}
	return c.settle(w)
}

// answerHere gives the answers of a batch all of which turned out to be the proxy's
// own: statements the server holds already. Its Sync is still to come.
func (c *Client) answerHere(w *work) error {
	t := &w.try
	for ; t.Head < len(t.Queue); t.Head++ {
		c.emit(w, t.Queue[t.Head].Message)
	}
	if err := c.flush(w); err != nil {
		return err
	}
	return c.settle(w)
}
