package client

import (
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/metrics"
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

// worthRetry says whether an error would not occur, or not again, if the batch
// were sent once more.
func (c *Client) worthRetry(w *work, a *batch.Awaited, frame []byte) *retry {
	t := &w.try
	if a.Refusal != nil || a.Origin == batch.Setup || a.Origin == batch.Sentinel {
		return nil
	}
	code := string(wire.ErrorField(frame, 'C'))
	if resultChanged(frame) {
		if t.Renew || c.state.Tx.Phase.InBlock() && !t.Opens || c.lease.midBatch() || !w.batch.Describes() {
			return nil
		}
		return &retry{reason: metrics.RetryPlan, lessons: prepareAnew}
	}
	if code == "25006" && !c.lease.onReplica() && t.hold && c.untouched(w) && c.demoted(c.lease.server) {
		return &retry{reason: metrics.RetryShutdown}
	}
	if !c.lease.onReplica() || c.state.Tx.Phase.Failed() || c.state.Tx.Phase.InBlock() && c.mustStay() || w.batch.Traits.Has(batch.Resumes) {
		return nil
	}
	switch code {
	case "25006", "0A000", "55000":
		if c.state.Tx.Modes.Access == router.ReadOnly {
			return nil
		}
		// Only the first speaks of the statement; the others may be of how its transaction began.
		if code == "25006" {
			c.learn(w)
		}
		return &retry{reason: metrics.RetryReadOnly, lessons: onPrimary | replicaRefused}
	case "40001":
		return &retry{reason: metrics.RetryConflict, lessons: onPrimary}
	}
	return nil
}

// resultChanged reports whether an error says that the rows of a prepared statement
// are no longer what they were when it was prepared.
func resultChanged(frame []byte) bool {
	return string(wire.ErrorField(frame, 'C')) == "0A000" && string(wire.ErrorField(frame, 'R')) == "RevalidateCachedQuery"
}

// learn remembers the batch's statements as writes, a replica having refused one.
func (c *Client) learn(w *work) {
	for i := range w.batch.Messages {
		m := &w.batch.Messages[i]
		if m.Plan == nil || m.Here || !m.Kind.Executes() {
			continue
		}
		if text := c.textOf(w, m); len(text) > 0 {
			c.up.Database.Plans.Learn(text)
		}
	}
}
