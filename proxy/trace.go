package proxy

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/router"
)

// traceUnit tells the client where its unit ran, before the ReadyForQuery that ends it.
func (c *client) traceUnit(u *unit, _ *op) {
	n := 0
	for i := range u.ops {
		if u.ops[i].executes() {
			n++
		}
	}
	for range n {
		u.answer = appendTrace(u.answer, c.server.Address, c.role.String(), u.decision.Reason, time.Since(u.started))
	}
}

// traceLocal is the same for what the proxy answered itself.
func (c *client) traceLocal(u *unit) {
	if c.own.trace {
		u.answer = appendTrace(u.answer, "proxy", "-", router.ReasonLocal, time.Since(u.started))
	}
}

func appendTrace(dst []byte, address, role string, reason router.Reason, took time.Duration) []byte {
	return wire.AppendNotice(dst, "NOTICE", "00000",
		fmt.Sprintf("pgweir: %s %s %s %dµs", address, role, reason, took.Microseconds()))
}

// logSlow logs a statement that took long, its literals masked.
func (c *client) logSlow(u *unit) {
	limit := c.s.cfg.Log.SlowStatement
	if limit <= 0 {
		return
	}
	took := time.Since(u.started)
	if took < limit {
		return
	}
	text := ""
	for i := range u.ops {
		if o := &u.ops[i]; o.executes() && o.kind != opCall {
			text = router.Normalize(string(c.textOf(u, o)))
			break
		}
	}
	server := ""
	if c.server != nil {
		server = c.server.Address
	}
	c.log().Warn("slow statement", zap.Duration("took", took), zap.String("server", server),
		zap.Stringer("reason", u.decision.Reason), zap.String("statement", text))
}
