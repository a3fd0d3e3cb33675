package client

import (
	"context"
	"errors"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/tracing"
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
func (a acquisition) awaitPrimary() (*cluster.Server, error) {
	began := time.Now()
	late := a.c.interrupt.SlowContext()
	ctx, cancel := context.WithDeadline(late, a.batch.Started.Add(a.c.svc.Config.Routing.PrimaryWait))
	defer cancel()
	primary, err := a.c.up.Cluster.WaitPrimary(ctx)
	if cause := context.Cause(late); cause != nil {
		err = cause
	}
	if a.c.interrupt.EndWait() && err == nil {
		err = interrupt.ErrCanceled
	}
	a.spans.Took(tracing.WaitPrimary, began)
	a.c.svc.Metrics.Awaited(metrics.WaitPrimary, time.Since(began))
	return primary, err
}

// moveOn reports whether a batch that met a server that could not be reached may try
// another one, having told the monitor.
func (a acquisition) moveOn(s *cluster.Server, err error) bool {
	if !upstream.Unreachable(err) {
		return false
	}
	a.c.up.Cluster.ReportUnreachable(s, err)
	a.learned |= trustNothing
	return time.Since(a.batch.Started) < a.c.svc.Config.Routing.PrimaryWait
}

// lostUnused reports whether a connection ended, and was discarded, before the batch was
// sent over it, and the batch may try another one.
func (a acquisition) lostUnused(s *cluster.Server, err error) bool {
	if a.c.lease.held() || !upstream.CutOff(err) || a.c.ctx.Err() != nil {
		return false
	}
	if errors.As(err, new(*wire.Error)) || errors.As(err, new(*retry)) {
		return false // it was discarded for another reason
	}
	a.c.up.Cluster.ReportLost(s)
	a.learned |= trustNothing
	return time.Since(a.batch.Started) < a.c.svc.Config.Routing.PrimaryWait
}
