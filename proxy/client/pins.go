package client

import (
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/router"
)

// Pinned tells what ties the session to its server connection, and since when. It may be
// called from another goroutine.
func (c *Client) Pinned() (pins router.PinSet, since time.Time) {
	if p := c.pinned.Load(); p != nil {
		return p.pins, p.since
	}
	return router.PinNone, time.Time{}
}

// publishPins tells metrics, log and Pinned what ties the session to its server connection, if that has
// changed.
func (c *Client) publishPins() {
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
		c.Log().Debug("session pinned to its server connection", zap.Stringer("reason", pins))
	} else if now.since = was.since; pins == 0 {
		now = nil
		c.Log().Debug("session no longer pinned", zap.Stringer("reason", was.pins), zap.Duration("after", time.Since(was.since)))
	}
	c.pinned.Store(now)
}

// pinned is why and since when a session is tied to its server connection.
type pinned struct {
	pins  router.PinSet
	since time.Time
}

// Log is a logger that says whose session it is; made when there is something to
// say, for it would be half of an idle session's memory.
func (c *Client) Log() *zap.Logger {
	return c.svc.Log.With(zap.Uint64("conn", c.who.id), zap.String("user", c.up.Key.User),
		zap.String("database", c.up.Key.Database), zap.String("application", c.who.app))
}
