package proxy

import (
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/router"
)

// missingStatement is a name no server holds: binding it is how the proxy makes a
// server fail a unit, and with it the transaction.
const missingStatement = "pgweir: refused"

// compose makes the frames for the server and the queue of answers to await. The
// frames are valid until the client's next read.
func (c *client) compose(u *unit) []byte {
	frames := c.front.Buffered()[:u.size]
	u.queue, u.head, u.out = u.queue[:0], 0, u.out[:0]
	u.pass, u.status, u.errored, u.ddl, u.late = 0, 0, false, 0, nil
	if len(u.ahead) > 0 {
		c.adoptAhead(u)
	}
	if u.begun || u.repeats {
		c.untold = c.untold || len(c.tx.steps) > 0
	}
	if u.begun {
		c.opening(u)
		for i := range u.queue {
			u.queue[i].opening = true
		}
	}
	if !u.begun {
		c.takeOver(u)
	}
	if u.repeats && u.fresh {
		for _, s := range c.tx.steps {
			c.injectStep(u, s)
		}
	}
	if u.fresh && u.asksForSequences() {
		// What the last session drew there is not this one's to see.
		c.inject(u, "DISCARD SEQUENCES")
	}
	if !u.rewritten && len(u.out) == 0 && u.end != endPart && !c.lacksUnnamed(u) {
		u.queue = append(u.queue, u.ops...)
		return frames
	}
	held := c.b.Unnamed()
	for i := range u.ops {
		if c.add(u, &u.ops[i], frames, &held); u.ops[i].fail != nil {
			c.addRest(u, u.ops[i+1:])
			return u.out
		}
	}
	if u.end == endFlush || u.end == endPart {
		u.out = append(u.out, flushFrame...)
	}
	return u.out
}

// asksForSequences reports whether the unit reads what a sequence gave to its session.
func (u *unit) asksForSequences() bool {
	for i := range u.ops {
		if p := u.ops[i].plan; p != nil && p.Pins&router.PinSequence != 0 {
			return true
		}
	}
	return false
}

// addRest adds the Sync after a refused op; the rest would be discarded.
func (c *client) addRest(u *unit, ops []op) {
	for _, o := range ops {
		if o.kind == opSync {
			u.out = wire.AppendSync(u.out)
			u.queue = append(u.queue, o)
			return
		}
	}
	u.out = append(u.out, flushFrame...)
}

// lacksUnnamed reports whether the unit uses an unnamed statement that the
// server does not hold.
func (c *client) lacksUnnamed(u *unit) bool {
	held := c.b.Unnamed()
	for i := range u.ops {
		o := &u.ops[i]
		switch {
		case o.kind == opParse:
			held = uint64(o.tag)
		case o.tag != 0 && uint64(o.tag) != held:
			return true
		}
	}
	return false
}

// add adds one op: its frame as the server is to see it, behind what it needs there.
func (c *client) add(u *unit, o *op, frames []byte, unnamed *uint64) {
	frame := frames[o.off : o.off+o.size]
	if o.sql != nil && o.sql.needs != nil {
		c.ensure(u, o.sql.needs, unnamed)
	}
	if o.sql != nil && o.sql.makes != nil && (o.kind == opQuery || o.kind == opBind) {
		// Another client's PREPARE may have made it here already.
		c.unprepare(u, o.sql.makes.Statement)
	}
	switch {
	case o.kind == opLocal:
	case o.fail != nil:
		u.out = wire.AppendBind(u.out, nil, missingStatement, nil)
	case o.kind == opParse && o.stmt != nil:
		c.addParse(u, o)
		return
	case o.kind == opParse:
		*unnamed = uint64(o.tag)
		if o.text != "" {
			u.out = wire.AppendParse(u.out, "", o.text, c.unnamed.types)
		} else {
			u.out = append(u.out, frame...)
		}
	case o.kind == opBind && (o.stmt != nil || o.tag != 0):
		portal, _, rest, _ := wire.BindParts(frame)
		u.out = wire.AppendBind(u.out, portal, c.ensureNamed(u, o, unnamed), rest)
	case o.kind == opDescribe && (o.stmt != nil || o.tag != 0):
		u.out = wire.AppendTarget(u.out, wire.Describe, 'S', c.ensureNamed(u, o, unnamed))
	case o.kind == opQuery && o.text != "":
		u.out = wire.AppendQuery(u.out, o.text)
	default:
		u.out = append(u.out, frame...)
	}
	u.queue = append(u.queue, *o)
}

