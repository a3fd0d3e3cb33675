package client

import (
	"errors"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
)

// A client that was told once of the rows of a prepared statement reads later ones
// by that. PostgreSQL refuses to run the statement when DDL has changed them; but it
// is another connection that would have to remember. So the session does.

// noteRows notes the answer to a client's Describe of a statement, or of a portal of it.
func (o outcomes) noteRows(p *session.Prepared, frame []byte) {
	p.Rows = session.Rows{Hash: batch.HashRows(frame), Snapshot: o.c.up.Database.Plans.Snapshot()}
}

// rowCheck finds out whether the rows of prepared statements are what clients were told.
type rowCheck struct{ *work }

// checkRows looks, for statements that have to be prepared on this connection and
// were described under another catalog, whether their rows are still the same. It
// refuses what is not, as PostgreSQL does.
func (r rowCheck) checkRows() {
	if r.c.lease.midBatch() {
		return
	}
	for i := range r.batch.Messages {
		m := &r.batch.Messages[i]
		if m.Here || m.Refusal != nil || m.Kind != batch.Bind || m.Prepared == nil || !r.mayHaveChanged(m.Prepared) || r.batch.Describes() {
			continue
		}
		refusal, ok := r.compareRows(m.Prepared)
		if refusal != nil {
			r.try.RefuseAt, r.try.Refusal = i+1, refusal
		}
		if refusal != nil || !ok {
			return
		}
	}
}

// mayHaveChanged reports whether the rows of a statement, which its client was told of,
// may be others by now.
func (r rowCheck) mayHaveChanged(p *session.Prepared) bool {
	if p.Rows.Hash == 0 || p.Statement.SQL != "" || p.SQL != nil || r.c.state.Tx.Phase.Failed() || !r.try.Renew && r.c.lease.b.Held().Holds(p.Statement) {
		return false
	}
	return r.try.Renew || p.Rows.Snapshot != r.c.up.Database.Plans.Snapshot() || r.c.up.Database.Stale() || r.c.state.Tx.Did.Has(session.DidDDL)
}

// compareRows asks the server for the rows of a statement, and returns the error it
// deserves if they have changed; ok is false if the connection is lost.
func (r rowCheck) compareRows(p *session.Prepared) (refusal *wire.Error, ok bool) {
	hash, err := r.askRows(p)
	var refused *backend.ServerError
	switch {
	case errors.As(err, &refused):
		// Outside a transaction it will be refused again; this one has failed with it.
		if r.c.state.Tx.Phase.InBlock() && !r.try.Opens() {
			return wire.ReadError(refused.Frame), true
		}
	case err != nil:
		return nil, false // the batch will find the connection lost
	case hash != p.Rows.Hash:
		r.c.svc.Registry.Forget(p.Statement)
		e := wire.Errorf("0A000", "cached plan must not change result type")
		e.Routine = "RevalidateCachedQuery" // by which drivers know to prepare it anew
		return e, true
	}
	return nil, true
}

// askRows prepares a statement for a moment, under another name, to have it described.
func (r rowCheck) askRows(p *session.Prepared) (hash uint64, err error) {
	const name = "pgweir: rows"
	frames := wire.AppendParse(nil, name, p.Text, []byte(p.Types))
	frames = wire.AppendTarget(frames, wire.Describe, 'S', name)
	frames = wire.AppendTarget(frames, wire.Close, 'S', name)
	_, err = r.c.lease.b.Ask(r.c.ctx, wire.AppendSync(frames), func(frame []byte) {
		if typ := frame[0]; typ == wire.RowDescription || typ == wire.NoData {
			hash = batch.HashRows(frame)
		}
	})
	return hash, err
}
