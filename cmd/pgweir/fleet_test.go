package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/insight/compare"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/statements"
	"github.com/pgweir/pgweir/router/indexes"
)

const (
	fleetUser = "barq_app"
	// fleetIndex is the one that the application's schema has for couriers of a status.
	fleetIndex = "CREATE INDEX idx_couriers_org_status ON public.couriers USING btree (organization_id, status)"
)

// fleetDump is the application's database.
func fleetDump(t *testing.T) string {
	t.Helper()
	f, err := os.Open("../../proxy/testdata/fleet/fleet.sql.gz")
	must(t, err)
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	must(t, err)
	data, err := io.ReadAll(z)
	must(t, err)
	require.Contains(t, string(data), fleetIndex)
	return string(data)
}

// loadFleet makes the database of the application, with couriers of 200 organizations and
// more deliveries, and without the indexes by which couriers are found.
func loadFleet(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	must(t, c.Exec(t.Context(), "create role "+fleetUser+" login"))
	must(t, c.Exec(t.Context(), "create database fleet owner "+fleetUser))
	conn := clientOf(t, c.Primary.ConnString("fleet", pgtest.Superuser)).PgConn()
	must(t, pgtest.Restore(t.Context(), conn, fleetDump(t), func(sql, sqlstate string) bool {
		return sqlstate == "23503" && strings.Contains(sql, "sla_events") // one foreign key that its own rows violate
	}))
	_, err := conn.Exec(t.Context(), `SET search_path = public;
		DROP INDEX idx_couriers_org_status, idx_couriers_active, idx_couriers_no_vehicle, idx_couriers_org_city_status, ix_couriers_organization_id, ix_couriers_status;
		SET session_replication_role = replica;
		INSERT INTO couriers (id, barq_id, full_name, mobile_number, status, organization_id)
			SELECT i, 'b' || i, 'name ' || i, '0', CASE i % 10 WHEN 0 THEN 'ACTIVE' ELSE 'TERMINATED' END::courierstatus, i / 300 FROM generate_series(1200, 60000) AS i;
		INSERT INTO deliveries (id, tracking_number, pickup_address, delivery_address, organization_id, status)
			SELECT i, 't' || i, 'from', 'to', 1, 'delivered' FROM generate_series(100001, 102000) AS i;
		ANALYZE couriers, deliveries, vehicles`).ReadAll()
	must(t, err)
	must(t, c.WaitReplay(t.Context()))
}

// recorded are texts that a route of the application sent, as they were recorded.
func recorded(t *testing.T, path, route string, matches string) (texts []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	list, err := statements.Read(path, data, statements.Auto)
	must(t, err)
	session := ""
	for _, s := range list {
		if s.Route == route && (session == "" || s.Session == session) && regexp.MustCompile(matches).MatchString(s.Text) {
			texts, session = append(texts, s.Text), s.Session
		}
	}
	require.NotEmpty(t, texts, "%s: %s", route, matches)
	return texts
}

