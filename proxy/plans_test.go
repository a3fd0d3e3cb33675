package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// newCouriers is a cluster with the fleet application's tables, and many couriers in one
// of them, without the indexes that serve their organization or status.
func newCouriers(t testing.TB) *pgtest.Cluster {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Replicas: 2, Conf: map[string]string{"log_statement": "all", "log_line_prefix": "%a|", "autovacuum": "off", "synchronous_standby_names": "FIRST 2 (*)", "synchronous_commit": "remote_apply"}})
	schema := regexp.MustCompile(`(?m)^\\.*$`).ReplaceAllString(unzipped(t, "../router/tenant/testdata/fleet/schema.sql.gz"), "")
	for _, sql := range []string{
		schema,
		`set session_replication_role = replica;
		insert into couriers (barq_id, full_name, mobile_number, status, organization_id)
			select i, 'name', 'number', case when i % 100 = 0 then 'SUSPENDED'::courierstatus else 'ACTIVE' end, i % 40 from generate_series(1, 20000) i;
		drop index idx_couriers_active, idx_couriers_no_vehicle, idx_couriers_org_city_status, idx_couriers_org_status, ix_couriers_organization_id, ix_couriers_status;
		analyze couriers`,
	} {
		require.NoError(t, c.Exec(t.Context(), sql), "%.200s", sql)
	}
	require.NoError(t, c.WaitReplay(t.Context()))
	return c
}

// withPlans is a proxy in front of a cluster that has its statements explained.
func withPlans(t testing.TB, c *pgtest.Cluster, change ...func(*config.Config)) *service {
	t.Helper()
	cfg := config.Default()
	cfg.Listen, cfg.HTTP = config.Addresses{freeAddress(t)}, ""
	for _, s := range c.Servers() {
		cfg.Servers = append(cfg.Servers, config.Server{Address: s.Addr(), Weight: 1})
	}
	cfg.ServerTLS.Mode, cfg.Service.User, cfg.Auth.Method = "disable", pgtest.Superuser, "trust"
	cfg.Tenant.Settings = []string{"app.current_org_id"}
	cfg.Insight.Enabled = true
	cfg.Insight.Plans = config.Plans{Enabled: true, Interval: time.Minute, Timeout: 5 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	return startConfig(t, cfg)
}

// plans are what the proxy knows of plans, and what it found.
func (s *service) plans(t testing.TB) (sum insight.Summary, text string) {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, s.WriteInsights(&out))
	text = out.String()
	require.NoError(t, json.Unmarshal(out.Bytes(), &sum))
	return sum, text
}

// planOf is what is known of the plans of the statement with a part in its text.
func planOf(sum *insight.Summary, part string) *insight.PlanRow {
	for i := range sum.Plans {
		if strings.Contains(sum.Plans[i].Statement, part) {
			return &sum.Plans[i]
		}
	}
	return nil
}

