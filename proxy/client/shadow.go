package client

import (
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/shadow"
	"github.com/pgweir/pgweir/router"
)

// decideShadowed has the batch run on the primary, and reports where it would have run. A
// transaction that would be on a replica goes on as if it were there.
func (w *work) decideShadowed() router.Decision {
	l := &w.c.lease
	if l.onReplica() || w.c.state.Tx.Phase == session.Aborted { // it began before, or ends
		return w.decide()
	}
	v := w.view()
	if v.OnPrimary && l.would == router.TargetReplica {
		v.OnPrimary, v.OnReplica = false, true
	}
	d := router.Decide(w.plan(), v)
	if d.Target == router.TargetReplica {
		d = w.asKnown(d, v)
	}
	w.try.would = d.Target
	w.reportShadow(d)
	return router.Decision{Target: router.TargetPrimary, Reason: router.ReasonShadow}
}

// reportShadow reports a decision that is not followed. Whether a replica would have been
// fresh in time is found out behind the client's back.
func (w *work) reportShadow(d router.Decision) {
	c, up := w.c, w.c.up
	k := shadow.Case{Database: up.Database.Label(), User: up.Key.User, Place: d.Target.String(), Reason: d.Reason.String()}
	for i := range w.batch.Messages {
		if m := &w.batch.Messages[i]; m.Kind.Executes() && m.Kind != batch.FunctionCall {
			k.Text = string(w.textOf(m))
			break
		}
	}
	if pins := c.state.Pins | w.plan().Pins; pins != 0 {
		k.Pins = pins.String()
	}
	if d.Target != router.TargetReplica {
		c.svc.Shadow.Record(k)
		return
	}
	required, _ := needs{w}.need()
	shown := max(required, needs{w}.required(router.Database, w.plan().Reads))
	cl, ctx, wait := up.Cluster, c.svc.Ending, c.svc.Config.Routing.FreshnessWait
	c.svc.Shadow.Later(k, func(k *shadow.Case) {
		if len(cl.Topology().Replicas) == 0 {
			k.Place, k.Reason = router.TargetPrimary.String(), router.ReasonNoReplica.String()
			return
		}
		if k.Stale = !cl.AwaitFresh(ctx, shown, wait); k.Stale && !cl.AwaitFresh(ctx, required, 0) {
			k.Place, k.Reason = router.TargetPrimary.String(), router.ReasonFreshness.String()
		}
	})
}
