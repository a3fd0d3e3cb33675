package client

import (
	"net"
	"time"

	"github.com/pgweir/pgweir/proxy/activity"
	"github.com/pgweir/pgweir/router"
)

// View is a session at one moment.
type View struct {
	ID          uint64
	Application string
	Front       net.Conn // for its addresses and its TLS
	activity.View
}

// View may be called from any goroutine.
func (c *Client) View() View { return View{c.who.id, c.who.app, c.front.NetConn(), c.activity.View()} }

// counted counts a statement that ran.
func (w *work) counted(t router.Target, r router.Reason, class router.Class) {
	w.statements++
	w.c.svc.Metrics.Statement(t, r, class)
}

// answered counts what was answered, and how long that took since the batch came.
func (w *work) answered(t router.Target, class router.Class) {
	w.took = time.Since(w.batch.Started)
	w.c.svc.Metrics.Answered(t, class, w.took)
}

// tally counts the batch, which is over.
func (w *work) tally() {
	c, b := w.c, &w.batch
	if w.took == 0 { // nothing ran
		w.took = time.Since(b.Started)
	}
	open := c.state.Tx.Phase.InBlock() || c.lease.midBatch()
	c.activity.Over(activity.Batch{
		Started: b.Started, Took: w.took, Opened: c.interrupt.Follow(open, b.Started), Statements: w.statements,
		Received: uint64(b.Size + b.Tail), Written: c.front.Written(),
	}, open, &c.up.Traffic)
}
