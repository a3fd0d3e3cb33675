package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/proxy"
)

// tenantTables are one table with row-level security and one without, seen by a role
// that obeys it.
const tenantTables = `
DO $$ BEGIN CREATE ROLE audit_app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
CREATE TABLE countries (id int PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, tenant_id int NOT NULL, state text);
CREATE INDEX ON orders (tenant_id);
CREATE TABLE bare (id int PRIMARY KEY, tenant_id int NOT NULL, state text);
CREATE INDEX ON bare (tenant_id);
INSERT INTO orders SELECT n, n % 2 + 1, 'open' FROM generate_series(1, 10) n;
INSERT INTO bare SELECT * FROM orders;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON orders USING (tenant_id = NULLIF(current_setting('app.tenant', true), '')::int);
GRANT ALL ON ALL TABLES IN SCHEMA public TO audit_app`

// audited is a proxy that audits, with what it logs.
type audited struct {
	*service
	logs *observer.ObservedLogs
}

// startAudit runs a proxy that audits tenant_id, with some rules of the audit.
func startAudit(t *testing.T, change ...func(*config.Config)) *audited {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	a := &audited{logs: logs}
	cfg := baseConfig(t)
	cfg.Tenant.Settings, cfg.Tenant.Columns = []string{"app.tenant"}, []string{"tenant_id"}
	cfg.Tenant.Audit.LogInterval = time.Hour
	for _, f := range change {
		f(&cfg)
	}
	reg := newRegistry()
	server, err := proxy.New(cfg.Complete(), zap.New(core), reg)
	require.NoError(t, err)
	require.NoError(t, server.Start())
	t.Cleanup(server.Close)
	a.service = &service{Server: server, addr: server.Addrs()[0].String(), reg: reg}
	until(t, "all servers are up", func() bool { return a.metric(t, "pgweir_server_up") == float64(len(cfg.Servers)) })
	return a
}

func mode(m string) func(*config.Config) {
	return func(c *config.Config) { c.Tenant.Audit.Mode = m }
}

// found are the log's entries of statements: kind, severity, mode, tables.
func (a *audited) found() (list []string) {
	for _, e := range a.logs.All() {
		f := e.ContextMap()
		if f["fingerprint"] == nil {
			continue
		}
		line := fmt.Sprint(f["kind"], " ", f["severity"], " ", f["mode"], " ", f["tables"], " ", f["count"])
		if f["reason"] != nil {
			line += fmt.Sprint(" ", f["reason"])
		}
		list = append(list, line)
	}
	return list
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
}

// refused requires that a statement is refused for want of a filter.
func refused(t *testing.T, err error) *pgconn.PgError {
	t.Helper()
	var e *pgconn.PgError
	require.ErrorAs(t, err, &e)
	require.Equal(t, "42501", e.Code, e.Message)
	return e
}

// TestAuditSeverity: what the statement lacks, the table's protection, the role and
// the session's tenant come together.
func TestAuditSeverity(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t)
	app, boss := a.connect(t, db, "user=audit_app"), a.connect(t, db)
	exec(t, app, "SELECT * FROM orders WHERE tenant_id = 1")
	exec(t, app, "SELECT * FROM countries")
	require.Empty(t, a.found())

	exec(t, app, "SELECT * FROM orders")
	exec(t, app, "SELECT * FROM bare")
	exec(t, boss, "SELECT * FROM orders")
	exec(t, app, "SET app.tenant = '1'")
	exec(t, app, "SELECT * FROM orders")
	exec(t, app, "SELECT * FROM bare WHERE id = 1")
	exec(t, app, "UPDATE bare SET state = 'x'")
	exec(t, app, "SELECT * FROM orders, bare")
	require.Equal(t, []string{
		"list warning log [public.orders] 1",
		"list danger log [public.bare] 1",
		"list danger log [public.orders] 1",
		"list info log [public.orders] 1",
		"lookup danger log [public.bare] 1",
		"bulk_write danger log [public.bare] 1",
		"list danger log [public.orders public.bare] 1",
	}, a.found())
	require.Equal(t, 2.0, a.metric(t, "pgweir_unfiltered_statements_total", "table=public.orders", "severity=danger", "kind=list"))
	require.Equal(t, 1.0, a.metric(t, "pgweir_unfiltered_statements_total", "table=public.bare", "kind=bulk_write"))
	require.Equal(t, 7.0, a.metric(t, "pgweir_audit_statements"))
}

