package proxy

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// client is one client's session. Its goroutine owns everything in it but what mu protects.
type client struct {
	s     *Server
	up    *upstream.Pools
	front *wire.Conn
	id    uint64
	key   cancelKey
	app   string

	// What the session is.
	settings sessionSettings
	serial   bool              // its transactions are SERIALIZABLE unless they say otherwise
	untold   bool              // the client may have to be told of some
	welcome  map[string]string // what the client was told of settings when it came; shared
	reported map[string]string // and since
	touched  session.Names     // custom settings it has used
	suspects session.Names     // and may have used
	own      ownSettings
	began    map[string]string // the proxy's settings among its startup parameters

	// Its prepared statements.
	statements map[string]*statement
	unnamed    unnamed
	portal     portalOf            // the unnamed one
	portals    map[string]portalOf // named ones of the transaction
	units      uint64              // read so far

	tx   transaction
	pins router.PinSet
	// doubt: what the session left on its server connection cannot be known.
	// dirty: it can, and DISCARD ALL removes it.
	doubt, dirty bool
	// unread: what its settings are must be asked of the connection. look: so must
	// whether state of these kinds is left.
	unread     bool
	look       router.PinSet
	forgot     bool                   // RESET ALL took away its startup settings
	left       session.Settings       // what it left
	restore    []session.Change       // RESET took away one of them
	pinned     atomic.Pointer[pinned] // nil without pins; read by others
	lastTenant string                 // when it last gave a server connection back

	// The server connection it holds, if any.
	b      *backend.Backend
	pool   *pool.Pool
	server *cluster.Server
	role   cluster.Role
	// inUnit: the server has frames since the last Sync. skipping: after an error,
	// everything up to the client's Sync is dropped.
	inUnit, skipping bool
	errored          bool // the server refused something since the last Sync
	unpinned         bool // or untied the session from its connection
	// within: the connection took over settings inside the open transaction. If that
	// is not committed it carries prior again.
	within bool
	prior  session.Settings
	undid  bool // a ROLLBACK was carried out in the unit

	ctx     context.Context // ends when the session must
	end     context.CancelFunc
	unwatch func()      // ends the watch over the client while it waits
	idle    atomic.Bool // waiting for the client, outside a transaction

	mu        sync.Mutex              // protects the fields below
	running   *backend.Backend        // what a cancel request may reach
	exposed   *backend.Backend        // what may be closed at any time because of its server,
	exposedOn *cluster.Server         // which is this
	queued    bool                    // or a wait for a server or connection it ends:
	canceled  bool                    // noted, if the wait has only begun,
	waiting   context.CancelCauseFunc // or by this
}

// errTerminate is the client's orderly end.
var errTerminate = errors.New("terminate")

// log is a logger that says whose session it is; made when there is something to
// say, for it would be half of an idle session's memory.
func (c *client) log() *zap.Logger {
	return c.s.log.With(zap.Uint64("conn", c.id), zap.String("user", c.up.Key.User),
		zap.String("database", c.up.Key.Database), zap.String("application", c.app))
}

// serve answers units until the client or the server ends the session.
func (c *client) serve() error {
	err := c.loop()
	c.farewell(err)
	c.leave()
	return err
}

func (c *client) loop() error {
	for {
		if err := c.waitForClient(); err != nil {
			return err
		}
		u := takeUnit()
		err := c.answer(u)
		putUnit(u)
		if err != nil {
			return err
		}
	}
}

// waitForClient blocks while the session is idle. It holds no buffer then. What
// a server connection says meanwhile is passed on, if the session listens to one.
func (c *client) waitForClient() error {
	if len(c.front.Buffered()) > 0 {
		return nil
	}
	busy := c.tx.open || c.inUnit
	c.idle.Store(!busy)
	if !busy && c.s.draining.Load() {
		return errShutdown
	}
	var err error
	if c.b != nil && c.pins&(router.PinListen|router.PinSession) != 0 && !busy {
		err = c.waitForBoth()
	} else {
		err = c.front.Fill()
	}
	woken := !busy && !c.idle.CompareAndSwap(true, false)
	if woken || errors.Is(err, os.ErrDeadlineExceeded) {
		return errShutdown
	}
	return err
}

