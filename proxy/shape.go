package proxy

import (
	"errors"
	"hash/maphash"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/router/catalog"
)

// A client that was told once of the rows of a prepared statement reads later ones
// by that. PostgreSQL refuses to run the statement when DDL has changed them; but it
// is another connection that would have to remember. So the session does.

// shape is what a client was told of the rows of a statement, and the catalog of then.
type shape struct {
	sum      uint64 // 0 is nothing
	snapshot *catalog.Snapshot
}

var shapeSeed = maphash.MakeSeed()

// describe notes the answer to a client's Describe of a statement, or of a portal of it.
func (c *client) describe(st *statement, frame []byte) {
	st.shape = shape{sumShape(frame), c.up.Database.Plans.Snapshot()}
}

// sumShape is of the names, types and type modifiers of a RowDescription; NoData is a shape too.
func sumShape(frame []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(shapeSeed)
	_ = h.WriteByte(frame[0])
	const field = 18 // table, column, type, size, modifier, format
	if frame[0] == wire.RowDescription {
		for b := frame[wire.HeaderSize+2:]; ; {
			name, rest, ok := wire.CString(b)
			if !ok || len(rest) < field {
				break
			}
			_, _ = h.Write(name)
			_ = h.WriteByte(0)
			_, _ = h.Write(rest[6:10])
			_, _ = h.Write(rest[12:16])
			b = rest[field:]
		}
	}
	return max(h.Sum64(), 1)
}

// checkShapes looks, for statements that have to be prepared on this connection and
// were described under another catalog, whether their rows are still the same. It
// refuses what is not, as PostgreSQL does.
func (c *client) checkShapes(u *unit) {
	for i := range u.ops {
		o := &u.ops[i]
		st := o.stmt
		if o.kind != opBind || o.fail != nil || st == nil || st.shape.sum == 0 || st.SQL != "" || st.sql != nil ||
			u.describes() || c.tx.failed || c.b.Held().Holds(st.Statement) ||
			st.shape.snapshot == c.up.Database.Plans.Snapshot() && !c.up.Database.Stale() && !c.tx.ddl {
			continue
		}
		sum, err := c.askShape(st)
		var refused *backend.ServerError
		switch {
		case errors.As(err, &refused):
			// Outside a transaction it will be refused again; this one has failed with it.
			if c.tx.open && !u.begun {
				o.fail = fromFrame(refused.Frame)
			}
		case err != nil:
			return // the unit will find the connection lost
		case sum != st.shape.sum:
			c.s.registry.Forget(st.Statement)
			o.fail = wire.Errorf("0A000", "cached plan must not change result type")
			o.fail.Routine = "RevalidateCachedQuery" // by which drivers know to prepare it anew
		}
		if o.fail != nil {
			u.rewritten, u.failed = true, true
			return
		}
	}
}

// askShape prepares a statement for a moment, under another name, to have it described.
func (c *client) askShape(st *statement) (sum uint64, err error) {
	const name = "pgweir: shape"
	frames := wire.AppendParse(nil, name, st.Text, []byte(st.Types))
	frames = wire.AppendTarget(frames, wire.Describe, 'S', name)
	frames = wire.AppendTarget(frames, wire.Close, 'S', name)
	_, err = c.b.Ask(c.ctx, wire.AppendSync(frames), func(frame []byte) {
		if typ := frame[0]; typ == wire.RowDescription || typ == wire.NoData {
			sum = sumShape(frame)
		}
	})
	return sum, err
}