// TestAuditCovers: a statement that the audit finds to be covered whenever it runs is no
// warning among the insights either.
func TestAuditCovers(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t, func(c *config.Config) { c.Insight.Enabled = true })
	app, boss := a.connect(t, db, "user=audit_app"), a.connect(t, db)
	exec(t, app, "SET app.tenant = '1'")
	for range 2 {
		exec(t, app, "SELECT state FROM orders LIMIT 1")
		exec(t, app, "SELECT id FROM orders LIMIT 1")
		exec(t, app, "SELECT state FROM bare LIMIT 1")
	}
	exec(t, boss, "SELECT id FROM orders LIMIT 1")
	require.NoError(t, app.Close(t.Context()))
	require.NoError(t, boss.Close(t.Context()))
	got := map[string]string{}
	for _, f := range a.insights(t).Findings {
		if f.Kind == insight.Unfiltered.String() {
			got[f.Statement] = f.Severity
		}
	}
	require.Equal(t, map[string]string{
		"SELECT state FROM orders LIMIT $1": insight.Info, "SELECT id FROM orders LIMIT $1": insight.Warning,
		"SELECT state FROM bare LIMIT $1": insight.Warning,
	}, got)
}

// TestAuditEntry: an entry says all but the literals, and tenants only hashed.
func TestAuditEntry(t *testing.T) {
	db := newDatabase(t, tenantTables)
	for _, shown := range []bool{false, true} {
		a := startAudit(t, func(c *config.Config) { c.Tenant.Audit.ShowTenants = shown })
		conn := a.connect(t, db, "user=audit_app", "application_name=shop")
		exec(t, conn, "SET app.tenant = 'the-secret-tenant'")
		for range 3 {
			exec(t, conn, "SELECT id FROM bare WHERE state = 'secret' /* secret */", pgx.QueryExecModeSimpleProtocol)
		}
		entries := a.logs.FilterMessage("statement without a tenant filter").All()
		require.Len(t, entries, 1)
		f := entries[0].ContextMap()
		require.Equal(t, "SELECT id FROM bare WHERE state = $1", f["statement"])
		require.Equal(t, "audit_app", f["user"])
		require.Equal(t, "shop", f["application"])
		require.Equal(t, "default/"+db, f["database"])
		require.Len(t, f["fingerprint"], 16)
		a.Close()
		entries = a.logs.FilterMessage("statement without a tenant filter").All()
		require.Len(t, entries, 2) // what was not logged yet, when the service ends
		f = entries[1].ContextMap()
		require.EqualValues(t, 2, f["count"])
		require.EqualValues(t, 3, f["total"])
		require.False(t, f["last"].(time.Time).Before(f["first"].(time.Time)))
		all := fmt.Sprint(a.logs.All())
		require.Equal(t, shown, strings.Contains(all, "the-secret-tenant"))
		require.NotContains(t, strings.ReplaceAll(all, "the-secret-tenant", ""), "secret")
	}
}

