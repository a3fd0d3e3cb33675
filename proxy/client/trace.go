package client

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/router"
)

// traceBatch tells the client where its batch ran, before the ReadyForQuery that ends it.
func (w *work) traceBatch() {
	n := 0
	for i := range w.batch.Messages {
		if m := &w.batch.Messages[i]; m.Kind.Executes() {
			n++
		}
	}
	l := &w.c.lease
	for range n {
		w.reply = appendTrace(w.reply, l.server.Address, l.role.String(), w.try.decision.Reason, time.Since(w.batch.Started))
	}
}

// traceLocal is the same for what the proxy answered itself.
func (w *work) traceLocal() {
	if w.c.preferences().Trace {
		w.reply = appendTrace(w.reply, "proxy", "-", router.ReasonLocal, time.Since(w.batch.Started))
	}
}

func appendTrace(dst []byte, address, role string, reason router.Reason, took time.Duration) []byte {
	return wire.AppendNotice(dst, "NOTICE", "00000",
		fmt.Sprintf("pgweir: %s %s %s %dµs", address, role, reason, took.Microseconds()))
}

// logSlow logs a statement that took long, its literals masked.
func (w *work) logSlow() {
	limit := w.c.svc.Config.Log.SlowStatement
	if limit <= 0 || w.took < limit {
		return
	}
	text := ""
	for i := range w.batch.Messages {
		if m := &w.batch.Messages[i]; m.Kind.Executes() && m.Kind != batch.FunctionCall {
			text = grammar.Shape(string(w.textOf(m)))
			break
		}
	}
	server := ""
	if w.c.lease.held() {
		server = w.c.lease.server.Address
	}
	w.c.Log().Warn("slow statement", zap.Duration("took", w.took), zap.String("server", server),
		zap.Stringer("reason", w.try.decision.Reason), zap.String("statement", text))
}
