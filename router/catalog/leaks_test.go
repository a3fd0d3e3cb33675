package catalog_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// left asks a session what it carries that a new one does not.
const left = `SELECT pg_catalog.concat_ws(' ',
  CASE WHEN pg_catalog.current_setting('a.b', true) IS NOT NULL THEN 'touched' END,
  CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_settings WHERE source = 'session'
    AND name NOT IN ('client_encoding', 'transaction_isolation', 'transaction_read_only', 'transaction_deferrable')) THEN 'setting' END,
  CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()) THEN 'lock' END,
  CASE WHEN pg_catalog.pg_my_temp_schema() <> 0 THEN 'temp' END)`

// TestLeaks runs statements on a database full of traps, each in a session of its own,
// and asks the server what the session carries afterwards: the statement's Plan must have
// foreseen it.
func TestLeaks(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	for _, file := range []string{"testdata/nasty.sql", "testdata/leaks.sql"} {
		sql, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Primary.Exec(t.Context(), db, string(sql)); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	plans := router.NewPlans(router.Options{Snapshot: loadSnapshot(t, c, db)})
	text, err := os.ReadFile("testdata/leaks.txt")
	if err != nil {
		t.Fatal(err)
	}
	leaked, statements := 0, 0
	for sql := range strings.Lines(string(text)) {
		if sql = strings.TrimSpace(sql); sql == "" || strings.HasPrefix(sql, "#") {
			continue
		}
		statements++
		state, err := leaves(t, c, db, sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
		if state == "" {
			continue
		}
		leaked++
		if p := plans.Get([]byte(sql)); !foreseen(p, state) {
			t.Errorf("%s: leaves %q; flags %s pins %s touches %v", sql, state, p.Flags, p.Pins, p.Touches)
		}
	}
	t.Logf("%d of %d statements leave something", leaked, statements)
}

// foreseen reports whether p says that state may be left.
func foreseen(p *router.Plan, state string) bool {
	if p.Pins&router.PinOpaque != 0 {
		return true
	}
	for _, kind := range strings.Fields(state) {
		ok := false
		switch kind {
		case "touched":
			for _, name := range p.Touches {
				ok = ok || name == "a.b"
			}
		case "setting":
			ok = p.Flags.Has(router.FlagSetsState)
		case "lock":
			ok = p.Pins&router.PinLock != 0
		case "temp":
			ok = p.Pins&router.PinTemp != 0
		}
		if !ok {
			return false
		}
	}
	return true
}

// leaves runs sql in a transaction of its own, committed, and says what is left.
func leaves(t *testing.T, c *pgtest.Cluster, db, sql string) (state string, err error) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), c.Primary.ConnString(db, pgtest.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql).ReadAll(); err != nil {
		return "", err
	}
	results, err := conn.Exec(t.Context(), left).ReadAll()
	if err != nil {
		return "", err
	}
	return string(results[0].Rows[0][0]), nil
}

func loadSnapshot(t *testing.T, c *pgtest.Cluster, db string) *catalog.Snapshot {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), c.Primary.ConnString(db, pgtest.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	s, err := catalog.Load(t.Context(), func(ctx context.Context, sql string, row func([][]byte) error) error {
		results := conn.Exec(ctx, sql)
		for results.NextResult() {
			for rows := results.ResultReader(); rows.NextRow(); {
				if err := row(rows.Values()); err != nil {
					results.Close()
					return err
				}
			}
		}
		return results.Close()
	}, catalog.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