// TestAuditReject: a refused statement does not run, by any protocol, and its transaction fails.
func TestAuditReject(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t, mode("reject"))
	conn := a.connect(t, db, "user=audit_app")
	ctx := t.Context()

	t.Run("simple", func(t *testing.T) {
		_, err := conn.Exec(ctx, "DELETE FROM bare", pgx.QueryExecModeSimpleProtocol)
		e := refused(t, err)
		require.Equal(t, `statement does not filter by tenant on table "public.bare"`, e.Message)
		require.Contains(t, e.Hint, "bare.tenant_id = current_setting('app.tenant')")
		require.Contains(t, e.Hint, "/* pgweir:cross-tenant reason=")
		exec(t, conn, "SELECT 1", pgx.QueryExecModeSimpleProtocol)
	})
	t.Run("extended", func(t *testing.T) {
		for _, m := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec} {
			for range 2 {
				_, err := conn.Exec(ctx, "DELETE FROM bare WHERE state = $1", m, "open")
				refused(t, err)
			}
			exec(t, conn, "SELECT $1::text", m, "x")
		}
	})
	t.Run("prepared", func(t *testing.T) {
		_, err := conn.Prepare(ctx, "d", "DELETE FROM bare WHERE id > $1")
		require.NoError(t, err) // nothing runs yet
		_, err = conn.Exec(ctx, "d", 0)
		refused(t, err)
		exec(t, conn, "PREPARE s AS DELETE FROM bare WHERE state = $1", pgx.QueryExecModeSimpleProtocol)
		_, err = conn.Exec(ctx, "EXECUTE s('open')", pgx.QueryExecModeSimpleProtocol)
		refused(t, err)
		_, err = conn.Exec(ctx, "EXPLAIN ANALYZE EXECUTE s('open')", pgx.QueryExecModeSimpleProtocol)
		refused(t, err)
	})
	t.Run("copy", func(t *testing.T) {
		for range 2 {
			_, err := conn.PgConn().CopyFrom(ctx, strings.NewReader("300\t1\topen\n"), "COPY bare FROM STDIN")
			refused(t, err)
		}
		_, err := conn.Exec(ctx, "TRUNCATE bare")
		refused(t, err)
	})
	t.Run("cursor", func(t *testing.T) {
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, "DECLARE c CURSOR FOR SELECT * FROM bare")
		refused(t, err)
		require.NoError(t, tx.Rollback(ctx))
	})
	t.Run("transaction", func(t *testing.T) {
		for _, before := range []string{"", "SELECT 1", "INSERT INTO bare VALUES (100, 1)"} {
			for _, m := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement} {
				tx, err := conn.Begin(ctx)
				require.NoError(t, err)
				if before != "" {
					_, err = tx.Exec(ctx, before)
					require.NoError(t, err)
				}
				_, err = tx.Exec(ctx, "UPDATE bare SET state = 'x'", m)
				refused(t, err)
				require.EqualValues(t, 'E', conn.PgConn().TxStatus())
				_, err = tx.Exec(ctx, "SELECT 1")
				var e *pgconn.PgError
				require.ErrorAs(t, err, &e)
				require.Equal(t, "25P02", e.Code)
				require.ErrorIs(t, tx.Commit(ctx), pgx.ErrTxCommitRollback)
			}
		}
	})
	t.Run("savepoint", func(t *testing.T) {
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		exec(t, conn, "INSERT INTO bare VALUES (100, 1)")
		inner, err := tx.Begin(ctx)
		require.NoError(t, err)
		_, err = inner.Exec(ctx, "UPDATE bare SET state = 'x'")
		refused(t, err)
		require.NoError(t, inner.Rollback(ctx))
		exec(t, conn, "DELETE FROM bare WHERE id = 100 AND tenant_id = 1")
		require.NoError(t, tx.Commit(ctx))
	})
	t.Run("pipeline", func(t *testing.T) {
		b := &pgx.Batch{}
		b.Queue("INSERT INTO bare VALUES (200, 1)")
		b.Queue("DELETE FROM bare WHERE state = $1", "open")
		b.Queue("INSERT INTO bare VALUES (201, 1)")
		results := conn.SendBatch(ctx, b)
		var first error
		for range 3 {
			if _, err := results.Exec(); err != nil && first == nil {
				first = err
			}
		}
		refused(t, first)
		_ = results.Close()
	})
	require.Positive(t, a.metric(t, "pgweir_audit_rejections_total"))
	n, err := shared(t).Primary.Value(ctx, db, "SELECT count(*) || ' ' || count(*) FILTER (WHERE state = 'open') FROM bare")
	require.NoError(t, err)
	require.Equal(t, "10 10", n, "rows, as they were")
}

