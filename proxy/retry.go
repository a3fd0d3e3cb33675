package proxy

import (
	"errors"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/router"
)

// retry says that a unit may be sent again, nothing of its answer having reached the client.
type retry struct {
	reason  metrics.Retry
	primary bool // on the primary only
	learn   bool // its statements are writes
}

func (r *retry) Error() string { return "to be sent again: " + r.reason.String() }

// worthRetry says whether an error would not occur, or not again, if the unit
// were sent once more.
func (c *client) worthRetry(u *unit, o *op, frame []byte) *retry {
	if o.fail != nil || o.ahead || o.guard {
		return nil
	}
	code := string(wire.ErrorField(frame, 'C'))
	if resultChanged(frame) {
		if u.renew || c.tx.open && !u.begun || c.inUnit || !u.describes() {
			return nil
		}
		u.renew = true
		return &retry{reason: metrics.RetryPlan}
	}
	if code == "25006" && c.role == cluster.RolePrimary && u.hold && c.untouched(u) && c.demoted(c.server) {
		return &retry{reason: metrics.RetryShutdown}
	}
	if c.role != cluster.RoleReplica || c.tx.failed || c.tx.open && c.stays() || u.resumes {
		return nil
	}
	switch code {
	case "25006", "0A000", "55000":
		if c.tx.modes.Access == router.ReadOnly {
			return nil
		}
		// Only the first speaks of the statement; the others may be of how its transaction began.
		return &retry{reason: metrics.RetryReadOnly, primary: true, learn: code == "25006"}
	case "40001":
		return &retry{reason: metrics.RetryConflict, primary: true}
	}
	return nil
}

// resultChanged reports whether an error says that the rows of a prepared statement
// are no longer what they were when it was prepared.
func resultChanged(frame []byte) bool {
	return string(wire.ErrorField(frame, 'C')) == "0A000" && string(wire.ErrorField(frame, 'R')) == "RevalidateCachedQuery"
}

// describes reports whether the client is told of the rows it gets: one that was
// told earlier would read new rows by the old description.
func (u *unit) describes() bool {
	for i := range u.ops {
		if k := u.ops[i].kind; k == opDescribe || k == opQuery {
			return true
		}
	}
	return false
}

// stays reports whether the open transaction cannot leave its replica.
func (c *client) stays() bool {
	return c.characteristics().Isolation == router.RepeatableRead && c.tx.read || len(c.portals) > 0
}

// recover deals with a unit whose exchange failed.
func (c *client) recover(u *unit, err error) error {
	var again *retry
	var lost *lostError
	var fatal *fatalError
	switch {
	case c.ctx.Err() != nil:
		err = errShutdown
	case errors.As(err, &again):
		return c.prepareRetry(u, again)
	case errors.As(err, &lost):
		c.doubt = true
	case errors.As(err, &fatal):
		return c.serverGone(u, err, fatal.frame)
	case errors.Is(err, errServerLost):
		return c.serverGone(u, err, nil)
	}
	c.abandon(u)
	c.discard() // nobody knows where the conversation with the server stands
	return err
}

// prepareRetry brings the session back to where it was before the unit.
func (c *client) prepareRetry(u *unit, again *retry) error {
	if again.learn {
		c.learn(u)
	}
	u.refused = u.refused || again.reason == metrics.RetryReadOnly
	for i := range u.queue {
		if o := &u.queue[i]; o.plan != nil && o.plan.Flags.Has(router.FlagDirty) {
			c.doubt = true
		}
	}
	if err := c.drain(u); err != nil || again.reason == metrics.RetryLost {
		c.discard()
		return again
	}
	c.inUnit = false
	switch {
	case c.tx.open && again.reason == metrics.RetryPlan:
		c.discard() // its transaction has failed
	case c.tx.open:
		return errors.Join(c.leaveReplica(), again)
	default:
		c.carriesAfter(false)
		c.release()
	}
	return again
}

// drain reads to the ReadyForQuery of a unit that failed.
func (c *client) drain(u *unit) error {
	var frames []byte
	last := u.queue[len(u.queue)-1].kind
	at := u.queue[u.head].kind
	if last != opSync && at != opQuery && at != opCall {
		frames = wire.AppendSync(nil) // the server skips to a Sync that was not sent
	}
	if len(frames) > 0 {
		if _, err := c.b.Conn.Write(frames); err != nil {
			return err
		}
	}
	for {
		typ, size, err := c.b.Conn.Header()
		if err != nil {
			return err
		}
		if _, err := c.b.Conn.Frame(size); err != nil {
			return err
		}
		c.b.Conn.Discard(size)
		if typ == wire.ReadyForQuery {
			return nil
		}
	}
}

// serverGone deals with a server connection that ended in the middle. frame is
// what the server said of it, if it did.
func (c *client) serverGone(u *unit, err error, frame []byte) error {
	s := c.server
	held := c.pins != 0
	midFrame := u.pass > 0
	c.log().Warn("server connection lost", zap.String("server", s.Address), zap.Error(err))
	c.s.metrics.ServerLost()
	c.up.Cluster.ReportLost(s)
	if c.sendableAgain(u, err, frame) {
		c.discard()
		u.wary = true
		if frame != nil {
			return &retry{reason: metrics.RetryShutdown}
		}
		return &retry{reason: metrics.RetryLost}
	}
	c.abandon(u)
	c.discard()
	e := wire.Errorf("08006", "connection to the server was lost while the statement ran")
	if frame != nil {
		e = wire.Errorf(string(wire.ErrorField(frame, 'C')), "%s", wire.ErrorField(frame, 'M'))
		e.Detail, e.Hint = string(wire.ErrorField(frame, 'D')), string(wire.ErrorField(frame, 'H'))
	}
	if held || midFrame || frame != nil {
		// Session state went with the connection, or the server ended it on purpose: so
		// does the session, as it would directly.
		e.Severity = "FATAL"
		_ = c.flush(u)
		return e
	}
	c.undo(u.queue[u.head:])
	u.hold = false
	c.fail(u, e, u.end == endQuery && u.ops[len(u.ops)-1].kind != opSync)
	if u.sync {
		c.skipping = false
		u.answer = wire.AppendReady(u.answer, c.status())
	}
	return c.flush(u)
}

// onlyReads reports whether running the unit twice does no harm.
func (u *unit) onlyReads() bool {
	for i := range u.ops {
		if o := &u.ops[i]; o.executes() && (o.plan == nil || o.plan.Class != router.ClassRead) {
			return false
		}
	}
	return true
}

// learn remembers the unit's statements as writes, a replica having refused one.
func (c *client) learn(u *unit) {
	for i := range u.ops {
		o := &u.ops[i]
		if o.plan == nil || !o.executes() {
			continue
		}
		if text := c.textOf(u, o); len(text) > 0 {
			c.up.Database.Plans.Learn(text)
		}
	}
}
