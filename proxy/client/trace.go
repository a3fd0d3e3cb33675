package client

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/router"
)

// traceBatch tells the client where its batch ran, before the ReadyForQuery that ends it.
func (c *Client) traceBatch(w *work) {
	n := 0
	for i := range w.batch.Messages {
		if m := &w.batch.Messages[i]; m.Kind.Executes() {
			n++
		}
	}
	l := &c.lease
	for range n {
		w.answer = appendTrace(w.answer, l.server.Address, l.role.String(), w.try.decision.Reason, time.Since(w.batch.Started))
	}
}

// traceLocal is the same for what the proxy answered itself.
func (c *Client) traceLocal(w *work) {
	if c.preferences().Trace {
		w.answer = appendTrace(w.answer, "proxy", "-", router.ReasonLocal, time.Since(w.batch.Started))
	}
}

func appendTrace(dst []byte, address, role string, reason router.Reason, took time.Duration) []byte {
	return wire.AppendNotice(dst, "NOTICE", "00000",
		fmt.Sprintf("pgweir: %s %s %s %dµs", address, role, reason, took.Microseconds()))
}

// logSlow logs a statement that took long, its literals masked.
func (c *Client) logSlow(w *work) {
	limit := c.svc.Config.Log.SlowStatement
	if limit <= 0 {
		return
	}
	took := time.Since(w.batch.Started)
	if took < limit {
		return
	}
	text := ""
	for i := range w.batch.Messages {
		if m := &w.batch.Messages[i]; m.Kind.Executes() && m.Kind != batch.FunctionCall {
			text = router.Normalize(string(c.textOf(w, m)))
			break
		}
	}
	server := ""
	if c.lease.held() {
		server = c.lease.server.Address
	}
	c.Log().Warn("slow statement", zap.Duration("took", took), zap.String("server", server),
		zap.Stringer("reason", w.try.decision.Reason), zap.String("statement", text))
}

// Log is a logger that says whose session it is; made when there is something to
// say, for it would be half of an idle session's memory.
func (c *Client) Log() *zap.Logger {
	return c.svc.Log.With(zap.Uint64("conn", c.who.id), zap.String("user", c.up.Key.User),
		zap.String("database", c.up.Key.Database), zap.String("application", c.who.app))
}