// TestFleetStatements: what the fleet application is known to do wrong is found as it runs
// on real servers, by its own texts and under its row-level security; and that couriers by
// organization and status are read by another way once there is an index for them.
func TestFleetStatements(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Replicas: 1})
	loadFleet(t, c)
	at := freeAddresses(t, 2)
	g := newGenerations(t, c, fmt.Sprintf(`listen: %s
http: %s
tenant: {settings: [app.current_org_id], columns: [organization_id]}
insight: {enabled: true, plans: {enabled: true, interval: 30s}}
`, at[0], at[1]))
	g.start()
	g.await("listening")
	conn := clientOf(t, strings.Replace(dsn(at[0], "fleet"), "user="+pgtest.Superuser, "user="+fleetUser, 1))
	request := func(route string, texts ...string) (last []*pgconn.Result) {
		t.Helper()
		begin := []string{"BEGIN", "SET app.current_org_id = '1'; SET app.is_superuser = 'false'"}
		for _, sql := range slices.Concat(begin, texts, []string{"ROLLBACK"}) {
			if strings.HasPrefix(sql, "SELECT") {
				sql += " /*route='" + route + "'*/"
			}
			r, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
			require.NoError(t, err, sql)
			if strings.HasPrefix(sql, "SELECT") {
				last = r
			}
		}
		return last
	}
	trace := tracePath(t)
	deliveries := regexp.MustCompile(` ORDER BY .*| LIMIT .*`).ReplaceAllString(recorded(t, trace, "GET /api/v1/operations/deliveries/", `^SELECT deliveries\.tracking_number.* FROM deliveries`)[0], "")
	couriers := recorded(t, trace, "GET /api/v1/operations/dispatch/couriers/available", `^SELECT couriers\.barq_id.*couriers\.status = 'ACTIVE'$`)[0]
	counts := recorded(t, trace, "GET /api/v1/dashboard/charts/deliveries", `^SELECT count\(\*\).* FROM deliveries`)
	vehicles := recorded(t, trace, "GET /api/v1/fleet/assignments/current", ` FROM vehicles WHERE vehicles\.id = \d+$`)[0]
	byKey := regexp.MustCompile(`\d+$`)

	insights := func(into any, args ...string) {
		t.Helper()
		out, code := commanded(append(append([]string{"insights"}, args...), "--format", "json", "--config", g.config)...)
		require.Zero(t, code, out)
		require.NoError(t, json.Unmarshal([]byte(out), into), out)
	}
	plan := func() (p insight.PlanRow) {
		var all []insight.PlanRow
		insights(&all, "plans")
		if i := slices.IndexFunc(all, func(p insight.PlanRow) bool { return strings.HasSuffix(p.Statement, "couriers.status = $2") }); i >= 0 {
			p = all[i]
		}
		return p
	}
	available := func() int { return len(request("/couriers/available", couriers)[0].Rows) }
	until := func(done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !done(); {
			require.True(t, time.Now().Before(deadline))
			available()
		}
	}

	for range 5 {
		request("/deliveries/statistics", deliveries)
		request("/dashboard/charts/deliveries", counts...)
	}
	list := []string{"SELECT couriers.id, couriers.current_vehicle_id FROM couriers WHERE couriers.organization_id = 1 AND couriers.current_vehicle_id IS NOT NULL ORDER BY couriers.id LIMIT 20"}
	for i := range 20 {
		list = append(list, byKey.ReplaceAllString(vehicles, strconv.Itoa(i+1)))
	}
	request("/couriers", list...)
	rows := available()
	require.Positive(t, rows)
	until(func() bool { return plan().Planned != nil })
	for range 60 {
		available()
	}

	var sum insight.Summary
	insights(&sum, "findings")
	find := func(kind insight.Kind, table, route string) *insight.Finding {
		t.Helper()
		i := slices.IndexFunc(sum.Findings, func(f insight.Finding) bool {
			return f.Kind == kind.String() && strings.TrimPrefix(f.Table, "public.") == table && slices.Contains(f.Routes, route)
		})
		require.GreaterOrEqual(t, i, 0, "%s of %s by %s in %+v", kind, table, route, sum.Findings)
		return &sum.Findings[i]
	}
	f := find(insight.Unbounded, "deliveries", "/deliveries/statistics")
	require.Equal(t, "certain", f.Sure)
	require.Regexp(t, `^returns [23]\d\d\d rows on average, and nothing bounds it$`, f.Detail)
	f = find(insight.NPlusOne, "vehicles", "/couriers")
	require.Equal(t, "certain 20", fmt.Sprint(f.Sure, " ", f.Worst))
	require.Equal(t, "SELECT … FROM vehicles WHERE id = ANY ($1)", f.SQL)
	require.GreaterOrEqual(t, find(insight.CountFanOut, "deliveries", "/dashboard/charts/deliveries").Worst, 7)
	f = find(insight.PolicyUnindexed, "couriers", "/couriers/available") // the policy has COALESCE, which no index serves; the condition beside it can be served
	require.Regexp(t, `^reads all of \d+ rows for about \d+, by organization_id, status; row-level security asks for organization_id`, f.Detail)
	const missing = "CREATE INDEX CONCURRENTLY ON public.couriers (organization_id, status)"
	require.Equal(t, missing, f.SQL)
	require.Equal(t, []string{"Seq Scan on public.couriers"}, plan().Access())
	proposed := func() bool {
		var reports []indexes.Report
		insights(&reports, "indexes", "--database", "fleet")
		return slices.ContainsFunc(reports[0].Findings, func(f indexes.Finding) bool { return f.Kind == indexes.Missing && f.SQL == missing })
	}
	require.True(t, proposed())

	out, status := commanded("insights", "baseline", "before", "--config", g.config)
	require.Zero(t, status, out)
	_, err := conn.Exec(t.Context(), fleetIndex, pgx.QueryExecModeSimpleProtocol)
	must(t, err)
	until(func() bool { return plan().Before != nil })
	for range 60 {
		require.Equal(t, rows, available())
	}
	var r compare.Report
	insights(&r, "diff", "before")
	i := slices.IndexFunc(r.Statements, func(s compare.Statement) bool { return s.Plan != "" })
	require.GreaterOrEqual(t, i, 0, "%+v", r.Statements)
	s := r.Statements[i]
	require.Equal(t, "Seq Scan on public.couriers → Index Scan by idx_couriers_org_status on public.couriers", s.Plan)
	require.Equal(t, compare.Faster, s.Status, "%+v", s)
	require.Less(t, s.Change, 0.5)
	require.Less(t, s.After.P50, s.Before.P50)
	out, status = commanded("insights", "diff", "before", "--config", g.config)
	require.Zero(t, status, out)
	require.Regexp(t, `(?m)^faster +×0\.\d+ +Seq Scan on public\.couriers → Index Scan by idx_couriers_org_status on public\.couriers +SELECT couriers\.`, out)
	t.Log(regexp.MustCompile(`(?m)^(faster.*?→.*?)  SELECT couriers.*status = \$2$`).FindString(out))
	until(func() bool { return !proposed() }) // once the plan it comes from is seen to be gone
	until(func() bool {                       // other statements on couriers may have been planned, too, and are not executed again
		sum = insight.Summary{}
		insights(&sum, "findings")
		return !slices.ContainsFunc(sum.Findings, func(f insight.Finding) bool {
			return f.Kind == insight.PolicyUnindexed.String() && slices.Contains(f.Routes, "/couriers/available")
		})
	})
}
