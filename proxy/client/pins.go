package client

import (
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/proxy/activity"
)

// publishPins tells metrics, log and View what ties the session to its server connection, if that has
// changed.
func (c *Client) publishPins() {
	was, now := c.activity.Pins(), activity.Pins{Set: c.state.Pins, Since: time.Now()}
	if now.Set == was.Set {
		return
	}
	c.svc.Metrics.Pinned(was.Set, now.Set)
	if was.Set == 0 {
		c.Log().Debug("session pinned to its server connection", zap.Stringer("reason", now.Set))
	} else if now.Since = was.Since; now.Set == 0 {
		c.Log().Debug("session no longer pinned", zap.Stringer("reason", was.Set), zap.Duration("after", time.Since(was.Since)))
	}
	c.activity.Pin(now)
}

// Log is a logger that says whose session it is; made when there is something to
// say, for it would be half of an idle session's memory.
func (c *Client) Log() *zap.Logger {
	return c.svc.Log.With(zap.Uint64("conn", c.who.id), zap.String("user", c.up.Key.User),
		zap.String("database", c.up.Key.Database), zap.String("application", c.who.app))
}
