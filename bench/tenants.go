package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// The scripts of tenants: one SELECT of a row by its key, for the tenant named in the
// transaction by SET LOCAL, or in the session by SET, once; that also with pauses, so that
// there are connections to choose from.
const (
	eachTransaction = "transaction"
	eachSession     = "session"
	pausing         = "session, pausing"
)

// tenantClients share the work of tenantCount tenants.
const tenantClients, tenantCount = 64, 50

var tenantScripts = map[string]string{
	eachTransaction: fmt.Sprintf(`\set aid random(1, 100000 * :scale)
\set org random(1, %d)
BEGIN;
SET LOCAL app.current_org_id = :org;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
COMMIT;
`, tenantCount),
	eachSession: sessionScript,
	pausing:     sessionScript + "\\sleep 6 ms\n",
}

var sessionScript = fmt.Sprintf(`\set aid random(1, 100000 * :scale)
\if :fresh
\set org :client_id %% %d
SET app.current_org_id = :org;
\set fresh 0
\endif
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
`, tenantCount)

// guarded is a proxy with what it does against foreign state.
type guarded struct {
	*system
	assert, verify bool
}

// tenancy is one script through one proxy, with what came of it in each round. The cost
// of its figures is of the proxy and the server together.
type tenancy struct {
	script string
	guarded
	samples []figures
	kept    []float64 // server connections that carried the session's settings already, in per cent
}

func (t *tenancy) String() string {
	return fmt.Sprintf("tenant by %s, %s, assert %s, verify %s", t.script, t.name, onOff(t.assert), onOff(t.verify))
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// measureTenants runs the scripts of tenants through PgBouncer, as far as it can keep
// tenants apart, and through pgweir with assertion and verification off and on, in turns.
// All have the primary alone behind them.
func measureTenants(ctx context.Context, l *lab, r *report) error {
	proxies, err := l.startGuarded(ctx)
	defer func() {
		for _, p := range proxies {
			if p.name == pgweir {
				p.stop()
			}
		}
	}()
	if err != nil {
		return err
	}
	for _, script := range []string{eachTransaction, eachSession, pausing} {
		var all []*tenancy
		for _, p := range proxies {
			if p.name == pgweir || script == eachTransaction { // a SET that stays would go to the next client of PgBouncer
				all = append(all, &tenancy{script: script, guarded: p})
			}
		}
		r.tenants = append(r.tenants, all...)
		for round := range l.options.rounds {
			for _, t := range rotate(all, round) {
				err := l.tenants(ctx, t)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					t.samples, t.kept = append(t.samples, failedRun), append(t.kept, math.NaN())
					r.fault("%v, round %d: %v", t, round+1, err)
				}
			}
		}
	}
	return nil
}

// startGuarded starts a pgweir for every case, the one that does least first.
func (l *lab) startGuarded(ctx context.Context) (all []guarded, err error) {
	if s := l.system(pgbouncer); s != nil {
		all = append(all, guarded{system: s})
	}
	if l.system(pgweir) == nil {
		return all, nil
	}
	for _, assert := range []bool{false, true} {
		for _, verify := range []bool{false, true} {
			lines := ""
			if assert {
				lines += "tenant: {settings: [app.current_org_id]}\n"
			}
			if !verify { // it is on by default
				lines += "settings: {verify: 0}\n"
			}
			s, err := l.startWeir(ctx, pgweir, []*pgtest.Server{l.cluster.Primary}, lines)
			if s, err = s.up(ctx, pgweir, err); err != nil {
				return all, err
			}
			all = append(all, guarded{s, assert, verify})
		}
	}
	return all, nil
}

// tenants runs one script once.
func (l *lab) tenants(ctx context.Context, t *tenancy) error {
	before, err := t.affinity(ctx)
	if err != nil {
		return err
	}
	w := load{script: t.script, mode: "simple", clients: tenantClients}
	f, err := l.pgbench(ctx, t.system, w, l.options.seconds, 100*time.Millisecond, chainOf(t.pid(), l.cluster.Primary.PID()))
	if err != nil {
		return err
	}
	after, err := t.affinity(ctx)
	if err != nil {
		return err
	}
	kept := math.NaN()
	if after != nil && t.script != eachTransaction { // SET LOCAL leaves nothing that a connection could carry
		kept = share(before, after, "hit")
	}
	t.samples, t.kept = append(t.samples, f), append(t.kept, kept)
	progress("%-60v %8.0f tps  p50 %6.0f µs  p99 %6.0f µs  cpu %5.1f µs  kept %3.0f %%", t, f.tps, f.p50, f.p99, f.cost, kept)
	return nil
}

// affinity tells how many connections pgweir's sessions took, by whether they carried the
// session's settings; nothing of others.
func (s *system) affinity(ctx context.Context) (map[string]float64, error) {
	if s.http == "" {
		return nil, nil
	}
	page, err := s.fetch(ctx, "/metrics", 10*time.Second)
	return sumBy(string(page), "pgweir_affinity_total", "result"), err
}

// tenantsTable shows what it costs to keep tenants apart.
func (r *report) tenantsTable() string {
	if len(r.tenants) == 0 {
		return ""
	}
	var t table
	fmt.Fprintf(&t, "## Tenants\n\n%d sessions of %d tenants, a pool of %d to the primary, which is alone; simple protocol, reads of one row of pgbench_accounts by its key.\n"+
		"By transaction: `BEGIN; SET LOCAL app.current_org_id = …; SELECT …; COMMIT`, four messages, another tenant each time; by session: `SET` once, then SELECTs,\n"+
		"and with pauses of 6 ms, which are part of p50 and p99, so that there are connections to choose from.\n"+
		"Assert on is `tenant.settings: [app.current_org_id]`, verify on the default of 10 s. CPU is of the whole chain, proxy and server, for a transaction.\n"+
		"The ratios (÷ off) are to pgweir with both off. Kept are connections that carried the session's settings already.\n\n",
		tenantClients, tenantCount, r.options.poolSize)
	t.head(4, "tenant by", "proxy", "assert", "verify", "transactions/s", "p50 µs", "÷ off", "p99 µs", "÷ off", "CPU µs", "÷ off", "÷ PgBouncer", "kept, %")
	for _, x := range r.tenants {
		none := r.unguarded(x.script, pgweir)
		ratio := func(to *tenancy, figure func(figures) float64) string {
			if to == nil || to == x {
				return "–"
			}
			return number(medianRatio(x.of(figure), to.of(figure)), "%.2f")
		}
		assert, verify := onOff(x.assert), onOff(x.verify)
		if x.name == pgbouncer {
			assert, verify = "–", "–"
		}
		t.row(x.script, title(x.name), assert, verify, show(x.of(tps), "%.0f"), show(x.of(p50), "%.0f"), ratio(none, p50),
			show(x.of(p99), "%.0f"), ratio(none, p99), show(x.of(cost), "%.1f"), ratio(none, cost),
			ratio(r.unguarded(x.script, pgbouncer), cost), number(median(known(x.kept)), "%.0f"))
	}
	return t.String()
}

// unguarded finds a script's run through a proxy that neither asserts nor verifies.
func (r *report) unguarded(script, name string) *tenancy {
	for _, t := range r.tenants {
		if t.script == script && t.name == name && !t.assert && !t.verify {
			return t
		}
	}
	return nil
}

func (t *tenancy) of(figure func(figures) float64) []float64 { return valuesOf(t.samples, figure) }
