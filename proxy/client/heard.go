package client

import (
	"errors"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/notify"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// A session that listens and holds nothing else of its server's would keep a connection for
// that. So it gives its channels to its database's Hub, and takes them back where a
// statement may need them: in a transaction block, and for LISTEN, UNLISTEN, DISCARD and
// functions.

// errDeaf ends a session that may have missed a notification, as the loss of its own
// connection would.
var errDeaf = wire.Fatalf("57P01", "terminating connection: the connection that listens for it was lost")

// passHeard gives the client what was notified. Outside a transaction only.
func (c *Client) passHeard(frames []byte, err error) error {
	if len(frames) > 0 {
		c.up.Database.Commits.OnNotification()
		if err := c.write(frames); err != nil {
			return err
		}
	}
	if err != nil {
		return errDeaf
	}
	return nil
}

// passOwn gives the client what its own connection has heard.
func (c *Client) passOwn(frames []byte) error {
	notify.Rename(frames, c.lease.b.PID(), c.who.pid)
	return c.passHeard(frames, nil)
}

// shareChannels gives what the session listens to on its connection to the Hub, if nothing
// else ties it to that. If that cannot be done it keeps its connection.
func (st settlement) shareChannels() error {
	c, l, s := st.c, &st.c.lease, &st.c.state
	if !l.held() || s.Pins != router.PinListen || l.onReplica() || l.residue != session.NoResidue || s.NeedsReadBack() {
		return nil
	}
	hub, err := c.up.Hub(c.ctx, l.server)
	if err != nil {
		c.Log().Warn("a session keeps its connection to listen", zap.Error(err))
		return nil
	}
	frames, err := c.ear.Share(c.ctx, l.b, hub, func() {
		if c.idle.Load() { // outside a transaction, waiting for the client
			c.front.Wake()
		}
	})
	if passed := c.passOwn(frames); passed != nil {
		return passed
	}
	switch {
	case errors.Is(err, notify.ErrNotShared):
		return nil
	case errors.Is(err, notify.ErrStillListens):
		c.discard()
	case err != nil:
		return errDeaf
	}
	s.Pins &^= router.PinListen
	return nil
}

// takeChannels has the connection just taken, of the primary, listen as the session does,
// if the batch may need that, or else has what it notifies itself told from the rest. The
// connection has the session's client_encoding by then, in which channels have their names.
func (a acquisition) takeChannels() error {
	c := a.c
	switch {
	case !c.ear.Listens(), c.lease.onReplica():
		return nil
	case !a.needsChannels():
		if a.batch.Reads() {
			return nil
		}
		return c.passHeard(c.ear.Expect(c.ctx, c.lease.b))
	}
	frames, err := c.ear.TakeBack(c.ctx, c.lease.b)
	if err != nil {
		c.discard()
	} else {
		c.state.Pins |= router.PinListen
	}
	return c.passHeard(frames, err)
}

// needsChannels reports whether a batch may ask what the session listens to, or change
// that, or what runs behind it on the same connection may.
func (a acquisition) needsChannels() bool {
	return a.c.ear.Listens() && !a.c.lease.onReplica() &&
		(a.c.state.Tx.Phase.InBlock() || a.batch.Continues() || a.batch.Plan == nil || a.batch.Traits.Has(batch.MindsChannels) || a.try.decision.Reason == router.ReasonFunction)
}

// hearBehind gives the client, before the ReadyForQuery of a transaction that the proxy ended
// itself, what was notified meanwhile. That the Hub is lost is told later.
func (w *work) hearBehind() {
	e := &w.c.ear
	if !e.Listens() || w.c.state.Tx.Phase != session.Idle {
		return
	}
	if frames, _ := e.Now(w.c.ctx); len(frames) > 0 {
		w.c.up.Database.Commits.OnNotification()
		w.reply = append(w.reply, frames...)
	}
}

// hearOwn gives the client, before its ReadyForQuery, what its batch has notified. Then
// somebody else may use the connection.
func (st settlement) hearOwn() error {
	if !st.c.ear.NotifiesItself() || st.c.state.Tx.Phase != session.Idle {
		return nil
	}
	frames, err := st.c.ear.Own(st.c.ctx, st.c.who.pid)
	if err != nil {
		return errDeaf
	}
	if len(frames) > 0 {
		st.c.up.Database.Commits.OnNotification()
		st.reply = append(st.reply, frames...)
	}
	return nil
}