// TestAuditRefusalBeforeServers: a refused statement goes to no server, nor is one
// awaited for it.
func TestAuditRefusalBeforeServers(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t, mode("reject"), poolSize(1))
	holder, conn := a.connect(t, db, "user=audit_app"), a.connect(t, db, "user=audit_app")
	exec(t, holder, "BEGIN")
	exec(t, holder, "INSERT INTO bare VALUES (50, 1)") // holds the only connection to the primary
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := conn.Exec(ctx, "UPDATE bare SET state = 'x'", pgx.QueryExecModeSimpleProtocol)
	refused(t, err)
	exec(t, conn, "BEGIN")
	_, err = conn.Exec(ctx, "UPDATE bare SET state = 'x'", pgx.QueryExecModeSimpleProtocol)
	refused(t, err)
	exec(t, conn, "ROLLBACK")
	exec(t, holder, "ROLLBACK")
}

// TestAuditNotice: the client is warned, and answered as ever.
func TestAuditNotice(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t, mode("notice"))
	var mu sync.Mutex
	var notices []*pgconn.Notice
	cfg, err := pgx.ParseConfig(a.dsn(db, "user=audit_app"))
	require.NoError(t, err)
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		mu.Lock()
		notices = append(notices, n)
		mu.Unlock()
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	for _, m := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement} {
		notices = nil
		var n int
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM bare", m).Scan(&n))
		require.Equal(t, 10, n)
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM bare WHERE tenant_id = 1", m).Scan(&n))
		require.Equal(t, 5, n)
		require.Len(t, notices, 1)
		require.Equal(t, "WARNING", notices[0].Severity)
		require.Equal(t, "01000", notices[0].Code)
		require.Equal(t, `statement does not filter by tenant on table "public.bare"`, notices[0].Message)
		require.NotEmpty(t, notices[0].Hint)
	}
	// In a transaction that moves to the primary, and in a pipeline.
	notices = nil
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	exec(t, conn, "SELECT * FROM bare")
	exec(t, conn, "INSERT INTO bare VALUES (60, 1)")
	exec(t, conn, "DELETE FROM bare WHERE id = 60")
	require.NoError(t, tx.Commit(t.Context()))
	require.Len(t, notices, 2)
	b := &pgx.Batch{}
	b.Queue("SELECT * FROM bare")
	b.Queue("SELECT * FROM bare WHERE state = $1", "open")
	require.NoError(t, conn.SendBatch(t.Context(), b).Close())
	require.Len(t, notices, 4)
}

// TestAuditRules: the first rule that matches says what becomes of a statement.
func TestAuditRules(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t, func(c *config.Config) {
		c.Tenant.Audit.Rules = []config.AuditRule{
			{Mode: "off", Application: "migrations"},
			{Mode: "log", User: "postgres"},
			{Mode: "off", Kind: "lookup", Table: "bare"},
			{Mode: "reject", Table: "public.bare", Kind: "bulk_write"},
			{Mode: "reject", Severity: "warning"},
		}
	})
	app := a.connect(t, db, "user=audit_app")
	migrations := a.connect(t, db, "user=audit_app", "application_name=migrations")
	boss := a.connect(t, db)
	exec(t, migrations, "UPDATE bare SET state = 'open'")
	exec(t, app, "SELECT * FROM bare WHERE id = 1")
	require.Empty(t, a.found())
	exec(t, boss, "UPDATE bare SET state = 'open'")
	_, err := app.Exec(t.Context(), "UPDATE bare SET state = 'x'")
	refused(t, err)
	_, err = app.Exec(t.Context(), "SELECT * FROM orders")
	refused(t, err)
	exec(t, app, "SET app.tenant = '1'")
	exec(t, app, "SELECT * FROM orders")
	exec(t, app, "SELECT * FROM orders WHERE id = 1")
	require.Equal(t, []string{
		"bulk_write danger log [public.bare] 1",
		"list warning reject [public.orders] 1",
		"list info log [public.orders] 1",
		"lookup info log [public.orders] 1",
	}, slices.DeleteFunc(a.found(), func(s string) bool { return s == "bulk_write danger reject [public.bare] 1" }))
}