// ensureNamed makes sure the server holds the statement o uses and returns its name there.
func (c *client) ensureNamed(u *unit, o *op, unnamed *uint64) string {
	if o.stmt != nil {
		c.ensure(u, o.stmt, unnamed)
		return o.stmt.Name
	}
	if *unnamed != uint64(o.tag) {
		u.out = wire.AppendParse(u.out, "", string(c.unnamed.text), c.unnamed.types)
		u.queue = append(u.queue, op{kind: opParse, quiet: true, tag: o.tag})
		*unnamed = uint64(o.tag)
	}
	return ""
}

// addParse adds a client's Parse of a named statement, which the server may hold already.
func (c *client) addParse(u *unit, o *op) {
	st := o.stmt.Statement
	if c.tx.failed && (o.stmt.plan == nil || o.stmt.plan.Tx.Verb == router.TxNone) {
		// The server will refuse it, as it must; the name there stays what it is.
		own := *o
		own.stmt = nil
		u.out = wire.AppendParse(u.out, "", st.Text, []byte(st.Types))
		u.queue = append(u.queue, own)
		return
	}
	if c.b.Holds(st) && !u.renew {
		own := *o
		own.kind, own.answer = opLocal, parseComplete
		u.queue = append(u.queue, own)
		return
	}
	c.unprepare(u, st)
	c.holdStatement(u, st)
	u.out = wire.AppendParse(u.out, st.Name, st.Text, []byte(st.Types))
	u.queue = append(u.queue, *o)
}

// ensure prepares a statement on the server if it is not there.
func (c *client) ensure(u *unit, s *statement, unnamed *uint64) {
	st := s.Statement
	if c.b.Holds(st) {
		if !u.renew {
			return
		}
		c.unprepare(u, st)
	}
	if s.sql != nil && s.sql.needs != nil {
		c.ensure(u, s.sql.needs, unnamed)
	}
	c.holdStatement(u, st)
	if st.SQL != "" {
		*unnamed = 0
		c.injectText(u, st.SQL, s)
		return
	}
	u.out = wire.AppendParse(u.out, st.Name, st.Text, []byte(st.Types))
	u.queue = append(u.queue, op{kind: opParse, quiet: true, stmt: s})
}

// holdStatement notes a statement as held, closing those that make room for it.
func (c *client) holdStatement(u *unit, st *backend.Statement) {
	for _, old := range c.b.Hold(st) {
		c.closeOnServer(u, old)
	}
}

// unprepare closes a statement on the server if it is held there.
func (c *client) unprepare(u *unit, st *backend.Statement) {
	if c.b.Holds(st) {
		c.b.Drop(st)
		c.closeOnServer(u, st)
	}
}

func (c *client) closeOnServer(u *unit, st *backend.Statement) {
	u.out = wire.AppendTarget(u.out, wire.Close, 'S', st.Name)
	u.queue = append(u.queue, op{kind: opClose, quiet: true})
}

// inject runs a statement of the proxy's own before the client's, prepared like
// any other. There is no Sync behind it: if it fails, the server discards the
// client's statement too, a simple query included.
func (c *client) inject(u *unit, text string) {
	st := c.s.registry.Statement([]byte(text), noTypes, c.reading(u, []byte(text)))
	c.prepareOwn(u, st)
	u.out = wire.AppendBind(u.out, nil, st.Name, nil)
	u.out = wire.AppendExecute(u.out, "")
	u.queue = append(u.queue, op{kind: opBind, quiet: true}, op{kind: opExecute, quiet: true})
}

// prepareOwn prepares a statement of the proxy's own if the server does not hold it.
func (c *client) prepareOwn(u *unit, st *backend.Statement) {
	if c.b.Holds(st) {
		return
	}
	c.holdStatement(u, st)
	u.out = wire.AppendParse(u.out, st.Name, st.Text, nil)
	u.queue = append(u.queue, op{kind: opParse, quiet: true, stmt: &statement{Statement: st}})
}

// injectText runs a statement that cannot be shared under a name.
func (c *client) injectText(u *unit, text string, makes *statement) {
	u.out = wire.AppendParse(u.out, "", text, nil)
	u.out = wire.AppendBind(u.out, nil, "", nil)
	u.out = wire.AppendExecute(u.out, "")
	u.queue = append(u.queue, op{kind: opParse, quiet: true},
		op{kind: opBind, quiet: true}, op{kind: opExecute, quiet: true, stmt: makes})
}

var noTypes = []byte{0, 0}

// executes reports whether an op runs a statement.
func (o *op) executes() bool { return o.kind == opExecute || o.kind == opQuery || o.kind == opCall }
