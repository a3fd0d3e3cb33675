package proxy_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
)

// showTimeouts: those of all, of a database or of a user end sessions that began without.
func showTimeouts(level int) func(*running) {
	return func(r *running) {
		r.begin()
		idle, within, statement := raw(r, r.addr, r.db), raw(r, r.addr, r.db), raw(r, r.addr, r.db)
		limits := config.Timeouts{ClientIdle: 300 * time.Millisecond, IdleTransaction: 300 * time.Millisecond, Transaction: time.Second, Statement: 400 * time.Millisecond}
		r.reload([]func(*config.Config){
			func(c *config.Config) { c.Timeouts = limits },
			r.database(func(d *config.Database) { d.Timeouts = limits }),
			superuser(func(u *config.User) { u.Timeouts = limits }),
		}[level])
		statement.send(&pgproto3.Query{String: "select pg_sleep(20)"})
		within.query("begin")
		idle.query("select 1")
		require.Contains(r, tail(statement.wait("Z")), "ERROR ERROR 57014")
		require.Contains(r, tail(idle.wait("end")), "FATAL FATAL 57P05")
		require.Contains(r, tail(within.wait("end")), "FATAL FATAL 25P03")
		long := r.connect(r, r.db)
		exec(r.T, long, "begin")
		until(r, "the transaction is too long", func() bool {
			// Most of the time nothing of an answer is under way, behind which nothing could be told.
			_, err := long.Exec(bounded(r, patience), "select pg_sleep(0.2)", pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				require.Equal(r, "25P04", wantCode(err))
			}
			return err != nil
		})
	}
}

func showRoutes(r *running) {
	r.begin()
	c := trace(r.T, r.service, r.db)
	const read = "select count(*) from items"
	for _, route := range []func(string) func(*config.Config){
		func(to string) func(*config.Config) { return func(c *config.Config) { c.Routing.Route = to } },
		func(to string) func(*config.Config) { return r.database(func(d *config.Database) { d.Route = to }) },
		func(to string) func(*config.Config) { return superuser(func(u *config.User) { u.Route = to }) },
	} {
		require.Equal(r, []string{"replica read"}, c.told(read))
		r.reload(route("primary"))
		require.Equal(r, []string{"primary route"}, c.told(read))
		r.reload(route("auto"))
	}
	r.reload(func(c *config.Config) { c.Routing.Shadow = true })
	require.Equal(r, []string{"primary shadow"}, c.told("/* pgweir:replica */ "+read))
	r.reload(func(c *config.Config) { c.Routing.Shadow = false })
	require.Equal(r, []string{"replica read"}, c.told(read))
	for range 6 { // the replicas have more to do than the primary
		busy := raw(r, r.addr, r.db)
		busy.query("begin")
		busy.query(read)
	}
	r.reload(func(c *config.Config) { c.Routing.PrimaryReads = "always" })
	require.Equal(r, []string{"primary primary_reads"}, c.told(read))
}

func showLevels(r *running) {
	r.begin(func(c *config.Config) { c.Routing.FreshnessWait = 0 })
	c := trace(r.T, r.service, r.db)
	read := func() string { return c.told("select count(*) from items")[0] }
	const stale = "primary freshness" // no replica can be fresh as of now without a wait
	for _, level := range []func(string) func(*config.Config){
		func(to string) func(*config.Config) { return func(c *config.Config) { c.Routing.Consistency = to } },
		func(to string) func(*config.Config) {
			return r.database(func(d *config.Database) { d.Consistency = to })
		},
		func(to string) func(*config.Config) { return superuser(func(u *config.User) { u.Consistency = to }) },
	} {
		require.Equal(r, "replica read", read())
		r.reload(level("strong"))
		require.Equal(r, stale, read())
		r.reload(level("eventual"))
	}
	r.reload(func(c *config.Config) { c.Routing.MaxStaleness = time.Nanosecond })
	require.Equal(r, stale, read())
	r.reload(func(c *config.Config) { c.Routing.MaxStaleness = 0 })

	for _, level := range []func(string) func(*config.Config){
		func(to string) func(*config.Config) {
			return r.database(func(d *config.Database) { d.Consistency = to })
		},
		func(to string) func(*config.Config) { return superuser(func(u *config.User) { u.Consistency = to }) },
	} {
		r.reload(level(""))
	}
	r.reload(func(c *config.Config) { c.Routing.Consistency = "database" })
	until(r, "what was committed is known to be there", func() bool { return read() == "replica read" })
	r.reload(func(c *config.Config) { c.Routing.SoleWriter = false })
	require.Equal(r, stale, read())
	r.reload(func(c *config.Config) { c.Routing.FreshnessWait = 5 * time.Second })
	require.Equal(r, "replica read", read())
	require.Equal(r, "replica read", read())
}

