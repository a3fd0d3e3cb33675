package proxy

import (
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/router"
)

// smallFrame is PostgreSQL's bound of messages that carry no data of arbitrary length.
const smallFrame = 10000

// read gathers one unit: frames up to Sync, Flush, a simple query or a function
// call. They stay in the client's buffer until the unit is answered, so that it
// can be sent again.
func (c *client) read(u *unit) error {
	c.units++
	for {
		buf, err := c.front.Need(u.size + wire.HeaderSize)
		if err != nil {
			return err
		}
		typ, size, err := wire.PeekHeader(buf[u.size:])
		if err := checkFrame(typ, size, err); err != nil {
			return err
		}
		if buf, err = c.front.Need(u.size + size); err != nil {
			return err
		}
		off := u.size
		u.size += size
		done, err := c.gather(u, typ, buf[off:off+size], off)
		if done || err != nil {
			return err
		}
		if u.size > maxUnit {
			u.end = endPart
			return nil
		}
	}
}

// checkFrame refuses what PostgreSQL refuses: it closes the connection on an
// impossible length, and says so of an unknown type.
func checkFrame(typ byte, size int, err error) error {
	limit := smallFrame
	switch typ {
	case wire.Query, wire.Parse, wire.Bind, wire.FunctionCall, wire.CopyData:
		limit = wire.MaxFrame
	case wire.Execute, wire.Close, wire.Describe, wire.Sync, wire.Flush, wire.CopyDone, wire.CopyFail, wire.Terminate:
	default:
		return wire.Fatalf("08P01", "invalid frontend message type %d", typ)
	}
	if err != nil || size-1 > limit {
		return wire.ErrFrameLength
	}
	return nil
}

// gather adds one frame to the unit and reports whether it is the last.
func (c *client) gather(u *unit, typ byte, frame []byte, off int) (done bool, err error) {
	if typ == wire.Terminate {
		return true, errTerminate
	}
	if c.skipping || u.failed {
		// The server would discard everything up to Sync.
		u.rewritten = true
		switch {
		case typ == wire.Sync:
			c.gatherSync(u, frame, off)
		case typ == wire.Flush && u.failed:
			u.end = endFlush // the client awaits the refusal
		default:
			return false, nil
		}
		return true, nil
	}
	switch typ {
	case wire.Query:
		u.end = endQuery
		c.gatherQuery(u, frame, off)
		return true, nil
	case wire.FunctionCall:
		u.end = endQuery
		u.note(functionCallPlan)
		u.ops = append(u.ops, op{kind: opCall, off: off, size: len(frame), plan: functionCallPlan})
		return true, nil
	case wire.Parse:
		c.gatherParse(u, frame, off)
	case wire.Bind:
		c.gatherBind(u, frame, off)
	case wire.Describe:
		c.gatherDescribe(u, frame, off)
	case wire.Execute:
		c.gatherExecute(u, frame, off)
		if u.copies {
			// What follows is for the COPY, or for nobody if it is refused.
			u.end = endPart
			return true, nil
		}
	case wire.Close:
		c.gatherClose(u, frame, off)
	case wire.Sync:
		c.gatherSync(u, frame, off)
		return true, nil
	case wire.Flush:
		if len(frame) > wire.HeaderSize {
			u.note(malformedPlan)
			u.ops = append(u.ops, op{kind: opBind, off: off, size: len(frame)})
		}
		u.end = endFlush
		return true, nil
	default: // copy messages after a failed COPY are ignored, as PostgreSQL does
		u.rewritten = true
	}
	return false, nil
}

func (c *client) gatherSync(u *unit, frame []byte, off int) {
	u.end, u.sync = endSync, true
	if len(frame) > wire.HeaderSize {
		u.note(malformedPlan) // the server's error comes before its ReadyForQuery
	}
	u.ops = append(u.ops, op{kind: opSync, off: off, size: len(frame)})
}

// functionCallPlan: what a function does that is called by number is not looked
// up; it may leave anything behind.
var functionCallPlan = &router.Plan{
	Class: router.ClassUnknown, Target: router.TargetPrimary, Reason: router.ReasonFunctionCall,
	Pins: router.PinOpaque, Statements: 1,
}

// malformedPlan is of a frame the server is left to refuse.
var malformedPlan = &router.Plan{Class: router.ClassUnknown, Target: router.TargetPrimary, Reason: router.ReasonUnparsed}

