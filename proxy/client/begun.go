package client

import (
	"context"

	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// RESET returns to what a session began with, on a shared connection to what the server
// began with. Where that is not the same and it cannot be made good before anybody sees it
// (RESET among other statements, NULL given to set_config, code that may say RESET), the
// session gets a connection that began with its own startup settings. Nobody else does.
// https://www.postgresql.org/docs/current/sql-reset.html

// mayReset reports whether a batch may return a startup setting of the session to its
// default in a way that only a connection begun with the session's settings gets right.
func (w *work) mayReset() bool {
	return w.batch.MayResetAny() && w.c.state.Settings.Reset() != w.c.up.Usual() &&
		w.batch.MayReset(w.c.beganWithOwn, w.c.svc.Config.Settings.Track != nil, w.textOf)
}

// beganWithOwn reports whether the session began with another value of a setting than the
// pool's connections.
func (c *Client) beganWithOwn(name string) bool {
	own, has := c.state.Settings.Reset().Value(name)
	usual, had := c.up.Usual().Value(name)
	return has != had || own != usual
}

// begunBy returns what opens a connection to a server that begins with the session's
// startup settings.
func (c *Client) begunBy(s *cluster.Server) func(context.Context) (*backend.Backend, error) {
	return func(ctx context.Context) (*backend.Backend, error) {
		return c.up.Begin(ctx, s, c.state.Settings.Reset())
	}
}