// TestPlans: what sessions read is explained on a replica, as they are and with their
// settings and parameters; a missing index is found, and seen once it is there; the primary
// is asked nothing, and no literal is kept or shown.
func TestPlans(t *testing.T) {
	c := newCouriers(t)
	hypopg := c.Exec(t.Context(), "create extension hypopg") == nil
	s := withPlans(t, c)
	ctx := t.Context()
	conn := s.connect(t, "postgres", "user="+fleetUser, "application_name=canaryapp")
	statements := []func(int){
		func(i int) { // a simple query
			sql := fmt.Sprintf("select id, full_name as simple from couriers where organization_id = %d and status = 'SUSPENDED' and full_name <> 'canary'", i%40)
			_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
			require.NoError(t, err)
		},
		func(i int) { // prepared, in a transaction that is for a tenant
			tx, err := conn.Begin(ctx)
			require.NoError(t, err)
			_, err = tx.Exec(ctx, "select set_config('app.current_org_id', $1, true), set_config('app.canary', 'canary', false)", fmt.Sprint(i%40))
			require.NoError(t, err)
			rows, err := tx.Query(ctx, "select id as prepared from couriers where status = $1 and full_name <> $2 and id > 0", "SUSPENDED", "canary")
			require.NoError(t, err)
			_, err = pgx.CollectRows(rows, pgx.RowTo[int])
			require.NoError(t, err)
			require.NoError(t, tx.Commit(ctx))
		},
		func(int) { // by its key
			var id int
			require.NoError(t, conn.QueryRow(ctx, "select id as key from couriers where barq_id = $1 and full_name <> 'canary'", "7").Scan(&id))
		},
	}
	repeat := func(what string, done func(*insight.Summary) bool) (sum insight.Summary) {
		t.Helper()
		i := 0
		until(t, what, func() bool {
			for _, f := range statements {
				i++
				f(i)
			}
			sum, _ = s.plans(t)
			return done(&sum)
		})
		return sum
	}
	sum := repeat("all have plans", func(sum *insight.Summary) bool {
		return planOf(sum, "as simple") != nil && planOf(sum, "as prepared") != nil && planOf(sum, "as key") != nil
	})
	plan := planOf(&sum, "as simple")
	require.Contains(t, plan.Access()[0], "Seq Scan on public.couriers")
	require.Equal(t, []string{"organization_id", "status"}, plan.Wanted[0].Columns)
	require.Equal(t, hypopg, plan.Wanted[0].Verified)
	if hypopg {
		require.True(t, plan.Wanted[0].Used)
		require.Less(t, plan.Wanted[0].After, plan.Wanted[0].Before/2)
	}
	require.Equal(t, []string{"Index Scan by ix_couriers_barq_id on public.couriers"}, planOf(&sum, "as key").Access())
	require.NotEqual(t, c.Primary.Addr(), plan.Server)
	found := map[string]insight.Finding{}
	for _, f := range sum.Findings {
		if f.Kind == "seq_scan" || f.Kind == "policy_unindexed" {
			found[regexp.MustCompile(`as \w+`).FindString(f.Statement)] = f
		}
	}
	// The policy of this application compares by OR and COALESCE, which no index serves.
	require.Equal(t, "policy_unindexed", found["as simple"].Kind)
	require.Contains(t, found["as simple"].SQL, "CREATE INDEX CONCURRENTLY ON public.couriers (organization_id, status)")
	require.Contains(t, found["as prepared"].Detail, "none could")
	require.NotContains(t, found, "as key")

	_, err := s.connect(t, "postgres").Exec(ctx, "create index couriers_org_status on couriers (organization_id, status)")
	require.NoError(t, err)
	sum = repeat("the index is used", func(sum *insight.Summary) bool {
		return strings.Contains(strings.Join(planOf(sum, "as simple").Access(), " "), "by couriers_org_status")
	})
	plan = planOf(&sum, "as simple")
	require.Contains(t, plan.Before.Change(plan.Plan), "Seq Scan on public.couriers → ")
	require.Less(t, plan.Cost, plan.Before.Cost/2)
	require.Equal(t, 1.0, s.metric(t, "pgweir_insight_plans_total", "result=changed"))
	require.Zero(t, s.metric(t, "pgweir_insight_plans_total", "result=failed"))

	_, text := s.plans(t)
	require.NotContains(t, strings.ReplaceAll(text, "canaryapp", ""), "canary")
	explains := 0
	for _, server := range c.Servers() {
		log, err := os.ReadFile(server.LogFile)
		require.NoError(t, err)
		if server == c.Primary {
			require.NotContains(t, string(log), "EXPLAIN")
			require.NotContains(t, string(log), "pgweir explain")
			continue
		}
		explains += strings.Count(string(log), "pgweir explain|LOG:  execute <unnamed>: EXPLAIN (VERBOSE, FORMAT JSON) select")
		require.NotContains(t, string(log), "pgweir explain|ERROR")
	}
	require.GreaterOrEqual(t, explains, 4)
}