// TestAuditMismatch: a tenant that is not the session's, as a literal or bound.
func TestAuditMismatch(t *testing.T) {
	const id, other = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"
	db := newDatabase(t, tenantTables+`;
CREATE TABLE files (tenant_id uuid NOT NULL PRIMARY KEY);
CREATE TABLE names (tenant_id text NOT NULL PRIMARY KEY);
GRANT ALL ON ALL TABLES IN SCHEMA public TO audit_app`)
	a := startAudit(t, mode("reject"))
	conn := a.connect(t, db, "user=audit_app")
	simple := pgx.QueryExecModeSimpleProtocol
	exec(t, conn, "SELECT * FROM bare WHERE tenant_id = 2", simple) // no tenant is set: nothing to compare with
	both := func(tenant, sql string, args ...any) error {
		exec(t, conn, "SET app.tenant = '"+tenant+"'")
		_, err := conn.Exec(t.Context(), sql, args...)
		return err
	}
	for _, tc := range []struct {
		own, other string
		sql        string
		args       []any
		otherArgs  []any
	}{
		{"1", "2", "SELECT * FROM bare WHERE tenant_id = 1", []any{simple}, nil},
		{"1", "2", "SELECT * FROM bare WHERE tenant_id = '1' AND state = 'it''s'", []any{simple}, nil},
		{"1", "2", "SELECT * FROM bare WHERE state = '2' AND tenant_id = 1", nil, nil},
		{"1", "2", "SELECT * FROM bare WHERE tenant_id = $1", []any{1}, nil},
		{"1", "2", "SELECT * FROM bare WHERE tenant_id = $1", []any{pgx.QueryExecModeExec, 1}, nil},
		{"1", "2", "SELECT * FROM bare WHERE tenant_id = $1", []any{pgx.QueryExecModeDescribeExec, 1}, nil},
		{"1", "2", "INSERT INTO bare VALUES ($1, $2) ON CONFLICT (id) DO NOTHING", []any{1, 1}, nil},
		{"1", "2", "UPDATE bare SET state = 'x' WHERE id = $1 AND tenant_id = $2", []any{2, 1}, nil},
		{id, other, "SELECT * FROM files WHERE tenant_id = $1", []any{id}, nil},
		{id, other, "SELECT * FROM files WHERE tenant_id = '" + strings.ToUpper(id) + "'", []any{simple}, nil},
		{"acme", "other", "SELECT * FROM names WHERE tenant_id = $1", []any{"acme"}, nil},
		{"acme", "other", "SELECT * FROM names WHERE tenant_id = 'acme'", []any{simple}, nil},
	} {
		require.NoError(t, both(tc.own, tc.sql, tc.args...), tc.sql)
		e := refused(t, both(tc.other, tc.sql, tc.args...))
		require.Contains(t, e.Message, "names another tenant than its session", tc.sql)
	}
	exec(t, conn, "SET app.tenant = '1'")
	exec(t, conn, "PREPARE p AS SELECT * FROM bare WHERE tenant_id = $1", simple)
	exec(t, conn, "EXECUTE p(1)", simple)
	_, err := conn.Exec(t.Context(), "EXECUTE p(2)", simple)
	refused(t, err)
	_, err = conn.Exec(t.Context(), "SELECT * FROM bare WHERE tenant_id IN (1, 2)", simple)
	refused(t, err)
	_, err = conn.Exec(t.Context(), "SELECT * FROM bare WHERE tenant_id = ANY ('{1,2}')", simple)
	refused(t, err)
	exec(t, conn, "SELECT * FROM bare WHERE tenant_id = ANY ('{1}')", simple)
	exec(t, conn, "SELECT * FROM bare WHERE tenant_id = current_setting('app.tenant')::int", simple)
	require.Positive(t, a.metric(t, "pgweir_unfiltered_statements_total", "kind=mismatch", "table=public.bare"))
}

