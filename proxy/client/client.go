// Package client is one client's life once it is logged in: its batches are answered one
// after the other (see answer.go), each by a server the router's decision asks for. The
// goroutine that calls Serve owns everything in the session; what sessions share is
// immutable (upstream.Service) or in package upstream.
package client

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/activity"
	"github.com/pgweir/pgweir/proxy/analysis"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/notify"
	"github.com/pgweir/pgweir/proxy/observe"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/timeouts"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// Client is one client's session: its goroutine owns everything in it but what
// interrupt protects and the atomic values. What it is stands in state and names, what it
// holds in lease, what it is told in told; what it asks and what is tried for that is a
// work.
type Client struct {
	svc   *upstream.Service
	up    *upstream.Pools
	front *wire.Conn
	who   identity

	state  session.State
	names  session.Names
	lease  lease
	told   told
	ear    notify.Ear
	prefer preferred
	writes freshness.Changes     // of the open transaction
	drew   *upstream.Expectation // of the statement with which it drew from sequences last; nil: none
	done   done
	tenant string // that it worked for when it last gave a server connection back

	stands standing

	ctx       context.Context // ends when the session must
	clock     *timeouts.Clock // ends it
	idle      atomic.Bool     // waiting for the client, outside a transaction
	interrupt *interrupt.Interrupt
	activity  activity.Activity

	// modesKnown are the modes that were last worked out, and from what.
	modesKnown struct {
		of    modesOf
		modes router.Modes
	}
}

// done is what the session has done so far.
type done struct {
	batches uint64           // read
	seen    *observe.Session // nil if nothing is observed
}

// identity says whose session it is.
type identity struct {
	id    uint64
	pid   uint32 // as the client knows it (BackendKeyData)
	app   string
	scope freshness.Scope // of its commits
}

// standing is where the conversation with the client stands.
type standing uint8

const (
	inStep   standing = iota
	skipping          // after an error everything up to the client's Sync is dropped
	torn              // what was last written ends within a message: nothing can be told it
)

// New makes the session of a client that is logged in, with a number no other session of
// the service has. It ends with ctx, at the latest.
func New(ctx context.Context, svc *upstream.Service, up *upstream.Pools, front *wire.Conn, id uint64, application string, state session.State) *Client {
	c := &Client{
		svc: svc, up: up, front: front, state: state,
		who: identity{id: id, app: application, scope: freshness.SessionScope(id)},
	}
	c.activity.Begin(front.Written())
	of := timeouts.Of{Limits: up.Timeouts, Front: front, Metrics: svc.Metrics}
	c.clock, c.ctx = timeouts.New(ctx, &of)
	c.interrupt = interrupt.New(c.ctx, front)
	c.done.seen = observe.New(svc.Insight, insight.Who{Database: up.Database.Label(), User: up.Key.User, Application: application, Tenant: func() string {
		tenant, _ := c.tenantNow()
		return svc.Audit.Shown(tenant)
	}}, svc.Explain.Source(up.Cluster.Topology, up.Aside))
	of.Interrupt = c.interrupt
	return c
}

// Begin says that the client was told its session has begun, with the given settings
// (ParameterStatus) and process ID (BackendKeyData).
func (c *Client) Begin(reported map[string]string, pid uint32) {
	c.told.atLogin, c.who.pid = reported, pid
	if c.up.Terms().PoolMode == "session" {
		c.state.Pins |= router.PinSession
	}
	if c.told.judgeTexts(); c.told.texts == textsMisread || session.MayMisread(c.state.Settings.Reset()) {
		c.state.Pins |= router.PinSetting
	}
	c.publishPins()
}

// Serve answers batches until the client or the server ends the session, and says why. A
// panic ends the session and nothing else.
func (c *Client) Serve() (err error) {
	defer c.clock.Close()
	defer func() {
		if p := recover(); p != nil {
			c.Log().Error("fault of the proxy: the session is ended", zap.Any("panic", p), zap.Stack("stack"))
			err = errFault
			c.lease.leave(session.Opaque)
		}
		err = timeouts.Why(c.ctx, err)
		c.finalError(err)
		c.done.seen.Close()
		c.close()
		c.state.Pins = 0
		c.publishPins()
	}()
	err = c.loop()
	if errors.As(err, new(*interrupt.ClientGone)) {
		c.svc.Metrics.ClientVanished()
	}
	return err
}

var errFault = wire.Fatalf("XX000", "internal error of the proxy; its log says more")

func (c *Client) loop() error {
	for {
		if err := c.linger(); err != nil {
			return err
		}
		if err := c.waitForClient(); err != nil {
			return err
		}
		w := takeWork(c)
		err := w.answer()
		putWork(w)
		if err != nil {
			return err
		}
		if c.interrupt.Vanished() {
			return errVanished // whatever it has asked for besides
		}
	}
}

// lingerFor is how long a session keeps its connection because of doubts alone: a client
// that says more by then may be in the middle of a script. askedFor is that for one who is
// expected to ask what a sequence gave it.
const (
	lingerFor = 20 * time.Millisecond
	askedFor  = 200 * time.Millisecond
)

