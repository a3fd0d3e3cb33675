package proxy

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/router"
)

// settle takes over what a unit the server has answered means for the session,
// and gives the connection back if nothing holds it.
func (c *client) settle(u *unit) error {
	for i := range u.queue {
		if o := &u.queue[i]; o.executes() && !o.quiet && !o.skipped {
			c.leaves(o)
		}
	}
	c.s.metrics.statement(u, c.role)
	c.logSlow(u)
	c.tx.sets = c.tx.sets || u.sets
	if u.status == 0 {
		c.inUnit = true // Flush: the server waits for the rest
		c.errored = c.errored || u.errored
		c.tx.wrote = c.tx.wrote || u.mayWrite()
		return nil
	}
	if u.status == wire.TxIdle {
		c.endUnitSettings(!u.errored && !c.errored)
	}
	if !u.errored {
		c.b.Surely(c.touched) // it took over what it had not touched
	}
	if c.unpinned && (u.errored || c.errored) {
		// What untied the session was undone: it has what its connection has.
		c.setPins(c.pins | router.PinOpaque)
		c.doubt = true
	}
	c.errored, c.unpinned = false, false
	c.follow(u.status)
	if u.end == endQuery {
		c.b.Unnamed = 0
	}
	if u.errored && c.tx.open {
		c.doubtPortals()
	}
	if c.tx.unopened {
		return c.giveUpTransaction()
	}
	if err := c.remember(u); err != nil {
		return err
	}
	c.release()
	return nil
}

// remember puts the session's startup settings back where RESET ALL took them from
// a connection that the session keeps: they are what its RESET returns to. Inside a
// transaction that holds whether it is rolled back or not.
func (c *client) remember(u *unit) error {
	if restore := c.restore; len(restore) > 0 {
		c.restore = nil
		if err := c.b.Set(c.ctx, restore); err != nil && !u.errored {
			c.discard()
			return wire.Fatalf("08006", "the session's settings could not be restored: %v", err)
		}
	}
	if !c.forgot {
		return c.reassert()
	}
	c.forgot = false
	if u.errored {
		c.dirty = true // it may have been undone, or not
		return nil
	}
	if c.tx.open && !c.within {
		c.prior, c.within = c.b.Settings(), true
	}
	c.b.ForgetSettings()
	if !c.tx.open && c.pins == 0 {
		return nil
	}
	if err := c.b.Adopt(c.ctx, c.settings.startup, c.settings.startup.Custom()); err != nil {
		c.discard()
		return wire.Fatalf("08006", "the session's settings could not be restored: %v", err)
	}
	return nil
}

// reassert makes a connection that the session keeps carry its settings again, if
// what a failed unit undid were those it had taken over.
func (c *client) reassert() error {
	if c.tx.open || c.pins == 0 || c.b.Settings() == c.settings.now {
		return nil
	}
	if err := c.b.Adopt(c.ctx, c.settings.now, c.touched); err != nil {
		c.discard()
		return wire.Fatalf("08006", "the session's settings could not be restored: %v", err)
	}
	return nil
}

// giveUpTransaction ends a unit whose server refused to open the transaction the
// client was told is open: it has failed, and no server knows of it.
func (c *client) giveUpTransaction() error {
	if c.pins != 0 || c.doubt {
		c.discard()
		return wire.Fatalf("08006", "the transaction could not be opened")
	}
	c.tx.unopened = false
	c.carriesAfter(false)
	b := c.b
	c.letGo().Release(b)
	return nil
}

// doubtPortals forgets what portals hold: an error may have come before or after a
// new one took a name, or an old one gave it up.
func (c *client) doubtPortals() {
	if !c.portal.local {
		c.portal.plan = nil
	}
	for name, held := range c.portals {
		held.plan = nil
		c.portals[name] = held
	}
}

// noteWrites notes what a unit on the primary may have written or committed. It is
// called before the client gets to know: a read it then sends finds the note.
func (c *client) noteWrites(u *unit) {
	c.tx.wrote = c.tx.wrote || u.mayWrite()
	if c.tx.wrote && (u.status == wire.TxIdle || c.tx.commits) {
		c.o.db.noteCommit()
		c.tx.wrote, c.tx.commits = false, false
	}
}

// mayWrite reports whether the unit runs anything that is not proved to write nothing.
func (u *unit) mayWrite() bool {
	for i := range u.queue {
		if o := &u.queue[i]; o.executes() && !o.quiet && (o.plan == nil || !harmless(o.plan)) {
			return true
		}
	}
	return false
}

func harmless(p *router.Plan) bool {
	switch p.Class {
	case router.ClassRead, router.ClassSetting, router.ClassEmpty:
		return true
	case router.ClassTx:
		return p.Tx.Verb != router.TxNone && p.Tx.Verb != router.TxPrepare
	}
	return false
}

// follow takes over the transaction status.
func (c *client) follow(status byte) {
	switch status {
	case wire.TxIdle:
		if c.tx.ddl {
			c.o.db.catalogChanged()
		}
		c.tx = transaction{}
		c.dropPortals()
	default:
		c.tx.open, c.tx.failed = true, status == wire.TxFailed
	}
}

