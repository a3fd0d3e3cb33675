package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestSessionsKeepWhatTheyBeganWith: what ALTER ROLE and ALTER DATABASE … SET give is a
// session's from its login to its end, whatever connection runs its statements; new
// sessions have the new values at once.
func TestSessionsKeepWhatTheyBeganWith(t *testing.T) {
	database := newDatabase(t, "create schema s1; create schema s2; create table s1.t(v text); create table s2.t(v text); insert into s1.t values ('s1'); insert into s2.t values ('s2')")
	role := "keeps_" + database
	run(t, database, fmt.Sprintf("create role %[1]s login; create role other_%[1]s; grant other_%[1]s to %[1]s;"+
		"grant usage on schema s1, s2 to public; grant all on all tables in schema s1, s2 to public;"+
		"alter role %[1]s set search_path = 's1'; alter role %[1]s set app.current_org_id = '1'", role))
	t.Cleanup(func() {
		run(t, database, fmt.Sprintf("drop owned by %[1]s; drop role %[1]s; drop role other_%[1]s", role))
	})
	for _, past := range []bool{false, true} {
		t.Run(map[bool]string{false: "through the proxy", true: "past it, then seen"}[past], func(t *testing.T) {
			s := start(t, poolSize(2))
			admin := s.connect(t, database)
			login := func() *pgx.Conn { return s.connect(t, database, "user="+role) }
			said := func(c *pgx.Conn) string {
				t.Helper()
				var out []string
				for _, sql := range []string{
					"select current_setting('search_path') || ' ' || current_setting('app.current_org_id') || ' ' || current_user from txid_current()",
					"select string_agg(v, ',') from t", "select current_setting('search_path') || ' ' || current_setting('app.current_org_id', true)",
				} {
					var v string
					if err := c.QueryRow(t.Context(), sql, pgx.QueryExecModeSimpleProtocol).Scan(&v); err != nil {
						t.Fatal(err)
					}
					out = append(out, v)
				}
				return strings.ReplaceAll(strings.Join(out, " | "), role, "r")
			}
			run(t, database, fmt.Sprintf("alter role %[1]s set search_path = 's1'; alter role %[1]s set app.current_org_id = '1'; alter role %[1]s reset role", role))
			old := login()
			const before, after = "s1 1 r | s1 | s1 1", "s2 2 r | s2 | s2 2"
			if got := said(old); got != before {
				t.Fatalf("at first: %s", got)
			}
			change := fmt.Sprintf("alter role %[1]s set search_path = 's2'; alter role %[1]s set app.current_org_id = '2'", role)
			if past {
				run(t, database, change)
				if _, err := admin.Exec(t.Context(), "create table if not exists seen_ddl()"); err != nil { // it has the catalog read
					t.Fatal(err)
				}
			} else {
				for part := range strings.SplitSeq(change, ";") {
					if _, err := admin.Exec(t.Context(), part); err != nil {
						t.Fatal(err)
					}
				}
			}
			for i := range 20 {
				fresh := login()
				if got := said(fresh); got != after {
					t.Fatalf("round %d, a new session: %s, want %s", i, got, after)
				}
				if got := said(old); got != before {
					t.Fatalf("round %d, the old session: %s, want %s", i, got, before)
				}
				if i%5 == 0 {
					if _, err := old.Exec(t.Context(), "reset search_path"); err != nil {
						t.Fatal(err)
					}
					if _, err := fresh.Exec(t.Context(), "reset all"); err != nil {
						t.Fatal(err)
					}
					if got := said(fresh); got != after {
						t.Fatalf("after RESET ALL: %s", got)
					}
				}
				_ = fresh.Close(t.Context())
			}
		})
	}
}

// TestNoneIsAValue: SET ROLE NONE is the session's user, RESET ROLE its default.
func TestNoneIsAValue(t *testing.T) {
	database := newDatabase(t, "")
	role := "vault_" + database
	run(t, database, fmt.Sprintf("create role %[1]s login; create role tenant_%[1]s; grant tenant_%[1]s to %[1]s; alter role %[1]s set role = 'tenant_%[1]s'", role))
	t.Cleanup(func() { run(t, database, fmt.Sprintf("drop role %[1]s; drop role tenant_%[1]s", role)) })
	s := start(t, poolSize(1))
	user := func(c *pgx.Conn) (v string) {
		t.Helper()
		if err := c.QueryRow(t.Context(), "select current_user::text", pgx.QueryExecModeSimpleProtocol).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(v, role, "vault")
	}
	a := s.connect(t, database, "user="+role)
	for _, step := range []struct{ sql, want string }{
		{"select 1", "tenant_vault"}, {"set role none", "vault"}, {"select set_config('application_name', upper('x'), false)", "vault"},
		{"reset role", "tenant_vault"}, {"select set_config('role', 'none', false)", "vault"}, {"discard all", "tenant_vault"},
		{"begin; set local role none; commit", "tenant_vault"}, {"set role none", "vault"},
	} {
		if _, err := a.Exec(t.Context(), step.sql); err != nil {
			t.Fatal(err)
		}
		if got := user(a); got != step.want {
			t.Errorf("%s: %s, want %s", step.sql, got, step.want)
		}
		b := s.connect(t, database, "user="+role)
		if got := user(b); got != "tenant_vault" {
			t.Errorf("%s: another session is %s", step.sql, got)
		}
		_ = b.Close(t.Context())
	}
	if got := user(a); got != "vault" {
		t.Errorf("in the end: %s", got)
	}
}

// TestDefaultsOfAllRoles: what ALTER ROLE ALL … SET gives new connections instead is not an old
// session's.
func TestDefaultsOfAllRoles(t *testing.T) {
	database := newDatabase(t, "alter role all set work_mem = '5MB'")
	s := start(t, poolSize(2))
	holds, old := s.connect(t, database), s.connect(t, database)
	memory := func() (v string) {
		t.Helper()
		if err := old.QueryRow(t.Context(), "select current_setting('work_mem') from txid_current()").Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	before := memory()
	run(t, database, "alter role all set work_mem = '6MB'")
	t.Cleanup(func() { run(t, database, "alter role all reset work_mem") })
	for _, hold := range []string{"begin", "select txid_current()"} {
		if _, err := holds.Exec(t.Context(), hold); err != nil {
			t.Fatal(err)
		}
	}
	if got := memory(); got != before {
		t.Errorf("a session that began before has %s, want %s", got, before)
	}
}
