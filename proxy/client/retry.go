package client

import (
	"errors"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// retry says that a batch may be sent again, nothing of its answer having reached the
// client.
type retry struct {
	reason  metrics.Retry
	lessons lessons
	err     error // what to tell if no attempt succeeds; nil is to tell the reason
}

func (r *retry) Error() string { return "to be sent again: " + r.reason.String() }

// refusal is the error of a batch that was sent n times in vain.
func (r *retry) refusal(n int) *wire.Error {
	if r.err != nil {
		return wire.Errorf("08006", "no server connection takes the session's settings: %v", r.err)
	}
	return wire.Errorf("08006", "statement failed on %d servers: %v", n, r.reason)
}

// repetition decides whether a batch may be sent again.
type repetition struct{ *work }

// worthRetry says whether an error would not occur, or not again, if the batch
// were sent once more.
func (r repetition) worthRetry(a *batch.Awaited, frame []byte) *retry {
	t := &r.try
	if a.Refusal != nil || a.Origin == batch.Setup || a.Origin == batch.Sentinel {
		return nil
	}
	code := string(wire.ErrorField(frame, 'C'))
	if changed := batch.ResultChanged(frame) || batch.OtherColumns(a, frame); changed || t.Stale(a, frame) {
		if t.Renew || r.c.state.Tx.Phase.InBlock() && !t.Opens() || r.c.lease.midBatch() || changed && !r.batch.Describes() && !wasTold(a.Message) {
			return nil
		}
		return &retry{reason: metrics.RetryPlan, lessons: prepareAnew}
	}
	if code == "25006" && !r.c.lease.onReplica() && t.flow == heldBack && r.untouched() && r.c.up.Cluster.Demoted(r.c.ctx, r.c.lease.server) {
		return &retry{reason: metrics.RetryShutdown}
	}
	if !r.c.lease.onReplica() || r.c.state.Tx.Phase.Failed() || r.c.state.Tx.Phase.InBlock() && r.c.mustStay() || r.batch.Traits.Has(batch.Resumes) {
		return nil
	}
	switch code {
	case "25006", "0A000", "55000":
		if r.c.state.Tx.Modes.Access == router.ReadOnly {
			return nil
		}
		// Only the first speaks of the statement; the others may be of how its transaction began.
		if code == "25006" {
			r.learn()
		}
		return &retry{reason: metrics.RetryReadOnly, lessons: onPrimary | replicaRefused}
	case "40001":
		return &retry{reason: metrics.RetryConflict, lessons: onPrimary}
	}
	return nil
}

// wasTold reports whether what m runs is compared with what its client was told, once it is
// prepared anew.
func wasTold(m *batch.Message) bool {
	return m != nil && m.Prepared != nil && m.Prepared.Told.Rows != 0
}

// learn remembers the batch's statements as writes, a replica having refused one.
func (r repetition) learn() {
	for i := range r.batch.Messages {
		m := &r.batch.Messages[i]
		if m.Plan == nil || m.Here || !m.Kind.Executes() {
			continue
		}
		if text := r.textOf(m); len(text) > 0 {
			r.c.up.Database.Plans.Learn(text)
		}
	}
}

// mayRetry reports whether the batch could be sent again after a failure, so that
// its answer is held back until the first row or command tag. What a primary runs
// is only if it reads: its notices may be awaited.
func (r repetition) mayRetry() bool {
	b := &r.batch
	switch {
	case r.c.state.Pins != 0, b.Traits.Has(batch.Resumes), r.try.Tail > 0: // its portals are on this server only, or it is gone
		return false
	case r.c.lease.onReplica():
		return true
	case r.c.lease.midBatch(), r.c.state.Tx.Phase.InBlock() && !r.try.Opens():
		return false
	}
	return b.Reads() || b.UsesPrepared() || b.Undoable()
}

// untouched reports whether sending the batch again, from its beginning, is all that its
// transaction needs, nothing of it having been done or answered.
func (r repetition) untouched() bool {
	phase := r.c.state.Tx.Phase
	return !r.c.tied() && !phase.Failed() && !r.c.lease.midBatch() && !r.batch.Traits.Has(batch.Resumes) &&
		r.try.flow < copying && (!phase.InBlock() || r.try.Opens())
}

// sendableAgain reports whether a batch whose server connection was lost may be sent
// again. frame is what the server said of it, if it did.
func (r repetition) sendableAgain(err error, frame []byte) bool {
	if errors.Is(err, wire.ErrNotSent) && r.untouched() {
		return true
	}
	phase := r.c.state.Tx.Phase
	if r.try.flow != heldBack || r.c.tied() || phase.Failed() || frame != nil && !upstream.Ending(frame) {
		return false
	}
	read := r.batch.Reads() && (!phase.InBlock() || r.try.Opens() || r.c.lease.onReplica() && !r.c.mustStay())
	if frame == nil {
		return read
	}
	undone := string(wire.ErrorField(frame, 'C')) == "57P01" && r.untouched() && r.batch.Undoable()
	return (read || undone) && r.c.up.Cluster.Departs(r.c.ctx, r.c.lease.server)
}