func showPrimaryWait(r *running) {
	r.begin(func(c *config.Config) {
		c.Servers, c.Routing.PrimaryWait = c.Servers[1:], 50*time.Millisecond
	})
	conn := r.connect(r, r.db)
	write := func() time.Duration {
		began := time.Now()
		_, err := conn.Exec(bounded(r, patience), "insert into w values (1)", pgx.QueryExecModeSimpleProtocol)
		require.Equal(r, "57P03", wantCode(err))
		return time.Since(began)
	}
	require.Less(r, write(), time.Second)
	r.reload(func(c *config.Config) { c.Routing.PrimaryWait = 1500 * time.Millisecond })
	require.GreaterOrEqual(r, write(), 1500*time.Millisecond)
}

func showCatalog(r *running) {
	const volatile = "create function f%d() returns int language sql volatile as $$ select count(*)::int from items $$"
	const stable = "create function g%d() returns int language sql stable as $$ select count(*)::int from items $$"
	r.db = newDatabase(r, items+fmt.Sprintf(volatile, 1)+";"+fmt.Sprintf(stable, 1))
	r.begin(func(c *config.Config) { c.Routing.CatalogInterval = 0 })
	c := trace(r.T, r.service, r.db)
	place := func(call string) string { return strings.Fields(c.told("select " + call)[0])[0] }
	until(r, "the catalog is read", func() bool { return place("g1()") == "replica" })
	require.Equal(r, "primary", place("f1()"))
	r.reload(func(c *config.Config) { c.Routing.SafeFunctions = []string{"f1"} })
	require.Equal(r, "replica", place("f1()"))
	r.reload(func(c *config.Config) { c.Routing.UnsafeFunctions = []string{"g1"} })
	require.Equal(r, "primary", place("g1()"))
	r.reload(func(c *config.Config) { c.Routing.UnsafeFunctions = nil })
	run(r, r.db, "alter function g1() volatile")
	time.Sleep(300 * time.Millisecond) // that nobody looks
	require.Equal(r, "replica", place("g1()"))
	r.reload(func(c *config.Config) { c.Routing.CatalogInterval = 100 * time.Millisecond })
	until(r, "the catalog is read again", func() bool { return place("g1()") == "primary" })
	run(r, r.db, "alter function g1() stable")
	until(r, "and again", func() bool { return place("g1()") == "replica" })

	plans := func() float64 { return r.metric(r, "pgweir_plan_cache_bytes") }
	say := func() {
		for i := range 1000 {
			c.query(fmt.Sprintf("select %d as a%[1]d%s", i, strings.Repeat(", 1 as b", 200)))
		}
	}
	say()
	require.Greater(r, plans(), 1.5*1024*1024)
	r.reload(func(c *config.Config) { c.Routing.PlanCache = 1 << 20 })
	say()
	require.LessOrEqual(r, plans(), 1024.0*1024)
}

