package proxy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
)

// writeAt is how many bytes for the client are gathered before they are written
// while more are at hand.
const writeAt = 16 << 10

// duplexAt is how many bytes may be written before anything is read: more could
// fill the sockets of both sides, each waiting for the other.
const duplexAt = 64 << 10

// exchange sends the frames and relays the answers.
func (c *client) exchange(u *unit, frames []byte) error {
	conn := c.b.Conn
	if said := conn.Buffered(); len(said) > 0 && said[0] == wire.ErrorResponse && !c.inUnit {
		// With the answer before came the server's farewell.
		if c.untouched(u) {
			return fmt.Errorf("%w: %w", errServerLost, wire.ErrNotSent)
		}
		return c.relay(u)
	}
	if len(frames) <= duplexAt {
		var err error
		if len(conn.Buffered()) == 0 {
			err = conn.Exchange(frames)
		} else {
			_, err = conn.Write(frames)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errServerLost, err)
		}
		return c.relay(u)
	}
	written := make(chan error, 1)
	go writeAll(conn, frames, written)
	err := c.relay(u)
	if err != nil {
		_ = conn.Close() // ends the writer
	}
	return errors.Join(err, <-written)
}

func writeAll(conn *wire.Conn, frames []byte, done chan<- error) {
	_, err := conn.Write(frames)
	if err != nil {
		err = fmt.Errorf("%w: %w", errServerLost, err)
	}
	done <- err
}

// relay forwards what the server sends until every awaited answer is there.
func (c *client) relay(u *unit) error {
	conn := c.b.Conn
	for {
		need, err := c.scan(u, conn.Buffered())
		if err != nil {
			return err
		}
		if u.head == len(u.queue) {
			return c.flush(u)
		}
		if !u.hold {
			if err := c.flush(u); err != nil {
				return err
			}
		}
		if _, err := conn.Need(need); err != nil {
			return fmt.Errorf("%w: %w", errServerLost, err)
		}
	}
}

// opaque are the types of frames that pass unseen: nothing in them concerns the
// proxy, nor do they end an answer (RowDescription does, that of a Describe).
var opaque = [256]bool{wire.DataRow: true, wire.CopyData: true, wire.CopyDone: true,
	wire.ParameterDescription: true, wire.FunctionCallResponse: true}

// scan goes through the frames in buf, forwards and consumes them, and returns
// how many bytes must be buffered to go on.
func (c *client) scan(u *unit, buf []byte) (need int, err error) {
	conn := c.b.Conn
	start, pos := 0, 0 // buf[start:pos] is to be forwarded
	if u.pass > 0 {
		pos = min(u.pass, len(buf))
		u.pass -= pos
	}
	need = wire.HeaderSize
	for u.head < len(u.queue) && u.pass == 0 {
		o := &u.queue[u.head]
		if o.kind == opLocal {
			c.push(u, buf[start:pos])
			start = pos
			c.emit(u, o)
			u.head++
			continue
		}
		if len(buf)-pos < wire.HeaderSize {
			break
		}
		typ, size, err := wire.PeekHeader(buf[pos:])
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errServerLost, err)
		}
		whole := pos+size <= len(buf)
		if u.within && mayReveal(typ) {
			c.recordBeforeForwarding(u, o)
		}
		if opaque[typ] && !o.quiet {
			u.hold = u.hold && typ == wire.ParameterDescription
			if whole {
				pos += size
				continue
			}
			u.pass = pos + size - len(buf)
			pos = len(buf)
			break
		}
		if !whole {
			need = size
			break
		}
		frame := buf[pos : pos+size]
		if typ == wire.ErrorResponse || typ == wire.ReadyForQuery && (c.own.trace || c.untold || len(c.restore) > 0 || c.forgot) {
			// Something of the proxy's own may take its place, behind what came before.
			if err := c.push(u, buf[start:pos]); err != nil {
				return 0, err
			}
			start = pos
		}
		keep, err := c.see(u, o, typ, frame)
		if err != nil {
			conn.Discard(pos + size)
			return 0, err
		}
		if !keep {
			if err := c.push(u, buf[start:pos]); err != nil {
				return 0, err
			}
			start = pos + size
		}
		pos += size
		if typ == wire.CopyInResponse && keep {
			if err := c.push(u, buf[start:pos]); err != nil {
				return 0, err
			}
			conn.Discard(pos)
			if u.copying {
				return wire.HeaderSize, errors.Join(c.flush(u), errCopyAgain)
			}
			return wire.HeaderSize, c.copyIn(u)
		}
	}
	err = c.forward(u, buf[start:pos])
	conn.Discard(pos)
	return need, err
}