// abort ends the session wherever it is. It is called from another goroutine, and
// may have to be called again: a session sets deadlines of its own.
func (c *client) abort() {
	c.end()
	_ = c.front.SetDeadline(time.Unix(1, 0))
	c.mu.Lock()
	if c.running != nil {
		c.running.Conn.Wake()
	}
	c.mu.Unlock()
}

var errShutdown = wire.Fatalf("57P01", "terminating connection due to administrator command")

// farewell tells the client why its session ends, if there is something to say.
func (c *client) farewell(err error) {
	var refused *wire.Error
	switch {
	case errors.As(err, &refused):
	case errors.Is(err, errTerminate), errors.Is(err, io.EOF), err == nil:
		return
	case c.ctx.Err() != nil:
		refused = errShutdown
	default:
		return
	}
	_ = c.front.SetDeadline(time.Now().Add(time.Second))
	_, _ = c.front.Write(refused.Append(nil))
}

// leave gives up everything the session holds. A transaction left open is rolled back.
func (c *client) leave() {
	_ = c.front.Close()
	c.front.Free()
	if c.b == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	b := c.b
	if c.inUnit || c.doubt || b.CancelDone(ctx) != nil {
		c.discard()
		return
	}
	if c.tx.open {
		status, err := b.RoundTrip(ctx, wire.AppendQuery(nil, "ROLLBACK"))
		if err != nil || status != wire.TxIdle {
			c.discard()
			return
		}
		c.unread = c.unread && c.tx.kept
		c.tx = transaction{}
		c.carriesAfter(false)
	}
	if c.pins != 0 {
		c.dirty = true
		c.setPins(0)
	}
	c.release()
}

// release gives the server connection back if nothing ties the session to it.
func (c *client) release() {
	if c.b == nil || c.tx.open || c.inUnit || c.pins != 0 {
		return
	}
	b := c.b
	if c.doubt || c.within || c.unsure() {
		c.discard()
		return
	}
	if c.dirty {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := b.CancelDone(ctx); err != nil {
			c.discard()
			return
		}
		if err := b.Reset(ctx); err != nil {
			c.discard()
			return
		}
	}
	c.noteTenant()
	p := c.letGo()
	p.Release(b)
}

// discard closes the server connection.
func (c *client) discard() {
	b := c.b
	if b == nil {
		return
	}
	p := c.letGo()
	p.Discard(b)
}

// letGo forgets the server connection, which the caller gives back.
func (c *client) letGo() *pool.Pool {
	c.mu.Lock()
	c.running, c.exposed = nil, nil
	c.mu.Unlock()
	c.server.End()
	p := c.pool
	c.b, c.pool, c.server, c.role = nil, nil, nil, cluster.RoleUnknown
	c.unpinned, c.look, c.untold = false, 0, false
	c.inUnit, c.errored, c.dirty, c.doubt, c.forgot, c.within = false, false, false, false, false, false
	c.restore = nil
	if c.pins != 0 {
		c.setPins(0)
	}
	return p
}

// hold takes a server connection for the session.
func (c *client) take(b *backend.Backend, p *pool.Pool, s *cluster.Server, r cluster.Role) {
	s.Begin()
	c.b, c.pool, c.server, c.role = b, p, s, r
	c.mu.Lock()
	c.exposed, c.exposedOn = b, s
	c.mu.Unlock()
	if c.up.Cluster.Topology().Abandoned(s) {
		_ = b.Conn.Close() // the server was given up before this connection could be found
	}
}

// cancel carries out a cancel request: what runs is canceled on its server, a
// wait for a connection ends. It is called from another goroutine.
func (c *client) cancel(ctx context.Context) error {
	c.mu.Lock()
	var send func(context.Context) error
	switch {
	case c.queued:
		c.canceled = true
		if c.waiting != nil {
			c.waiting(errCanceled)
		}
	case c.running != nil:
		send = c.running.BeginCancel()
	}
	c.mu.Unlock()
	if send == nil {
		return nil
	}
	return send(ctx)
}

var errCanceled = wire.Errorf("57014", "canceling statement due to user request")

func (c *client) setRunning(b *backend.Backend) {
	c.mu.Lock()
	c.running = b
	c.mu.Unlock()
}