func showRules(r *running) {
	r.begin(func(c *config.Config) { c.Routing.FreshnessWait = 0 })
	c := traced{raw(r, r.addr, r.db, "application_name", "app")}
	c.query("set pgweir.trace = on")
	read := func() string { return c.told("select lower(v) from items")[0] }
	rules := func(list ...config.Rule) {
		r.reload(func(c *config.Config) { c.Routing.Rules = list })
	}
	require.Equal(r, "replica read", read())
	rules(config.Rule{Route: "primary", Table: "items"})
	require.Equal(r, "primary rule", read())
	for _, try := range []struct{ meets, misses config.Rule }{
		{config.Rule{Database: r.db}, config.Rule{Database: "other"}},
		{config.Rule{User: "postgres"}, config.Rule{User: "other"}},
		{config.Rule{Application: "app"}, config.Rule{Application: "other"}},
		{config.Rule{Table: "items"}, config.Rule{Table: "other"}},
		{config.Rule{Function: "lower"}, config.Rule{Function: "other"}},
		{config.Rule{Pattern: "lower"}, config.Rule{Pattern: "other"}},
	} {
		try.meets.Route, try.misses.Route = "primary", "primary"
		rules(try.misses)
		require.Equal(r, "replica read", read(), "%+v", try.misses)
		rules(try.meets)
		require.Equal(r, "primary rule", read(), "%+v", try.meets)
	}
	rules(config.Rule{Route: "replica", Table: "items"})
	require.Contains(r, read(), "replica ")
	rules(config.Rule{Consistency: "strong", Table: "items"})
	require.Equal(r, "primary freshness", read())
	rules()
	require.Equal(r, "replica read", read())
}

// showSettings: what one session leaves behind that nobody foresees, the next meets, unless it
// makes sure.
func showSettings(r *running) {
	r.begin(func(c *config.Config) {
		c.Pool.Size = 1
		c.Settings.VerifyReleases, c.Settings.Verify = false, 0
	})
	const sets = "select f_set('app.%s', 'left', false)"
	pinned := func() float64 { return r.metric(r, "pgweir_pinned_sessions") }
	first := r.connect(r, r.db)
	exec(r.T, first, fmt.Sprintf(sets, "a"))
	until(r, "the session is tied to its connection", func() bool { return pinned() > 0 })
	must(r, first.Close(r.Context()))
	r.settle(r)

	r.reload(func(c *config.Config) { c.Settings.Track = []string{"app.other"} })
	met := func(name string) string {
		leaves := r.connect(r, r.db)
		exec(r.T, leaves, fmt.Sprintf(sets, name))
		until(r, "it is not tied", func() bool { return pinned() == 0 })
		defer func() { _ = leaves.Close(context.Background()) }()
		return r.value("/* pgweir:primary */ select coalesce(current_setting('app." + name + "', true), '')")
	}
	require.Equal(r, "left", met("b"))
	r.reload(func(c *config.Config) { c.Settings.Assert = []string{"app.b"} })
	require.Empty(r, met("b"))
	require.Equal(r, "left", met("c"))
	r.reload(func(c *config.Config) { c.Tenant.Settings = []string{"app.c"} })
	require.Empty(r, met("c"))

	asked := func() float64 { return r.metric(r, "pgweir_verified_connections_total") }
	conn := r.connect(r, r.db)
	exec(r.T, conn, "insert into w values (1)")
	before := asked()
	exec(r.T, conn, "insert into w values (1)")
	require.Equal(r, before, asked())
	r.reload(func(c *config.Config) { c.Settings.VerifyReleases = true })
	exec(r.T, conn, "insert into w values (1)")
	until(r, "what is given back is asked", func() bool { return asked() > before })
	r.reload(func(c *config.Config) { c.Settings.VerifyReleases = false })
	before = asked()
	r.reload(func(c *config.Config) { c.Settings.Verify = time.Millisecond })
	until(r, "what is idle is asked", func() bool { return asked() > before })
}