// push gathers a run of bytes for the client.
func (c *client) push(u *unit, run []byte) error {
	u.answer = append(u.answer, run...)
	if !u.hold && len(u.answer) >= writeAt {
		return c.flush(u)
	}
	return nil
}

// forward writes a run of bytes straight from the server's buffer, unless
// something must go before it or it must be held back.
func (c *client) forward(u *unit, run []byte) error {
	if u.hold || len(u.answer) > 0 && len(run) < writeAt {
		return c.push(u, run)
	}
	if err := c.flush(u); err != nil || len(run) == 0 {
		return err
	}
	if _, err := c.front.Write(run); err != nil {
		return &lostError{err}
	}
	return nil
}

// see looks at one frame: which answer it belongs to, whether it ends it, and
// whether the client gets it.
func (c *client) see(u *unit, o *op, typ byte, frame []byte) (keep bool, err error) {
	switch typ {
	case wire.ErrorResponse:
		return c.seeError(u, o, frame)
	case wire.ReadyForQuery:
		return c.seeReady(u, o, frame)
	case wire.ParameterStatus:
		if n, v, ok := wire.ParameterParts(frame); ok {
			c.b.SetParameter(string(n), string(v))
			c.untold = true
		}
		return false, nil
	case wire.NotificationResponse:
		c.up.Database.Commits.OnNotification()
		return !o.quiet, nil
	case wire.NoticeResponse:
		return !o.quiet, nil
	case wire.CopyInResponse, wire.CopyOutResponse:
		u.hold = false
		return true, nil
	case wire.CopyBothResponse:
		return false, fmt.Errorf("%w: unexpected CopyBothResponse", errServerLost)
	case wire.CommandComplete:
		c.recordBeforeForwarding(u, o)
	}
	if ends(o.kind, typ) {
		if o.kind == opDescribe && o.described != nil {
			c.describe(o.described, frame)
		}
		if o.executes() {
			u.hold = u.hold && o.quiet
		}
		c.complete(u, o)
	} else if o.kind == opQuery && typ == wire.CommandComplete {
		u.hold = false
	}
	return !o.quiet, nil
}

// ends reports whether a frame of type typ ends the answer to an op.
func ends(k opKind, typ byte) bool {
	switch k {
	case opParse:
		return typ == wire.ParseComplete
	case opBind:
		return typ == wire.BindComplete
	case opDescribe:
		return typ == wire.RowDescription || typ == wire.NoData
	case opExecute:
		return typ == wire.CommandComplete || typ == wire.EmptyQueryResponse || typ == wire.PortalSuspended
	case opClose:
		return typ == wire.CloseComplete
	}
	return false // opSync, opQuery, opCall: ReadyForQuery
}

// seeReady ends a Sync, a simple query or a function call.
func (c *client) seeReady(u *unit, o *op, frame []byte) (keep bool, err error) {
	if o.kind != opSync && o.kind != opQuery && o.kind != opCall {
		return false, fmt.Errorf("%w: unexpected ReadyForQuery", errServerLost)
	}
	if o.ahead {
		if u.head++; !u.errored {
			c.b.Note(u.want)
		}
		return false, nil
	}
	if c.tx.unopened {
		frame[wire.HeaderSize] = wire.TxFailed
	}
	u.status = frame[wire.HeaderSize]
	u.hold = false
	if o.kind != opSync && !u.errored {
		c.complete(u, o)
	} else {
		u.head++
	}
	c.inUnit, c.skipping = false, false
	if c.role != cluster.RoleReplica {
		c.recordWrites(u, u.status == wire.TxIdle)
	}
	if c.own.trace && !o.quiet {
		c.traceUnit(u, o)
	}
	if len(c.restore) > 0 || c.forgot {
		u.late = append([]byte(nil), frame...)
		return false, nil
	}
	if c.untold && !(u.errored && len(u.adopt) > 0) { // it undid what was taken over, too
		u.answer = c.report(u.answer)
	}
	return !o.quiet, nil
}

