package proxy

import (
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
)

// settle takes over what a unit the server has answered means for the session,
// and gives the connection back if nothing holds it.
func (c *client) settle(u *unit) error {
	for i := range u.queue {
		if o := &u.queue[i]; o.executes() && !o.quiet && !o.skipped {
			c.countTenant(o)
			c.leaves(u, o)
		}
	}
	c.s.metrics.statement(u, c.role)
	c.logSlow(u)
	c.tx.sets = c.tx.sets || u.sets
	if u.status == 0 {
		c.inUnit = true // Flush: the server waits for the rest
		c.errored = c.errored || u.errored
		if c.role != cluster.RoleReplica {
			c.noteWrites(u, false)
		}
		return nil
	}
	if (u.errored || c.errored) && (u.status == wire.TxFailed || !c.tx.kept) {
		c.restore = nil // the RESET was undone
	}
	if u.status == wire.TxIdle {
		c.endUnitSettings(!u.errored && !c.errored)
		c.takeReported()
	}
	if !u.errored {
		c.b.NoteDefined(c.touched) // it took over what it had not touched
	}
	if c.unpinned && (u.errored || c.errored) {
		// What untied the session was undone: it has what its connection has.
		c.setPins(c.pins | router.PinOpaque)
		c.doubt = true
	}
	c.errored, c.unpinned = false, false
	c.follow(u.status)
	if u.end == endQuery {
		c.b.SetUnnamed(0)
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
	if len(u.late) > 0 {
		u.answer = append(c.report(u.answer), u.late...)
		if err := c.flush(u); err != nil {
			return err
		}
	}
	if err := c.readBack(); err != nil {
		return err
	}
	if err := c.passNotifications(); err != nil {
		return err
	}
	c.release()
	return nil
}

// remember puts the session's startup settings back where RESET or RESET ALL took
// them from the connection: they are what these return to. Inside a transaction that
// holds whether it is rolled back or not.
func (c *client) remember(u *unit) error {
	if restore := c.restore; len(restore) > 0 {
		c.restore = nil
		if err := c.restoring(func() error { return c.b.Set(c.ctx, restore) }); err != nil {
			return err
		}
		for _, ch := range restore {
			if c.tx.open {
				c.tx.step(step{set: router.Set{Name: ch.Name, Value: ch.Value, Local: ch.Local}})
			}
		}
	}
	if !c.forgot {
		return c.reassert()
	}
	c.forgot = false
	if u.errored {
		c.unread = true // it may have been undone, or not
		return nil
	}
	if c.tx.open && !c.within {
		c.prior, c.within = c.b.Settings(), true
	}
	c.b.NoteSettings(c.left)
	c.noteIsolation()
	return c.restoring(func() error { return c.b.Adopt(c.ctx, c.settings.now, c.settings.startup.Custom()) })
}

// passNotifications gives the client what it listens to and the server said while
// the proxy spoke with it.
func (c *client) passNotifications() error {
	if c.b == nil {
		return nil
	}
	frames := c.b.Notified()
	if len(frames) == 0 || c.pins&router.PinListen == 0 {
		return nil
	}
	if _, err := c.front.Write(frames); err != nil {
		return &lostError{err}
	}
	return nil
}

// restoring runs f, which sets settings on the connection.
func (c *client) restoring(f func() error) error {
	if err := f(); err != nil {
		c.discard()
		return wire.Fatalf("08006", "the session's settings could not be restored: %v", err)
	}
	return nil
}

// report adds what the client has yet to be told of the settings servers report. It
// was told those of its session, which any connection takes over and reports anew.
func (c *client) report(to []byte) []byte {
	c.untold = false
	now := c.b.Parameters()
	for _, name := range slices.SortedFunc(maps.Keys(now), func(a, b string) int {
		return strings.Compare(strings.ToLower(a), strings.ToLower(b))
	}) {
		value := now[name]
		known, ok := c.reported[name]
		if !ok {
			known, ok = c.welcome[name]
		}
		if ok && known == value || name == "in_hot_standby" {
			continue // one ordinary server is no standby
		}
		if c.reported == nil {
			c.reported = map[string]string{}
		}
		c.reported[name] = value
		to = wire.AppendParameter(to, name, value)
	}
	return to
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
	if c.b.AtRest() != nil { // BEGIN succeeded, what came behind it did not
		c.discard()
		return nil
	}
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
const undone = router.PinSetting | router.PinTemp | router.PinCursor | router.PinListen

// leaves notes the session state a statement may have left behind, whether it
// succeeded or not. One that failed may have done a part of what it says.
func (c *client) leaves(u *unit, o *op) {
	p := o.plan
	if p == nil {
		p = unknownPlan
	}
	c.tx.hazy = c.tx.hazy || hazes(p)
	if p.Flags.Has(router.FlagTxControl) {
		// What of the settings was committed and what rolled back, only the server knows.
		c.unread, c.tx.commits, c.tx.kept, c.tx.hazy = true, true, true, true
	}
	if len(p.Sets) == 0 || o.errored && p.Statements > 1 {
		c.suspects = c.suspects.With(p.Touches)
	}
	if p.Flags.Has(router.FlagDirty) || c.redefined(u) && len(p.Functions)+len(p.Relations) > 0 {
		// What it used may have been redefined meanwhile to leave anything behind.
		c.doubt = true
	}
	c.look |= (p.Pins | p.Unpins) & inspectable
	pins := p.Pins
	if o.errored && !commitsWithin(p) {
		pins &^= undone
	}
	if pins&router.PinOpaque != 0 && c.s.cfg.Settings.Track != nil {
		// What it may set is declared, and the rest of it is looked for.
		pins = pins&^router.PinOpaque | router.PinSetting | inspectable
		c.look |= inspectable
	}
	if pins&router.PinSetting != 0 {
		c.unread = true
		c.tx.kept = c.tx.kept || commitsWithin(p)
	}
	if pins &^= router.PinSetting; pins == 0 {
		return
	}
	c.setPins(c.pins | pins)
	c.doubt = c.doubt || pins&(router.PinOpaque|router.PinLoad) != 0
	c.dirty = c.dirty || pins&^inspectable != 0
}

// succeeded takes over what a statement means when the server has carried it out.
func (c *client) succeeded(u *unit, o *op) {
	p := o.plan
	if p.Flags.Has(router.FlagDDL) && (p.Statements > 1 || p.Pins != router.PinTemp) {
		c.tx.ddl = true // temporary objects are in no catalog of ours
	}
	if p.Tx.Verb != router.TxNone {
		c.followTx(p, string(c.textOf(u, o)))
	}
	if len(p.Sets) > 0 || p.SetOnly {
		c.ran(u, o)
	}
	if v, ok := c.settings.startup.Value(p.Resets); ok && p.Resets != "" {
		c.restore = append(c.restore, session.Change{Name: p.Resets, Value: v, Local: p.Flags.Has(router.FlagSetsLocal)})
	}
	if p.Flags.Has(router.FlagForgets) { // DISCARD ALL, DEALLOCATE ALL
		c.b.DropAll()
		c.statements = nil
		c.doubt = c.doubt || p.Statements > 1
	}
	if p.Unpins&router.PinSetting != 0 {
		c.settings.resetAll()
		c.forgot, c.left = true, c.settings.now.Only(session.Role, session.Authorization)
	}
	if !p.Flags.Has(router.FlagForgets) || p.Unpins == 0 {
		return
	}
	// DISCARD ALL
	c.settings.now, c.left = c.settings.startup, session.Settings{}
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
	now := &pinned{pins: pins, since: time.Now()}
	if was := c.pinned.Load(); was == nil {
		c.log().Debug("session pinned to its server connection", zap.Stringer("reason", pins))
	} else if now.since = was.since; pins == 0 {
		now = nil
		c.log().Debug("session no longer pinned", zap.Stringer("reason", was.pins), zap.Duration("after", time.Since(was.since)))
	}
	c.pinned.Store(now)
	c.pins = pins
}