// linger waits a moment for the client if something that will pass holds the session's
// connection, and then sees to it that it does.
func (c *Client) linger() error {
	asked := c.lease.asked != nil && !c.state.Tx.Phase.InBlock() && !c.lease.midBatch()
	inspects := c.mayInspect()
	if c.state.Pins != 0 && !inspects || len(c.front.Buffered()) > 0 || !asked && !inspects && !c.mayResolve() {
		return nil
	}
	limit := lingerFor
	if asked {
		limit = askedFor
	}
	_ = c.front.SetReadDeadline(time.Now().Add(limit))
	err := c.front.Fill()
	_ = c.front.SetReadDeadline(time.Time{})
	if c.ctx.Err() != nil {
		return errShutdown // its deadline may just have been taken away
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if asked {
		c.lease.asked.Missed()
		c.lease.asked = nil
	}
	return c.resolveAndPart()
}

// resolveAndPart resolves doubts, and gives the connection back if nothing else holds it.
func (c *Client) resolveAndPart() error {
	w := takeWork(c)
	defer putWork(w)
	c.resolve(c.ctx, true)
	return settlement{w}.part()
}

// waitForClient blocks while the session is idle. It holds no buffer then. What the
// session listens to is passed on meanwhile.
func (c *Client) waitForClient() error {
	if len(c.front.Buffered()) > 0 {
		return nil
	}
	busy := c.state.Tx.Phase.InBlock() || c.lease.midBatch()
	until, tooLong := c.clock.Silence(&c.state, c.lease.midBatch(), c.up.Database.Plans.Snapshot().OfServer)
	if !until.IsZero() {
		_ = c.front.SetReadDeadline(until)
	}
	c.idle.Store(!busy)
	if !busy && (c.svc.Draining.Load() || c.up.Retired()) {
		return errShutdown
	}
	err := c.fill(busy)
	for c.ear.Listens() && errors.Is(err, os.ErrDeadlineExceeded) && c.ctx.Err() == nil && (busy || c.idle.Load()) && !expired(until) {
		// Woken to hear something.
		_ = c.front.SetReadDeadline(until)
		err = c.fill(busy)
	}
	var woken bool
	c.ear.Undisturbed(func() {
		woken = !busy && !c.idle.CompareAndSwap(true, false)
		if !until.IsZero() || c.ear.Listens() {
			_ = c.front.SetReadDeadline(time.Time{}) // nobody sets one after this to have it listen
		}
	})
	switch late := errors.Is(err, os.ErrDeadlineExceeded); {
	case late && !until.IsZero() && !woken && c.ctx.Err() == nil:
		c.clock.Exceeded(tooLong)
		return tooLong
	case woken || late:
		return errShutdown
	}
	if c.ctx.Err() != nil {
		return errShutdown // its deadline may just have been taken away
	}
	return err
}

func expired(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// fill waits for bytes of the client.
func (c *Client) fill(busy bool) error {
	if c.lease.held() && c.state.Pins&(router.PinListen|router.PinSession) != 0 && !busy {
		return c.waitForBoth()
	}
	if !busy {
		if err := c.passHeard(c.ear.Take()); err != nil {
			return err
		}
	}
	return c.front.Fill()
}

// Interrupt is how other goroutines reach the session.
func (c *Client) Interrupt() *interrupt.Interrupt { return c.interrupt }

// Drop gives up a session that is not to be served.
func (c *Client) Drop() { c.clock.End() }

// EndIdle ends the session if it is idle outside a transaction. It may be called from
// another goroutine.
func (c *Client) EndIdle() {
	if c.idle.CompareAndSwap(true, false) {
		c.front.Wake()
	}
}

// Abort ends the session wherever it is. It may be called from another goroutine, and
// may have to be called again: a session sets deadlines of its own.
func (c *Client) Abort() { c.clock.Abort() }

var errVanished = &interrupt.ClientGone{Err: errors.New("closed while it was served")}

var errShutdown = interrupt.ErrEnded

// finalError tells the client why its session ends, if there is something to say and
// the client would read it as a message.
func (c *Client) finalError(err error) {
	var refused *wire.Error
	switch {
	case c.stands == torn:
		return
	case errors.As(err, &refused):
	case errors.Is(err, analysis.ErrTerminate), errors.Is(err, io.EOF), err == nil:
		return
	case c.ctx.Err() != nil:
		refused = errShutdown
	default:
		return
	}
	c.clock.Leave(time.Second)
	_, _ = c.front.Write(refused.Append(nil))
}

// close gives up everything the session holds. A transaction left open is rolled back.
func (c *Client) close() {
	_ = c.front.Close()
	c.front.Free()
	c.ear.Leave()
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
	c.lease.asked = nil
	c.resolve(ctx, true)
	if c.state.Pins != 0 {
		c.lease.leave(session.Discardable)
		c.state.Pins = 0
		c.publishPins()
	}
	if c.lease.doubts.Any() {
		c.discard()
		return
	}
	c.release()
}