// dropPortals forgets the portals, which end with their transaction.
func (c *client) dropPortals() {
	c.portal = portalOf{}
	if len(c.portals) > 0 {
		clear(c.portals)
	}
}

// unknownPlan is of what runs without anybody knowing what it is: a portal that
// may be another one than its name says, a message the server was left to judge.
var unknownPlan = &router.Plan{Class: router.ClassUnknown, Target: router.TargetPrimary, Pins: router.PinOpaque}

// undone are kinds of state that an error undoes, with the transaction or the part
// of it since a savepoint.
const undone = router.PinSetting | router.PinRole | router.PinTemp | router.PinCursor | router.PinListen

// leaves notes the session state a statement may have left behind, whether it
// succeeded or not. One that failed may have done a part of what it says.
func (c *client) leaves(o *op) {
	p := o.plan
	if p == nil {
		p = unknownPlan
	}
	if len(p.Touches) > 0 {
		c.touched = c.touched.With(c.mayHaveTouched(o))
	}
	if p.Flags.Has(router.FlagDirty) || c.o.db.stale() && len(p.Functions)+len(p.Relations) > 0 {
		// What it used may have been redefined meanwhile to leave anything behind.
		c.doubt = true
	}
	if p.Pins == 0 {
		return
	}
	pins := p.Pins
	switch {
	case !o.errored:
		pins &^= p.Unpins
	case !p.Flags.Has(router.FlagTxControl):
		if pins &^= undone; pins == 0 {
			return
		}
	}
	c.setPins(c.pins | pins)
	if pins&(router.PinOpaque|router.PinLoad) != 0 {
		c.doubt = true
	} else {
		c.dirty = true
	}
}

// mayHaveTouched are the custom settings that are not as if never set after an op. Of
// one that failed only those are that a server has taken before: another may be no
// setting at all.
func (c *client) mayHaveTouched(o *op) []string {
	switch {
	case !o.errored:
		return o.plan.Touches
	case c.tx.failed, o.plan.Statements == 1 && o.plan.Class == router.ClassSetting && len(o.plan.Functions) == 0:
		return nil // it was not looked at, or refused
	}
	return slices.DeleteFunc(slices.Clone(o.plan.Touches), func(n string) bool { return !c.o.db.customs.known(n) })
}

// succeeded takes over what a statement means when the server has carried it out.
func (c *client) succeeded(u *unit, o *op) {
	p := o.plan
	if p.Flags.Has(router.FlagDDL) && (p.Statements > 1 || p.Pins != router.PinTemp) {
		c.tx.ddl = true // temporary objects are in no catalog of ours
	}
	if p.Tx.Verb == router.TxCommit && c.tx.wrote {
		c.o.db.noteCommit() // its command tag may reach the client before ReadyForQuery does
	}
	if p.Tx.Verb != router.TxNone {
		c.followTx(p, string(c.textOf(u, o)))
	}
	if len(p.Sets) > 0 {
		c.ran(o)
	}
	if v, ok := c.settings.startup.Value(p.Resets); ok && p.Resets != "" {
		c.restore = append(c.restore, session.Change{Name: p.Resets, Value: v})
	}
	if p.Flags.Has(router.FlagTxControl) && (c.tx.open || c.settings.atRisk || c.within) {
		// What of the settings was committed and what rolled back, only the server knows.
		c.setPins(c.pins | router.PinOpaque)
		c.doubt = true
	}
	if p.Flags.Has(router.FlagForgets) { // DISCARD ALL, DEALLOCATE ALL
		c.b.DropAll()
		c.statements = nil
		c.doubt = c.doubt || p.Statements > 1
	}
	if p.Unpins == 0 {
		return
	}
	if p.Unpins&router.PinSetting != 0 {
		c.forgot = true
		c.settings.resetAll()
	}
	if left := c.pins &^ p.Unpins; left != c.pins && !c.tx.open {
		c.dirty = c.dirty || c.pins != 0
		c.setPins(left)
		c.unpinned = true
	}
}

// textOf is the text an op runs, as far as it is at hand.
func (c *client) textOf(u *unit, o *op) []byte {
	switch {
	case o.text != "":
		return []byte(o.text)
	case o.kind == opQuery:
		text, _ := wire.QueryText(c.front.Buffered()[o.off : o.off+o.size])
		return text
	case o.stmt != nil:
		return []byte(o.stmt.Text)
	case o.parse > 0:
		parse := &u.ops[o.parse-1]
		_, text, _, _ := wire.ParseParts(c.front.Buffered()[parse.off : parse.off+parse.size])
		return text
	}
	return c.unnamed.text
}

// setPins notes what ties the session to its server connection.
func (c *client) setPins(pins router.PinSet) {
	if pins == c.pins {
		return
	}
	c.s.metrics.pinned(c.pins, pins)
	if c.pins == 0 {
		c.pinnedAt = time.Now()
		c.log().Debug("session pinned to its server connection", zap.Stringer("reason", pins))
	} else if pins == 0 {
		c.log().Debug("session no longer pinned", zap.Stringer("reason", c.pins), zap.Duration("after", time.Since(c.pinnedAt)))
	}
	c.pins = pins
}
