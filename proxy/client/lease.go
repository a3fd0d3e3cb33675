package client

import (
	"context"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/doubt"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// lease is the server connection a session holds, with everything that is true only
// while it is held. The zero value holds none.
type lease struct {
	b      *backend.Backend
	pool   *pool.Pool
	server *cluster.Server
	role   cluster.Role

	stands  stands
	carried session.History // the settings on the connection
	residue session.Residue // what the session left there besides
	inspect router.PinSet   // kinds of state it must be asked for
	// unpinned is what tied the session until DISCARD ALL, in the batch under way.
	unpinned router.PinSet
	// restore: RESET returned settings to the server's defaults where the session has its
	// own. asserted: what isolation rests on was asserted in the transaction under way, and
	// is undone with it.
	restore, asserted bool
	doubts            doubt.Doubts
	// asked is set while the session is expected to ask what a sequence gave it there.
	asked *upstream.Expectation
	// would is where what runs on it would run, while all is kept on the primary.
	would router.Target
}

// stands is where the server stands in the protocol.
type stands uint8

const (
	atRest         stands = iota // its last word was ReadyForQuery
	midBatch                     // it has messages since the last Sync
	midBatchFailed               // and refused one of them
)

func (l *lease) held() bool     { return l.b != nil }
func (l *lease) midBatch() bool { return l.stands != atRest }

// onReplica reports whether it is a connection to a replica.
func (l *lease) onReplica() bool { return l.role == cluster.RoleReplica }

// target is the kind of server it is a connection to.
func (l *lease) target() router.Target {
	if l.onReplica() {
		return router.TargetReplica
	}
	return router.TargetPrimary
}

// leave notes what the session has left on the connection.
func (l *lease) leave(r session.Residue) { l.residue = max(l.residue, r) }

// ran takes in what a statement meant for the connection, whether it succeeded or not.
func (l *lease) ran(e *session.Effects) {
	l.leave(e.Residue)
	l.inspect |= e.Inspect
	l.b.NoteTemporary(e.Inspect&router.PinTemp != 0)
	l.restore = l.restore || e.Startup
	l.unpinned |= e.Unpinned
}

// follow takes in what a statement that succeeded did to the settings the connection
// carries. modes are its transaction's before it.
func (l *lease) follow(st *session.Executed, end session.End, modes router.Modes) {
	switch end {
	case session.Committed:
		l.commit()
	case session.RolledBack:
		l.rollback()
	case session.NoEnd:
	}
	if st.Followed() {
		l.carried.Follow(st.Plan, st.Sets, modes)
	}
}

// changes notes which settings a statement may have changed for those behind it, whether it
// succeeded or not: plans may have been made meanwhile.
func (l *lease) changes(st *session.Executed) {
	p := st.Plan
	if !st.Followed() || len(st.Sets) == 0 && p.Flags&(router.FlagSetsState|router.FlagSetsLocal) != 0 || p.Pins&(router.PinSetting|router.PinOpaque) != 0 {
		l.b.ChangedUnseen()
		return
	}
	for i := range st.Sets {
		l.b.Plans.Changed(st.Sets[i].Name)
	}
	for _, name := range p.Touches {
		l.b.Plans.Changed(name)
	}
}

// ended says that the transaction on the connection ended, for its settings.
func (l *lease) ended(commit bool) {
	if commit {
		l.commit()
	} else {
		l.rollback()
	}
	l.asserted = false
	l.b.NoteSettings(l.carried.Now())
}

func (l *lease) commit() {
	l.carried.Commit()
	l.doubts.Ended(true)
}

// rollback undoes what the transaction did to settings, and with it what was asserted.
func (l *lease) rollback() {
	l.carried.Rollback()
	l.doubts.Ended(false)
	if l.asserted {
		l.b.HandOver(nobody)
	}
}

// nobody is the session that a connection comes from if what it carries must be asserted
// again.
const nobody = 0

// carries says that the connection carries the given settings, whatever was believed.
func (l *lease) carries(h session.History) {
	l.carried = h
	l.b.NoteSettings(h.Now())
}

// verdict is what it takes for somebody else to have the connection.
type verdict uint8

const (
	clean verdict = iota
	discardAll
	readBack
	mustClose
)

// verdict decides whether the connection may be handed on. Only what is proved counts:
// the server is at rest outside a transaction, the settings are known, nothing else is
// left. It decides at the end of a batch; one that goes elsewhere in the midst of it leaves
// its connection by leaveReplica, which wants more.
func (l *lease) verdict(s *session.State) verdict {
	switch {
	case l.stands != atRest, s.Tx.Phase == session.Open, s.Tx.Phase == session.Aborted, l.residue == session.Opaque:
		return mustClose
	case s.NeedsReadBack():
		return readBack
	case l.residue == session.Discardable:
		return discardAll
	}
	return clean
}

// attach takes a server connection for the session. another is that it was another
// session's before.
func (c *Client) attach(l lease) (another bool) {
	l.server.Begin()
	c.up.Traffic.Assigned()
	another = l.b.HandOver(c.who.id)
	l.carried = session.Carrying(l.b.Settings(), l.b.Defaults())
	c.lease = l
	c.interrupt.Hold(l.b, l.server)
	if c.up.Cluster.Topology().Abandoned(l.server) {
		_ = l.b.Conn.Close() // the server was given up before this connection could be found
	}
	return another
}

// detach forgets the server connection, which the caller gives back.
func (c *Client) detach() lease {
	c.interrupt.Release()
	l := c.lease
	l.b.Held().EndBatch() // of which the session may not have seen the end
	l.server.End()
	c.lease = lease{}
	c.told.pending = false
	c.ear.Released()
	if kept := c.state.Pins & router.PinSession; c.state.Pins != kept { // pool_mode is no state of the connection's
		c.state.Pins = kept
		c.publishPins()
	}
	return l
}

// release gives the server connection back if nothing ties the session to it: clean,
// made clean, or else closed.
func (c *Client) release() {
	l := &c.lease
	if !l.held() || l.midBatch() || l.doubts.Any() || l.asked != nil || c.state.Tx.Phase.InBlock() || c.state.Pins != 0 {
		return
	}
	switch l.verdict(&c.state) {
	case mustClose, readBack:
		c.discard()
		return
	case discardAll:
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if l.b.CancelDone(ctx) != nil || l.b.Reset(ctx) != nil {
			c.discard()
			return
		}
	case clean:
	}
	c.countTenantLeft()
	given := c.detach()
	given.pool.Release(given.b)
}

// discard closes the server connection.
func (c *Client) discard() {
	if !c.lease.held() {
		return
	}
	given := c.detach()
	given.pool.Discard(given.b)
	c.told.pending = true // what its transaction set is undone, and nobody said so
	c.state.Moved()
}

// leaveReplica ends a transaction that has only read on a replica. Nothing is lost with
// its connection if that fails.
func (c *Client) leaveReplica() {
	l := &c.lease
	inBlock := c.state.Tx.Phase.InBlock()
	if inBlock && l.midBatch() {
		if _, err := l.b.RoundTrip(c.ctx, wire.AppendSync(nil)); err != nil {
			c.discard()
			return
		}
	}
	frames := wire.AppendSync(nil)
	if inBlock {
		frames = wire.AppendQuery(nil, "ROLLBACK")
	}
	status, err := l.b.RoundTrip(c.ctx, frames)
	if s := &c.state; err == nil && inBlock && !s.MayDefine.Within(s.Defined) { // which the ROLLBACK did not undo
		var found backend.Found
		found, err = l.b.Inspect(c.ctx, backend.Question{Settings: true, Custom: s.MayDefine})
		s.Defined, s.MayDefine = s.Defined.With(found.Defined), s.Defined // and no others
	}
	committed := !inBlock && (c.state.Settings.Changed() || c.state.NeedsReadBack())
	if err != nil || status != wire.TxIdle || l.residue != session.NoResidue || l.inspect != 0 || c.state.Pins != 0 || committed {
		c.discard() // what it carries is not certain
		return
	}
	l.ended(!inBlock)
	given := c.detach()
	given.pool.Release(given.b)
	c.state.Moved()
}
