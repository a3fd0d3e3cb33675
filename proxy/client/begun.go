package client

import (
	"context"
	"regexp"
	"slices"

	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/router"
)

// RESET returns to what a session began with, on a shared connection to what the server
// began with. Where that is not the same and it cannot be made good before anybody sees it
// (RESET among other statements, NULL given to set_config, code that may say RESET), the
// session gets a connection that began with its own startup settings. Nobody else does.
// https://www.postgresql.org/docs/current/sql-reset.html

// mayReset reports whether a batch may return a startup setting of the session to its
// default in a way that only a connection begun with the session's settings gets right.
func (w *work) mayReset() bool {
	possible, several := false, w.batch.Several()
	for i := range w.batch.Messages {
		m := &w.batch.Messages[i]
		possible = possible || m.Kind.Executes() && !m.Here && mayResetSome(m.Plan)
	}
	if !possible || w.c.state.Settings.Reset() == w.c.up.Usual() {
		return false
	}
	for i := range w.batch.Messages {
		m := &w.batch.Messages[i]
		if !m.Kind.Executes() || m.Here || !mayResetSome(m.Plan) {
			continue
		}
		if m.Plan == nil || w.c.resets(m, several) {
			return true
		}
		if p := m.Plan; p.Statements > 1 && p.Flags&setsAny != 0 && resetWords.Match(w.textOf(m)) {
			return true // among several it is not told which
		}
	}
	return false
}

const setsAny = router.FlagSetsState | router.FlagSetsLocal

// mayResetSome reports whether a statement may reset any setting at all.
func mayResetSome(p *router.Plan) bool {
	return p == nil || p.Pins&(router.PinOpaque|router.PinSetting) != 0 || p.Unpins&router.PinSetting != 0 ||
		p.Resets != "" || len(p.Sets) > 0 || p.Statements > 1 && p.Flags&setsAny != 0
}

// resetWords stand in whatever text resets a setting.
var resetWords = regexp.MustCompile(`(?i)\b(reset|default|null|discard)\b`)

// resets is mayReset for one statement; among is whether others are with it.
func (c *Client) resets(m *batch.Message, among bool) bool {
	p := m.Plan
	sets, followed := m.Sets()
	if !followed {
		return true
	}
	if c.svc.Config.Settings.Track == nil && !p.SetOnly {
		opaque := p.Pins&router.PinOpaque != 0 || p.Pins&router.PinSetting != 0 && len(sets)+len(p.Touches) == 0
		if opaque || len(sets) == 0 && slices.ContainsFunc(p.Touches, c.beganWithOwn) {
			return true
		}
	}
	among = among || p.Statements > 1
	if p.Resets != "" && among && c.beganWithOwn(p.Resets) {
		return true
	}
	if p.Unpins&router.PinSetting != 0 && among {
		return true // RESET ALL
	}
	for i := range sets {
		if sets[i].Reset && (among || sets[i].Tag == "") && c.beganWithOwn(sets[i].Name) {
			return true
		}
	}
	return false
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
