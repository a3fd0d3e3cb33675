package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// What a statement meets while the servers change their roles:
//
//   - Not sent yet, it waits for a primary, at most primary_wait since it came.
//   - Sent over a connection that had ended before, it was not received: it is sent again.
//   - A server that shuts down ends its sessions with 57P01, and what one ran is undone
//     with it. A batch of which nothing was done, and which does nothing that is not undone
//     so, is sent to the next primary. That holds only if the server is seen to shut
//     down: an administrator who ends one session means it.
//   - Cut off without a word, a write may have been done: its client gets 08006. A read
//     is sent again.
//   - Within a transaction that is under way nothing is repeated.

// awaitPrimary waits until there is a primary or the batch has waited for long enough.
func (c *Client) awaitPrimary(w *work) (*cluster.Server, error) {
	began := time.Now()
	late := c.interrupt.SlowContext()
	ctx, cancel := context.WithDeadline(late, w.batch.Started.Add(c.svc.Config.Routing.PrimaryWait))
	defer cancel()
	primary, err := c.up.Cluster.WaitPrimary(ctx)
	if cause := context.Cause(late); cause != nil {
		err = cause
	}
	if c.interrupt.EndWait() && err == nil {
		err = interrupt.ErrCanceled
	}
	c.svc.Metrics.AwaitedPrimary(time.Since(began))
	return primary, err
}

// moveOn reports whether a batch that met a server that could not be reached may try
// another one, having told the monitor.
func (c *Client) moveOn(w *work, s *cluster.Server, err error) bool {
	if !unreachable(err) {
		return false
	}
	c.up.Cluster.ReportUnreachable(s, err)
	w.learned |= trustNothing
	return time.Since(w.batch.Started) < c.svc.Config.Routing.PrimaryWait
}

// lostUnused reports whether a connection ended before the batch was sent over it,
// and the batch may try another one.
func (c *Client) lostUnused(w *work, s *cluster.Server, err error) bool {
	if !upstream.CutOff(err) || c.ctx.Err() != nil {
		return false
	}
	c.up.Cluster.ReportLost(s)
	w.learned |= trustNothing
	return time.Since(w.batch.Started) < c.svc.Config.Routing.PrimaryWait
}

// unserved is the error of a batch that no server took.
func unserved(err error) error {
	if unreachable(err) {
		return fmt.Errorf("%w: %w", cluster.ErrNoPrimary, err)
	}
	return err
}

// recheckTimeout bounds how long the answer of a server is held back to learn what
// becomes of it.
const recheckTimeout = 2 * time.Second

// departs reports whether a server that ended a session is shutting down, or has become
// something else, rather than having been told to end that session.
func (c *Client) departs(s *cluster.Server) bool {
	before := c.up.Cluster.Topology().State(s)
	ctx, cancel := context.WithTimeout(c.ctx, recheckTimeout)
	defer cancel()
	now := c.up.Cluster.Recheck(ctx, s)
	return !now.Status.Usable() || now.Started != before.Started || now.Role != before.Role
}

// demoted reports whether a server that refuses to write is the primary no more.
func (c *Client) demoted(s *cluster.Server) bool {
	ctx, cancel := context.WithTimeout(c.ctx, recheckTimeout)
	defer cancel()
	now := c.up.Cluster.Recheck(ctx, s)
	return !now.Status.Usable() || now.Role == cluster.RoleReplica
}

// sendableAgain reports whether a batch whose server connection was lost may be sent
// again. frame is what the server said of it, if it did.
func (c *Client) sendableAgain(w *work, err error, frame []byte) bool {
	if errors.Is(err, wire.ErrNotSent) && c.untouched(w) {
		return true
	}
	phase := c.state.Tx.Phase
	if !w.try.hold || c.state.Pins != 0 || phase.Failed() || frame != nil && !upstream.Ending(frame) {
		return false
	}
	read := w.batch.Reads() && (!phase.InBlock() || w.try.Opens || c.lease.onReplica() && !c.mustStay())
	if frame == nil {
		return read
	}
	undone := string(wire.ErrorField(frame, 'C')) == "57P01" && c.untouched(w) && w.batch.Undoable()
	return (read || undone) && c.departs(c.lease.server)
}