func (c *client) gatherQuery(u *unit, frame []byte, off int) {
	o := op{kind: opQuery, off: off, size: len(frame)}
	text, ok := wire.QueryText(frame)
	if !ok {
		o.plan = malformedPlan
		u.note(o.plan)
		u.ops = append(u.ops, o)
		return
	}
	c.unnamed.drop() // as PostgreSQL's simple query does
	c.portal = portalOf{}
	p := c.plan(text)
	if c.executable(p, u) && len(u.ops) == 0 && !c.inUnit {
		c.executeQuery(u, p, string(text))
		return
	}
	if p.SQL.Verb != router.PreparedNone {
		if !c.rewriteSQL(u, &o, p, text) {
			u.endRefused()
			return
		}
		p = c.planOf(o.sql, p)
		if _, ok := (&op{plan: p}).bound(); !ok {
			p = uncarried(p)
		}
	}
	if p.Tenant != nil {
		if refused := c.auditQuery(u, &o, p, text); refused != nil {
			u.refuseQuery(refused)
			return
		}
	}
	o.plan = p
	u.note(p)
	u.ops = append(u.ops, o)
}

func (c *client) gatherParse(u *unit, frame []byte, off int) {
	o := op{kind: opParse, off: off, size: len(frame)}
	name, text, types, ok := wire.ParseParts(frame)
	if !ok {
		u.note(malformedPlan)
		u.ops = append(u.ops, o)
		return
	}
	p := c.plan(text)
	parsed := p // of the text itself, whatever it executes
	local := c.executable(p, u) || p.Class == router.ClassEmpty && c.tx.failed && c.b == nil
	if p.SQL.Verb != router.PreparedNone && !local {
		if !c.rewriteSQL(u, &o, p, text) {
			return
		}
		if o.text != "" {
			text = []byte(o.text)
		}
		p = c.planOf(o.sql, p)
	}
	if len(name) == 0 {
		o.tag = c.unnamed.define(c, text, types, p, o.sql)
	} else {
		if _, exists := c.statements[string(name)]; exists {
			u.refuse(wire.Errorf("42P05", "prepared statement \"%s\" already exists", name))
			return
		}
		u.rewritten = true
		o.name = string(name)
		o.stmt = c.newStatement(c.s.registry.Statement(text, types, c.reading(u, parsed.LiteralsOf(text))), p, o.sql)
		c.define(o.name, o.stmt)
	}
	if local || c.parsable(u, o.stmt) {
		u.answerLocally(parseComplete)
		u.ops[len(u.ops)-1].name = o.name
		return
	}
	u.note(p)
	u.ops = append(u.ops, o)
	if o.stmt == nil {
		u.parsed = len(u.ops)
	}
}

// parsable reports whether a server need not be asked to parse a named statement
// now: one has, for the same user and catalog, names mean to this session what they
// usually do, and no server takes part yet. It is prepared where it is first used.
func (c *client) parsable(u *unit, st *statement) bool {
	if st == nil || u.server || c.b != nil || c.inUnit || c.tx.failed || c.up.Database.Stale() || !c.settings.usual() {
		return false
	}
	parsed, ok := c.up.Parsed.Get(st.Statement)
	return ok && parsed == st.snapshot
}

// lookUp finds the statement a frame names; nil with a refusal noted if there is none.
func (c *client) lookUp(u *unit, name []byte) (st *statement, p *router.Plan) {
	if len(name) == 0 {
		if c.unnamed.tag == 0 {
			u.refuse(wire.Errorf("26000", "unnamed prepared statement does not exist"))
			return nil, nil
		}
		return nil, c.unnamed.plan
	}
	st, ok := c.statements[string(name)]
	if !ok {
		u.refuse(wire.Errorf("26000", "prepared statement \"%s\" does not exist", name))
		return nil, nil
	}
	u.rewritten = true
	return st, c.refresh(st)
}