func showAudit(r *running) {
	r.db = newDatabase(r, tenantTables)
	r.begin(func(c *config.Config) {
		c.Tenant.Settings, c.Tenant.Columns = []string{"app.tenant"}, []string{"tenant_id"}
		c.Tenant.Audit.LogInterval = time.Hour
	})
	conn := r.connect(r, r.db, "application_name=app")
	told := func() string {
		_, err := conn.Exec(bounded(r, patience), "select * from bare", pgx.QueryExecModeSimpleProtocol)
		return wantCode(err)
	}
	logged := func() int { return r.logs.FilterMessage("statement without a tenant filter").Len() }
	audit := func(f func(*config.Tenant)) {
		r.reload(func(c *config.Config) { f(&c.Tenant) })
	}
	require.Empty(r, told())
	require.Empty(r, told())
	require.Equal(r, 1, logged())
	audit(func(t *config.Tenant) { t.Audit.LogInterval = time.Millisecond })
	require.Empty(r, told())
	until(r, "it is logged again", func() bool { return told() == "" && logged() > 1 })

	audit(func(t *config.Tenant) { t.Audit.Mode = "reject" })
	require.Equal(r, "42501", told())
	for name, exempt := range map[string]func(*config.Exempt, string){
		"users":        func(e *config.Exempt, s string) { e.Users = []string{s} },
		"applications": func(e *config.Exempt, s string) { e.Applications = []string{s} },
		"patterns":     func(e *config.Exempt, s string) { e.Patterns = []string{s} },
	} {
		for _, who := range []string{"postgres", "app", "bare"} {
			audit(func(t *config.Tenant) { exempt(&t.Exempt, who) })
			meets := who == map[string]string{"users": "postgres", "applications": "app", "patterns": "bare"}[name]
			require.Equal(r, map[bool]string{true: "", false: "42501"}[meets], told(), "%s: %s", name, who)
		}
		audit(func(t *config.Tenant) { t.Exempt = config.Exempt{} })
		require.Equal(r, "42501", told(), name)
	}
	for _, try := range []struct{ meets, misses config.AuditRule }{
		{config.AuditRule{Table: "bare"}, config.AuditRule{Table: "other"}},
		{config.AuditRule{User: "postgres"}, config.AuditRule{User: "other"}},
		{config.AuditRule{Application: "app"}, config.AuditRule{Application: "other"}},
		{config.AuditRule{Kind: "list"}, config.AuditRule{Kind: "truncate"}},
		{config.AuditRule{Severity: "danger"}, config.AuditRule{Severity: "info"}},
	} {
		try.meets.Mode, try.misses.Mode = "log", "log"
		audit(func(t *config.Tenant) { t.Audit.Rules = []config.AuditRule{try.misses} })
		require.Equal(r, "42501", told(), "%+v", try.misses)
		audit(func(t *config.Tenant) { t.Audit.Rules = []config.AuditRule{try.meets} })
		require.Empty(r, told(), "%+v", try.meets)
	}
	audit(func(t *config.Tenant) { t.Audit.Rules = []config.AuditRule{{Mode: "reject", Severity: "danger"}} })
	require.Equal(r, "42501", told())
	audit(func(t *config.Tenant) { t.Audit.Mode, t.Audit.Rules = "log", nil })
	showFindings(r, conn, audit)
}

// showFindings: what is kept of what was seen.
func showFindings(r *running, conn *pgx.Conn, audit func(func(*config.Tenant))) {
	exec(r.T, conn, "set app.tenant = 'acme'")
	seen := func() (tenants []string) {
		exec(r.T, conn, "select id from bare")
		exec(r.T, conn, "select state from bare")
		rows, err := conn.Query(bounded(r, patience), "show pgweir.unfiltered", pgx.QueryExecModeSimpleProtocol)
		must(r, err)
		all, err := pgx.CollectRows(rows, pgx.RowToMap)
		must(r, err)
		for _, row := range all {
			tenants = append(tenants, fmt.Sprint(row["tenant"]))
		}
		return tenants
	}
	require.NotContains(r, seen(), "acme")
	audit(func(t *config.Tenant) { t.Audit.ShowTenants = true })
	require.Contains(r, seen(), "acme")
	require.Greater(r, len(seen()), 1)
	audit(func(t *config.Tenant) { t.Audit.MaxStatements = 1 })
	require.Len(r, seen(), 1)
}

func showLog(r *running) {
	r.begin()
	conn := r.connect(r, r.db)
	has := func(message string) bool { return r.logs.FilterMessage(message).Len() > 0 }
	exec(r.T, conn, "select 1")
	require.False(r, has("slow statement"))
	r.reload(func(c *config.Config) { c.Log.SlowStatement = time.Nanosecond })
	exec(r.T, conn, "select 1")
	until(r, "it is logged", func() bool { return has("slow statement") })
	require.False(r, has("client connected"))
	r.reload(func(c *config.Config) { c.Log.Connections = true })
	r.connect(r, r.db)
	until(r, "it is logged", func() bool { return has("client connected") })
}
