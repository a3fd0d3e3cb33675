package client

import (
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/analysis"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/local"
	"github.com/pgweir/pgweir/router"
)

// emit answers a message that the proxy answers, and carries out what it means: an
// effect on the session happens when its answer is given.
func (w *work) emit(m *batch.Message) {
	switch m.Kind {
	case batch.Parse:
		w.reply = append(w.reply, parseComplete...)
		m.Parsed(&w.c.names, w.bytes())
	case batch.Bind:
		w.reply = append(w.reply, bindComplete...)
		w.c.names.DefinePortal(m.Name, m.Portal)
	case batch.Describe:
		w.reply = append(w.reply, m.Canned...)
	case batch.Close:
		w.reply = append(w.reply, closeComplete...)
		m.Closed(&w.c.names)
	case batch.Query:
		w.c.names.Queried()
		if m.Plan.Own.Verb == router.OwnShow {
			w.reply = append(w.reply, analysis.DescribeHere(m.Plan)...)
		}
		w.reply = w.c.local().Execute(w.reply, m)
		w.c.endLocal()
		w.hearBehind()
		w.traceLocal()
		w.reply = wire.AppendReady(w.reply, w.c.state.Tx.Phase.Status())
	case batch.Execute:
		w.reply = w.c.local().Execute(w.reply, m)
		w.c.names.RanHere()
	case batch.Sync, batch.FunctionCall:
	}
	if m.Kind.Executes() {
		if m.Plan.Unpins&router.PinListen != 0 { // DISCARD ALL
			w.c.ear.Leave()
		}
		w.spans.Answered(m)
		w.counted(router.TargetAny, router.ReasonLocal, m.Plan.Class)
		w.answered(router.TargetAny, m.Plan.Class)
	}
}

// dropUnnamed has the server forget the unnamed portal of the block if a message that is answered
// here takes its place: it may be asked for later. Nothing is asked of the server meanwhile.
func (c *Client) dropUnnamed(m *batch.Message) {
	takes := m.Kind == batch.Query || m.Kind == batch.Bind && m.Name == ""
	if takes && c.lease.held() && !c.lease.midBatch() && c.state.Tx.Phase.InBlock() && c.lease.b.CancelDone(c.ctx) == nil {
		_, _ = c.lease.b.RoundTrip(c.ctx, wire.AppendSync(wire.AppendTarget(nil, wire.Close, 'P', "")))
	}
}

// endLocal ends the implicit transaction of what the proxy answered itself.
func (c *Client) endLocal() {
	if !c.state.Tx.Phase.InBlock() {
		c.names.ClosePortals()
		c.state.EndLocal()
	}
}

// local is what a statement that the proxy executes works on.
func (c *Client) local() local.Session {
	return local.Session{State: &c.state, Names: &c.names, Service: c.svc, Up: c.up}
}