func (c *client) gatherBind(u *unit, frame []byte, off int) {
	portal, name, values, ok := wire.BindParts(frame)
	if !ok {
		u.note(malformedPlan)
		u.ops = append(u.ops, op{kind: opBind, off: off, size: len(frame)})
		return
	}
	st, p := c.lookUp(u, name)
	if p == nil {
		return
	}
	o := op{kind: opBind, off: off, size: len(frame), stmt: st}
	if st == nil {
		o.tag, o.sql = c.unnamed.tag, c.unnamed.sql
	} else {
		o.sql = st.sql
	}
	held := portalOf{plan: p, sql: o.sql, stmt: st, unit: c.units, parse: u.parsed}
	if len(p.Sets) > 0 {
		types := c.unnamed.types
		if st != nil {
			types = []byte(st.Types)
		}
		held.params = boundParameters(values, types)
		if _, ok := (&op{plan: p, params: held.params}).bound(); !ok {
			p = uncarried(p)
			held.plan = p
		}
	}
	if p.Tenant != nil {
		if refused := c.auditBind(u, &o, p, values); refused != nil {
			u.refuse(refused)
			return
		}
	}
	if len(portal) == 0 {
		held.local = c.executable(p, u)
		c.portal = held
		if held.local {
			u.answerLocally(bindComplete)
			return
		}
	} else {
		u.cursor = true
		if c.portals == nil {
			c.portals = map[string]portalOf{}
		}
		c.portals[string(portal)] = held
	}
	u.note(p)
	u.ops = append(u.ops, o)
}

func (c *client) gatherDescribe(u *unit, frame []byte, off int) {
	o := op{kind: opDescribe, off: off, size: len(frame)}
	kind, name, ok := wire.TargetParts(frame)
	switch {
	case !ok:
		u.note(malformedPlan)
	case kind == 'P':
		held := c.held(u, name)
		if held.local {
			u.answerLocally(describeLocal(held.plan))
			return
		}
		o.described = held.stmt
		u.server = true
	default:
		st, p := c.lookUp(u, name)
		if p == nil {
			return
		}
		if c.executable(p, u) {
			u.answerLocally(append(noParameters[:len(noParameters):len(noParameters)], describeLocal(p)...))
			return
		}
		o.described = st
		if o.stmt = st; st == nil {
			o.tag, o.sql = c.unnamed.tag, c.unnamed.sql
		}
		u.note(p)
	}
	u.ops = append(u.ops, o)
}

func (c *client) gatherExecute(u *unit, frame []byte, off int) {
	portal, limit, ok := wire.ExecuteParts(frame)
	o := op{kind: opExecute, off: off, size: len(frame)}
	switch {
	case !ok:
		u.note(malformedPlan)
	default:
		held := c.held(u, portal)
		if held.local && c.b != nil && (held.plan.Tx.Verb != router.TxNone || held.plan.Flags.Has(router.FlagForgets) || held.plan.SetOnly) {
			// A server has taken part since it was bound.
			u.refuse(wire.Errorf("34000", "portal \"%s\" does not exist", portal))
			return
		}
		if held.local {
			c.executePortal(u)
			return
		}
		o.plan, o.sql, o.stmt, o.params = held.plan, held.sql, held.stmt, held.params
		if held.unit == c.units {
			o.parse = held.parse
		}
		if limit > 0 && len(portal) == 0 {
			u.cursor = true
		}
		u.copies = held.plan != nil && held.plan.Flags.Has(router.FlagCopyIn)
	}
	if refused := c.misnamed(o.sql); refused != nil {
		u.refuse(refused)
		return
	}
	u.server = true
	u.ops = append(u.ops, o)
}

// held is what a portal holds, which may have been bound in an earlier unit.
func (c *client) held(u *unit, portal []byte) portalOf {
	held := c.portal
	if len(portal) > 0 {
		held = c.portals[string(portal)]
	}
	if held.unit != c.units && !held.local {
		u.resumes = true
	}
	return held
}

func (c *client) gatherClose(u *unit, frame []byte, off int) {
	kind, name, ok := wire.TargetParts(frame)
	if ok && kind == 'S' {
		// A server's copy is shared; only the client's name for it goes.
		if len(name) == 0 {
			c.unnamed.drop()
		} else if st := c.statements[string(name)]; st != nil {
			delete(c.statements, string(name))
			u.answerLocally(closeComplete)
			last := &u.ops[len(u.ops)-1]
			last.name, last.before = string(name), st
			return
		}
		u.answerLocally(closeComplete)
		return
	}
	if !ok {
		u.note(malformedPlan)
	} else if len(name) > 0 {
		delete(c.portals, string(name))
	} else {
		c.portal = portalOf{}
	}
	if ok && c.b == nil && !u.server {
		u.answerLocally(closeComplete) // no server, no portal
		return
	}
	u.server = true
	u.ops = append(u.ops, op{kind: opClose, off: off, size: len(frame)})
}
