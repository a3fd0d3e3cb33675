package client

import (
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/analysis"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// emit answers a message that the proxy answers, and carries out what it means: an
// effect on the session happens when its answer is given.
func (w *work) emit(m *batch.Message) {
	switch m.Kind {
	case batch.Parse:
		w.reply = append(w.reply, parseComplete...)
		w.c.parsed(m)
	case batch.Bind:
		w.reply = append(w.reply, bindComplete...)
		w.c.names.DefinePortal(m.Name, m.Portal)
	case batch.Describe:
		w.reply = append(w.reply, m.Canned...)
	case batch.Close:
		w.reply = append(w.reply, closeComplete...)
		w.c.closed(m)
	case batch.Query:
		w.c.dropUnnamed()
		if m.Plan.Own.Verb == router.OwnShow {
			w.reply = append(w.reply, analysis.DescribeHere(m.Plan)...)
		}
		w.reply = w.c.execute(w.reply, m)
		w.c.endLocal()
		w.traceLocal()
		w.reply = wire.AppendReady(w.reply, w.c.state.Tx.Phase.Status())
	case batch.Execute:
		w.reply = w.c.execute(w.reply, m)
	case batch.Sync, batch.FunctionCall:
	}
	if m.Kind.Executes() {
		w.c.svc.Metrics.Statement(router.TargetAny, router.ReasonLocal, m.Plan.Class)
		w.c.svc.Metrics.Answered(time.Since(w.batch.Started))
	}
}

// parsed gives a statement its name: its ParseComplete is sent.
func (c *Client) parsed(m *batch.Message) {
	switch {
	case m.Prepared != nil:
		c.names.Define(m.Name, m.Prepared)
	case m.Tag != 0:
		text, types := m.Statement(c.front.Buffered())
		c.names.DefineUnnamed(session.Unnamed{Tag: m.Tag, Text: text, Types: types, Plan: m.Defines, SQL: m.SQL})
	}
}

// closed takes a name away: its CloseComplete is sent.
func (c *Client) closed(m *batch.Message) {
	switch {
	case m.Target == 'P':
		c.names.ClosePortal(m.Name)
	case m.Name != "":
		c.names.Forget(m.Name)
	default:
		c.names.DropUnnamed()
	}
}

// dropUnnamed does what a simple query does to the unnamed statement and portal.
func (c *Client) dropUnnamed() {
	c.names.DropUnnamed()
	c.names.ClosePortal("")
}

// execute carries out a statement that the proxy executes, and adds the answer.
func (c *Client) execute(to []byte, m *batch.Message) []byte {
	p := m.Plan
	switch {
	case p.Own.Verb != router.OwnNone:
		return c.executeOwn(to, m)
	case p.SQL.Verb == router.PreparedDeallocateAll:
		c.names.ForgetAll()
		return wire.AppendComplete(to, "DEALLOCATE ALL")
	case p.SQL.Verb == router.PreparedDeallocate:
		c.names.Forget(p.SQL.Name)
		return wire.AppendComplete(to, "DEALLOCATE")
	case p.Flags.Has(router.FlagForgets):
		c.names.ForgetAll()
	}
	tag := c.state.Execute(p)
	if p.Tx.Verb == router.TxCommit || p.Tx.Verb == router.TxRollback {
		c.names.ClosePortals()
	}
	if !p.SetOnly {
		return wire.AppendComplete(to, tag)
	}
	for i := range p.Sets {
		to = wire.AppendComplete(to, p.Sets[i].Tag)
	}
	return to
}

// endLocal ends the implicit transaction of what the proxy answered itself.
func (c *Client) endLocal() {
	if !c.state.Tx.Phase.InBlock() {
		c.names.ClosePortals()
		c.state.EndLocal()
	}
}