// TestAuditTenantWithinUnit: what a unit sets before a statement counts for it.
func TestAuditTenantWithinUnit(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t)
	conn := a.connect(t, db, "user=audit_app")
	simple := pgx.QueryExecModeSimpleProtocol
	exec(t, conn, "SET app.tenant = '1'; SELECT * FROM orders; RESET app.tenant", simple)
	exec(t, conn, "SET app.tenant = '1'; SELECT * FROM orders WHERE tenant_id = 2; RESET app.tenant", simple)
	require.Equal(t, []string{"list info log [public.orders] 1", "mismatch warning log [public.orders] 1"}, a.found())
	conn = a.connect(t, db, "user=audit_app")
	exec(t, conn, "SELECT state FROM orders", simple)
	require.Contains(t, a.found(), "list warning log [public.orders] 1")
	b := &pgx.Batch{}
	b.Queue("SELECT 1")
	b.Queue("SELECT set_config('app.tenant', $1, false)", "1")
	b.Queue("SELECT id, state FROM orders")
	b.Queue("SELECT id FROM orders WHERE tenant_id = $1", 2)
	require.NoError(t, conn.SendBatch(t.Context(), b).Close())
	require.Equal(t, []string{"list info log [public.orders] 1", "mismatch warning log [public.orders] 1"}, a.found()[3:])
}

// TestAuditExemptions: they are counted and logged with their reason, and never refused.
func TestAuditExemptions(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t, mode("reject"), func(c *config.Config) {
		c.Tenant.Exempt = config.Exempt{
			Users: []string{"postgres"}, Applications: []string{"nightly"}, Tables: []string{"public.bare"},
			Patterns: []string{`^SELECT max\(`}, Statements: []string{},
		}
	})
	app := a.connect(t, db, "user=audit_app")
	exec(t, app, "SELECT * FROM bare") // an exempt table is not worth a word
	require.Empty(t, a.found())
	exec(t, app, "SELECT count(*) FROM orders /* pgweir:cross-tenant reason=monthly report */")
	exec(t, app, "SELECT max(id) FROM orders")
	exec(t, app, "SELECT sum(id) FROM orders -- pgweir:cross-tenant")
	exec(t, a.connect(t, db), "SELECT * FROM orders")
	exec(t, a.connect(t, db, "user=audit_app", "application_name=nightly"), "SELECT id FROM orders")
	_, err := app.Exec(t.Context(), "SELECT min(id) FROM orders")
	refused(t, err)
	found := a.found()
	require.Len(t, found, 6)
	for i, reason := range []string{"monthly report", "pattern", "no reason given", "user", "application"} {
		require.True(t, strings.HasSuffix(found[i], " log [public.orders] 1 "+reason), found[i])
	}
	require.Equal(t, 5.0, a.metric(t, "pgweir_audit_exemptions_total"))
	require.Equal(t, 1.0, a.metric(t, "pgweir_unfiltered_statements_total"))
	fingerprint := a.logs.FilterMessage("statement without a tenant filter").All()[0].ContextMap()["fingerprint"].(string)
	b := startAudit(t, mode("reject"), func(c *config.Config) { c.Tenant.Exempt.Statements = []string{fingerprint} })
	exec(t, b.connect(t, db, "user=audit_app"), "SELECT min(id) FROM orders")
}

