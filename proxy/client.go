package proxy

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// client is one client's session: its goroutine owns everything in it but what
// interrupt protects. What it is stands in state and names, what it holds in lease,
// what it is told in told; what it asks and what is tried for that is a work.
type client struct {
	svc   *Services
	up    *upstream.Pools
	front *wire.Conn
	who   identity

	state   session.State
	names   session.Names
	lease   lease
	told    told
	prefer  preferences
	writes  freshness.Changes // of the open transaction
	batches uint64            // read so far
	unnamed uint32            // unnamed statements parsed so far
	tenant  string            // that it worked for when it last gave a server connection back

	// skipping: after an error everything up to the client's Sync is dropped.
	skipping bool
	// torn: what was last written to the client ends within a message. Nothing can be
	// told it any more.
	torn bool

	ctx       context.Context // ends when the session must
	end       context.CancelFunc
	idle      atomic.Bool // waiting for the client, outside a transaction
	interrupt interrupt
	pinned    atomic.Pointer[pinned] // nil without pins; read by others
}

// identity says whose session it is.
type identity struct {
	id    uint64
	key   cancelKey
	app   string
	scope freshness.Scope // of its commits
}

// errTerminate is the client's orderly end.
var errTerminate = errors.New("terminate")

// log is a logger that says whose session it is; made when there is something to
// say, for it would be half of an idle session's memory.
func (c *client) log() *zap.Logger {
	return c.svc.Log.With(zap.Uint64("conn", c.who.id), zap.String("user", c.up.Key.User),
		zap.String("database", c.up.Key.Database), zap.String("application", c.who.app))
}

// serve answers batches until the client or the server ends the session.
func (c *client) serve() error {
	err := c.loop()
	c.finalError(err)
	c.close()
	return err
}

func (c *client) loop() error {
	for {
		if err := c.waitForClient(); err != nil {
			return err
		}
		w := takeWork()
		err := c.answer(w)
		putWork(w)
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
	busy := c.state.Tx.Phase.InBlock() || c.lease.midBatch()
	c.idle.Store(!busy)
	if !busy && c.svc.Draining.Load() {
		return errShutdown
	}
	var err error
	if c.lease.held() && c.state.Pins&(router.PinListen|router.PinSession) != 0 && !busy {
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
	c.interrupt.wake()
}

var errShutdown = wire.Fatalf("57P01", "terminating connection due to administrator command")

// finalError tells the client why its session ends, if there is something to say and
// the client would read it as a message.
func (c *client) finalError(err error) {
	var refused *wire.Error
	switch {
	case c.torn:
		return
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

// close gives up everything the session holds. A transaction left open is rolled back.
func (c *client) close() {
	_ = c.front.Close()
	c.front.Free()
	if !c.lease.held() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	b := c.lease.b
	if c.lease.stands != atRest || c.lease.residue == session.Opaque || b.CancelDone(ctx) != nil {
		c.discard()
		return
	}
	if c.state.Tx.Phase.InBlock() {
		status, err := b.RoundTrip(ctx, wire.AppendQuery(nil, "ROLLBACK"))
		if err != nil || status != wire.TxIdle {
			c.discard()
			return
		}
		c.state.Ready(wire.TxIdle, true, b.Parameter)
		c.lease.ended(false)
	}
	if c.state.Pins != 0 {
		c.lease.leave(session.Discardable)
		c.state.Pins = 0
		c.notePins()
	}
	c.release()
}

// notePins counts and logs what ties the session to its server connection, if that has
// changed.
func (c *client) notePins() {
	was, pins := c.pinned.Load(), c.state.Pins
	before := router.PinNone
	if was != nil {
		before = was.pins
	}
	if pins == before {
		return
	}
	c.svc.Metrics.Pinned(before, pins)
	now := &pinned{pins: pins, since: time.Now()}
	if was == nil {
		c.log().Debug("session pinned to its server connection", zap.Stringer("reason", pins))
	} else if now.since = was.since; pins == 0 {
		now = nil
		c.log().Debug("session no longer pinned", zap.Stringer("reason", was.pins), zap.Duration("after", time.Since(was.since)))
	}
	c.pinned.Store(now)
}
