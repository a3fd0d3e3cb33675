package proxy

import (
	"context"
	"time"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/session"
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
	// restore: RESET returned settings to the server's defaults where the session has its
	// own. unpinned: DISCARD ALL untied the session in the batch under way.
	restore, unpinned bool
	// another: it was another session's before. asserted: what isolation rests on was
	// asserted in the transaction under way, and is undone with it.
	another, asserted bool
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

// ended says that the transaction on the connection ended, for its settings.
func (l *lease) ended(commit bool) {
	if commit {
		l.carried.Commit()
	} else {
		l.carried.Rollback()
		if l.asserted {
			l.b.HandOver(nobody)
		}
	}
	l.asserted = false
	l.b.NoteSettings(l.carried.Now())
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
// left. It is the only place that decides it.
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

// attach takes a server connection for the session.
func (c *client) attach(l lease) {
	l.server.Begin()
	l.another = l.b.HandOver(c.who.id)
	l.carried = session.Carrying(l.b.Settings())
	c.lease = l
	c.interrupt.expose(l.b, l.server)
	if c.up.Cluster.Topology().Abandoned(l.server) {
		_ = l.b.Conn.Close() // the server was given up before this connection could be found
	}
}

// detach forgets the server connection, which the caller gives back.
func (c *client) detach() lease {
	c.interrupt.conceal()
	l := c.lease
	l.server.End()
	c.lease = lease{}
	c.told.pending = false
	if c.state.Pins != 0 {
		c.state.Pins = 0
		c.notePins()
	}
	return l
}

// release gives the server connection back if nothing ties the session to it: clean,
// made clean, or else closed.
func (c *client) release() {
	l := &c.lease
	if !l.held() || l.midBatch() || c.state.Tx.Phase.InBlock() || c.state.Pins != 0 {
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
	c.noteTenant()
	given := c.detach()
	given.pool.Release(given.b)
}

// discard closes the server connection.
func (c *client) discard() {
	if !c.lease.held() {
		return
	}
	given := c.detach()
	given.pool.Discard(given.b)
	c.state.Moved()
}
