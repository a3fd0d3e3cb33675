package audit

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/tenant"
)

// BenchmarkCheck is what the audit costs a statement that has a finding, of CPU on one
// core of a shared two-core machine:
//
//	lacking its filter           140 ns
//	filtered by a literal         12 ns
func BenchmarkCheck(b *testing.B) {
	a := New(config.Tenant{
		Settings: []string{"app.tenant"}, Columns: []string{"tenant_id"},
		Audit: config.Audit{Mode: "log", MaxStatements: 100, LogInterval: time.Hour},
	}, zap.NewNop())
	table := tenant.Table{Schema: "public", Name: "orders", Column: "tenant_id", Kind: tenant.KindList}
	bound := table
	bound.Bound = true
	for _, bench := range []struct {
		name    string
		finding *tenant.Finding
	}{
		{"missing", &tenant.Finding{Verdict: tenant.Missing, Kind: tenant.KindList, Tables: []tenant.Table{table}, Fingerprint: "0123456789abcdef"}},
		{"filtered", &tenant.Finding{Verdict: tenant.Filtered, Tables: []tenant.Table{bound}, Values: []tenant.Value{{Text: "1", Column: "tenant_id"}}}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			text := []byte("SELECT * FROM orders")
			st := &Statement{Plan: &router.Plan{Tenant: bench.finding}, Text: text, Shown: text}
			by := &Session{User: "app", Application: "shop", Database: "default/app", Role: "app", Tenants: []string{"1"}, Certain: true}
			for b.Loop() {
				if _, e := a.Check(st, by, nil); e != nil {
					b.Fatal(e)
				}
			}
		})
	}
}