// TestAuditShow: SHOW pgweir.unfiltered lists what was seen in the database, by both protocols.
func TestAuditShow(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t)
	conn := a.connect(t, db, "user=audit_app", "application_name=shop")
	for range 3 {
		exec(t, conn, "SELECT * FROM orders")
	}
	exec(t, conn, "UPDATE bare SET state = 'x'")
	for _, m := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement} {
		rows, err := conn.Query(t.Context(), "SHOW pgweir.unfiltered", m)
		require.NoError(t, err)
		var names []string
		for _, f := range rows.FieldDescriptions() {
			names = append(names, f.Name)
		}
		require.Equal(t, []string{"severity", "kind", "tables", "count", "mode", "statement", "fingerprint", "user", "application", "tenant", "first_seen", "last_seen", "exempt"}, names)
		list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) ([]any, error) { return r.Values() })
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, []any{"danger", "bulk_write", "public.bare", "1", "log", "UPDATE bare SET state = $1"}, list[0][:6])
		require.Equal(t, []any{"warning", "list", "public.orders", "3", "log", "SELECT * FROM orders"}, list[1][:6])
		require.Equal(t, []any{"audit_app", "shop", ""}, list[1][7:10])
	}
	other := a.connect(t, "postgres")
	tag, err := other.Exec(t.Context(), "SHOW pgweir.unfiltered")
	require.NoError(t, err)
	require.Equal(t, "SHOW", tag.String())
	_, err = conn.Exec(t.Context(), "SET pgweir.unfiltered = 'x'")
	require.Error(t, err)
}

// TestAuditBound: the memory for what was seen is bounded.
func TestAuditBound(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t, func(c *config.Config) { c.Tenant.Audit.MaxStatements = 3 })
	conn := a.connect(t, db, "user=audit_app")
	for i := range 10 {
		exec(t, conn, "SELECT id"+strings.Repeat(" + id", i)+" FROM bare")
	}
	require.Equal(t, 3.0, a.metric(t, "pgweir_audit_statements"))
	require.Equal(t, 7.0, a.metric(t, "pgweir_audit_evictions_total"))
	require.Equal(t, 10.0, a.metric(t, "pgweir_unfiltered_statements_total"))
}

// TestAuditOff: without columns, or with nothing to do, no statement is looked at.
func TestAuditOff(t *testing.T) {
	db := newDatabase(t, tenantTables)
	for _, change := range []func(*config.Config){
		mode("off"),
		func(c *config.Config) { c.Tenant.Columns = nil },
	} {
		a := startAudit(t, change)
		conn := a.connect(t, db, "user=audit_app")
		exec(t, conn, "SELECT * FROM bare")
		require.Empty(t, a.found())
		require.Empty(t, a.logs.FilterMessage("tenant protection").All())
		exec(t, conn, "SHOW pgweir.unfiltered")
	}
}

// TestUndeclaredSettings: as the catalog is first read the settings that policies read and
// nobody declared are named, once a database, with the configuration that declares them.
func TestUndeclaredSettings(t *testing.T) {
	db := newDatabase(t, `CREATE TABLE rows (tenant_id int);
CREATE FUNCTION see_all() RETURNS text LANGUAGE sql AS $$SELECT current_setting('app.see_all', true)$$;
CREATE POLICY p ON rows USING (tenant_id::text = current_setting('app.tenant', true) OR see_all() = '1')`)
	warnings := func(a *audited) []observer.LoggedEntry {
		return a.logs.Filter(func(e observer.LoggedEntry) bool { return strings.HasPrefix(e.Message, "policies read settings") }).All()
	}
	a := startAudit(t, func(c *config.Config) { c.Settings.Assert = []string{"app.user"} })
	conn := a.connect(t, db)
	until(t, "it warns", func() bool { return len(warnings(a)) == 1 })
	e := warnings(a)[0]
	require.Equal(t, zap.WarnLevel, e.Level)
	require.Equal(t, map[string]any{
		"database": "default/" + db, "settings": []any{"app.see_all"}, "configuration": "settings: {assert: [app.user, app.see_all]}",
	}, e.ContextMap())
	exec(t, conn, "CREATE TABLE late (tenant_id int)")
	until(t, "the catalog is read again", func() bool { return a.logs.FilterMessage("catalog read").Len() == 2 })
	require.Len(t, warnings(a), 1)

	a = startAudit(t, func(c *config.Config) { c.Settings.Assert = []string{"App.See_All"} })
	exec(t, a.connect(t, db), "CREATE TABLE later (tenant_id int)")
	until(t, "the catalog is read again", func() bool { return a.logs.FilterMessage("catalog read").Len() == 2 })
	require.Empty(t, warnings(a))
}