// seeError takes an ErrorResponse: the unit may be sent again, or everything up
// to its Sync is over.
func (c *client) seeError(u *unit, o *op, frame []byte) (keep bool, err error) {
	c.dropStatements(u)
	keep = o.fail == nil && !(o.guard && u.errored) // the client knows already
	fatal := string(wire.ErrorField(frame, 'V')) != "ERROR"
	if again := c.worthRetry(u, o, frame); again != nil && u.hold {
		return false, again
	}
	if fatal || u.syncIgnored {
		// Whether that Sync will be answered, nobody knows.
		return false, &fatalError{frame: append([]byte(nil), frame...)}
	}
	u.errored, u.hold = true, false
	if keep {
		c.s.metrics.ServerError()
	}
	if o.stmt != nil && resultChanged(frame) {
		// A client that prepares it again must get a new one, on every server.
		c.s.registry.Forget(o.stmt.Statement)
	}
	if o.fail != nil {
		u.answer = o.fail.Append(u.answer)
		c.s.metrics.ProxyError()
	} else if own := c.reword(u, o, frame); &own[0] != &frame[0] {
		u.answer = append(u.answer, own...)
		keep = false
	}
	c.undo(u.queue[u.head:])
	o.skipped, o.errored = notUnderstood(o.plan, frame), true
	c.tx.unopened = o.opening
	if o.kind == opQuery || o.kind == opCall {
		return keep, nil // its ReadyForQuery follows
	}
	for u.head < len(u.queue) && u.queue[u.head].kind != opSync {
		if u.head++; u.head < len(u.queue) {
			u.queue[u.head].skipped = true
		}
	}
	if u.head == len(u.queue) {
		err = c.endSkipped(u)
	}
	return keep, err
}

// notUnderstood reports whether a server refused a statement before running any of
// it: what is unknown to the proxy need not be feared then. An error of the parser
// points into the text; one from within a function has a context.
func notUnderstood(p *router.Plan, frame []byte) bool {
	code := string(wire.ErrorField(frame, 'C'))
	if p == nil {
		return code == "34000" // there is no such portal
	}
	if p.Statements == 1 && code == "25P02" {
		return true // nothing runs in a failed transaction
	}
	if p.Statements > 1 || p.Pins&^router.PinOpaque != 0 ||
		wire.ErrorField(frame, 'P') == nil || wire.ErrorField(frame, 'W') != nil {
		return false
	}
	switch p.Reason {
	case router.ReasonUnparsed, router.ReasonUnknownRel, router.ReasonUnknownFn, router.ReasonNoCatalog, router.ReasonWrite:
		return strings.HasPrefix(code, "42")
	}
	return false
}

// endSkipped ends a unit the server skips the rest of, with no Sync to come: a
// simple query behind what failed waits for one as well.
func (c *client) endSkipped(u *unit) error {
	if u.end == endQuery && len(u.ops) == 1 && !c.inUnit {
		// The simple query itself was the client's whole unit; what failed was the
		// proxy's. The client awaits a ReadyForQuery.
		if _, err := c.b.Conn.Write(wire.AppendSync(nil)); err != nil {
			return fmt.Errorf("%w: %w", errServerLost, err)
		}
		u.queue = append(u.queue, op{kind: opSync})
		return nil
	}
	c.skipping = true
	return nil
}

// dropStatements forgets what the rest of the queue was to prepare.
func (c *client) dropStatements(u *unit) {
	for i := u.head; i < len(u.queue); i++ {
		o := &u.queue[i]
		switch {
		case o.kind == opParse && o.stmt != nil:
			c.b.Held().Drop(o.stmt.Statement)
		case o.kind == opParse:
			c.b.Held().Unnamed = 0
		case o.kind == opExecute && o.quiet && o.stmt != nil:
			c.b.Held().Drop(o.stmt.Statement)
		case o.kind == opClose && o.quiet && !o.guard:
			c.doubt = true // a statement that was to be closed is still there
		}
	}
}

// complete ends the answer at the head of the queue, which succeeded.
func (c *client) complete(u *unit, o *op) {
	u.head++
	switch o.kind {
	case opParse:
		if o.stmt == nil {
			c.b.Held().Unnamed = uint64(o.tag)
		} else if !o.quiet && !c.tx.sets && c.settings.usual() {
			c.up.Parsed.Add(o.stmt.Statement, o.stmt.snapshot)
		}
	case opQuery:
		c.b.Held().Unnamed = 0
	}
	if o.quiet || !o.executes() {
		return
	}
	if o.sql != nil && o.sql.ends {
		c.b.Held().Drop(o.sql.needs.Statement)
		delete(c.statements, o.sql.name)
	}
	if o.plan != nil && o.plan.SQL.Verb == router.PreparedDeallocateAll {
		c.b.Held().Clear()
		c.statements = nil
	}
	if o.sql != nil && o.sql.makes != nil {
		for _, old := range c.b.Held().Hold(o.sql.makes.Statement) {
			_ = old
			c.doubt = true // it cannot be closed now; the connection is, later
		}
		c.define(o.sql.name, o.sql.makes)
	}
	if o.plan != nil {
		c.succeeded(u, o)
	}
	if c.role == cluster.RoleReplica {
		c.tx.read = true
	}
}

// fatalError is an ErrorResponse after which the server closes the connection.
type fatalError struct{ frame []byte }

func (e *fatalError) Error() string {
	return fmt.Sprintf("server: %s (SQLSTATE %s)", wire.ErrorField(e.frame, 'M'), wire.ErrorField(e.frame, 'C'))
}