// protection are the entries about the database itself: kind and tables.
func (a *audited) protection(kind string) (list []string) {
	for _, e := range a.logs.FilterMessage("tenant protection").All() {
		if f := e.ContextMap(); f["kind"] == kind {
			list = append(list, fmt.Sprint(f["tables"], " ", f["role"]))
		}
	}
	return list
}

// TestAuditProtection: gaps of the database are logged at the start and when they come
// up, each once.
func TestAuditProtection(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t, func(c *config.Config) { c.Routing.CatalogInterval = 20 * time.Millisecond })
	gaps := func(kind string) float64 {
		return a.metric(t, "pgweir_tenant_gaps", "kind="+kind, "database=default/"+db)
	}
	conn := a.connect(t, db, "user=audit_app")
	until(t, "the gap is logged", func() bool { return len(a.protection("no_rls")) == 1 })
	require.Equal(t, []string{"[public.bare] <nil>"}, a.protection("no_rls"))
	require.Equal(t, 1.0, gaps("no_rls"))
	require.Equal(t, 0.0, gaps("role_bypasses"))
	boss := a.connect(t, db) // another login, which bypasses
	until(t, "the login is seen", func() bool { return len(a.protection("role_bypasses")) == 1 })
	require.Equal(t, []string{"<nil> postgres"}, a.protection("role_bypasses"))
	exec(t, boss, "CREATE TABLE late (tenant_id int NOT NULL PRIMARY KEY)")
	until(t, "the new table is seen", func() bool { return len(a.protection("no_rls")) == 2 })
	require.Equal(t, "[public.late] <nil>", a.protection("no_rls")[1])
	exec(t, boss, "ALTER TABLE late ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
	until(t, "a gap is closed", func() bool { return gaps("no_rls") == 1 })
	require.Len(t, a.protection("no_rls"), 2)
	require.Len(t, a.protection("role_bypasses"), 1)
	exec(t, conn, "SELECT 1")
}

// TestAuditCatalogChange: a table becomes a tenant table when it gets the column, for
// statements already known too, prepared ones among them.
func TestAuditCatalogChange(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t)
	app, boss := a.connect(t, db, "user=audit_app"), a.connect(t, db)
	read := func() {
		exec(t, app, "SELECT id FROM countries WHERE id > $1", 0)
		exec(t, app, "SELECT id FROM countries WHERE id > 0", pgx.QueryExecModeSimpleProtocol)
	}
	read()
	require.Empty(t, a.found())
	exec(t, boss, "ALTER TABLE countries ADD COLUMN tenant_id int")
	until(t, "both statements are found", func() bool {
		read()
		return a.metric(t, "pgweir_unfiltered_statements_total", "table=public.countries") >= 2
	})
	exec(t, boss, "ALTER TABLE countries DROP COLUMN tenant_id")
	until(t, "neither is any more", func() bool {
		before := a.metric(t, "pgweir_unfiltered_statements_total", "table=public.countries")
		read()
		return a.metric(t, "pgweir_unfiltered_statements_total", "table=public.countries") == before
	})
}

// TestAuditRoleSet: row-level security binds the role that a session acts as.
func TestAuditRoleSet(t *testing.T) {
	db := newDatabase(t, tenantTables)
	a := startAudit(t)
	conn := a.connect(t, db)
	exec(t, conn, "SET app.tenant = '1'")
	exec(t, conn, "SELECT * FROM orders")
	exec(t, conn, "SET ROLE audit_app")
	exec(t, conn, "SELECT * FROM orders")
	require.Equal(t, []string{"list danger log [public.orders] 1", "list info log [public.orders] 1"}, a.found())
	var e *pgconn.PgError
	require.False(t, errors.As(conn.Ping(t.Context()), &e))
}
