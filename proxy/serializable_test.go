package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// serially is a stage of sessions whose role makes transactions SERIALIZABLE by default, which
// a standby takes none of, and declares a tenant.
func serially(setup string) stage {
	return stage{
		once: "create role %ROLE% login; alter role %ROLE% set default_transaction_isolation = serializable", user: "%ROLE%",
		setup:  items + "grant all on all tables in schema public to %ROLE%; grant create on schema public to %ROLE%;" + setup,
		change: []func(*config.Config){func(c *config.Config) { c.Tenant.Settings = []string{"app.a"} }},
	}
}

// TestBehindTheEnd: what stands behind the end of a transaction, in one string or pipeline, is
// a transaction of its own, which may not be for the replica.
func TestBehindTheEnd(t *testing.T) {
	t.Parallel()
	const read = "select count(*) from items"
	var all []story
	for _, begin := range []string{"begin isolation level read committed read only", "begin isolation level repeatable read read only", "begin isolation level read committed"} {
		for name, steps := range map[string]string{
			"a string":                 "Q commit ;; " + read,
			"a string, with settings":  "Q set local app.a = 'x'\nQ commit ;; select current_setting('app.a', true), count(*) from items",
			"ROLLBACK":                 "Q rollback ;; " + read,
			"a string behind a read":   "Q " + read + "\nQ commit ;; " + read,
			"a write behind a read":    "Q " + read + "\nQ commit ;; insert into items values (9) ;; delete from items where id = 9",
			"a write":                  "Q commit ;; insert into items values (9) ;; delete from items where id = 9",
			"a failure":                "Q select 1/0 from items\nQ rollback ;; " + read,
			"a chain":                  "Q commit and chain ;; " + read + "\nQ commit",
			"not at once":              "Q select 1 ;; commit ;; " + read,
			"behind Flush":             "P \"\" commit\nB \"\" \"\"\nE \"\"\nH\nwait C\nP \"\" " + read + "\nB \"\" \"\"\nE \"\"\nS\nwait",
			"behind a read and Flush":  "Q " + read + "\nP \"\" commit\nB \"\" \"\"\nE \"\"\nH\nwait C\nP \"\" " + read + "\nB \"\" \"\"\nE \"\"\nS\nwait",
			"another one in the same":  "Q commit ;; begin isolation level read committed read only ;; " + read + " ;; commit ;; " + read,
			"another one, at its side": "Q commit\nQ begin isolation level read committed read only ;; " + read + " ;; commit ;; " + read,
		} {
			all = append(all, story{name: begin + ": " + name, mode: "outside", steps: "Q " + begin + "\n" + steps + "\nQ select 1"})
		}
	}
	for i := range all {
		if strings.Contains(all[i].steps, "\nP ") {
			all[i].mode = "once"
		}
	}
	serially("").tell(t, all...)
}

// TestTakingOverOnAStandby: whatever the connection has to drop or to be asked for, it does not need
// a transaction by its defaults.
func TestTakingOverOnAStandby(t *testing.T) {
	t.Parallel()
	const read = "Q begin isolation level read committed read only\nQ select count(*) from items\n"
	many := ""
	for _, session := range []string{"a", "b", "c", "d"} {
		many += "@" + session + "\nQ set timezone = 'Europe/Berlin'\n" + read + "Q commit\n"
	}
	bind := "B \"\" st\nE \"\"\nS\nwait\n"
	serially("create schema other; create table other.items (id int, w int); grant usage on schema other to %ROLE%; grant all on other.items to %ROLE%;").tell(t,
		story{name: "plans are discarded", mode: "once", steps: many + "@z\nQ set timezone = 'Asia/Tokyo'\nQ set client_encoding = latin1\nQ set app.a = 'z'\n" + read + "Q select current_setting('app.a')\nQ commit\n@a\n" + read + "Q commit"},
		story{name: "other columns", mode: "once", steps: "Q begin isolation level read committed read only\nP st select * from items limit 1\nD S st\n" + bind + "Q commit\nQ set search_path = other\n" +
			"@b\n" + read + "Q commit\n@a\nQ begin isolation level read committed read only\n" + bind + "Q commit"},
	)
}

// TestTakingOverWaitsForNobody: what is set on a connection for its next session does not run as a
// transaction of the last one would, which waits for a safe snapshot.
func TestTakingOverWaitsForNobody(t *testing.T) {
	t.Parallel()
	for _, declared := range [][]string{nil, {"app.a"}} {
		for _, next := range []string{"insert into items values (6)", "select count(*) from items", "begin; insert into items values (6); commit", "discard all", "listen heard", "insert into drawn default values"} {
			db := newDatabase(t, items+"create table drawn (id serial);")
			s := start(t, poolSize(1), func(c *config.Config) {
				c.Servers, c.Routing.Route, c.Tenant.Settings = c.Servers[:2], "primary", declared
			})
			first, second := raw(t, s.addr, db), raw(t, s.addr, db)
			first.query("insert into drawn default values")
			first.query("set session characteristics as transaction isolation level serializable, read only, deferrable")
			first.query("select count(*) from items where id < 3")
			writer := raw(t, shared(t).Primary.Addr(), db)
			writer.query("begin isolation level serializable read write")
			writer.query("select count(*) from items")
			writer.query("insert into items values (7)")
			require.NotContains(t, strings.Join(second.query(next), "\n"), "ERROR", "%v, %s", declared, next)
			writer.query("rollback")
		}
	}
}

// TestOnlyTheReplicaRefuses: what a replica does not take over the primary may.
func TestOnlyTheReplicaRefuses(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"read committed", "serializable"} {
		cluster := pgtest.New(t, pgtest.Options{Replicas: 1, Conf: map[string]string{"default_transaction_isolation": level}})
		must(t, cluster.Exec(t.Context(), items))
		must(t, cluster.WaitReplay(t.Context()))
		must(t, cluster.Replicas[0].Exec(t.Context(), "postgres", "alter system set session_preload_libraries = auto_explain"))
		must(t, cluster.Replicas[0].Reload(t.Context()))
		cfg := failoverConfig(t, cluster)
		cfg.Tenant.Settings = []string{"app.a"}
		s := startConfig(t, cfg)
		s.refuses = true
		s.state(t, cluster.Replicas[0], "replica", "serving")
		for _, script := range [][]string{
			{"set auto_explain.nonsense = 'x'", "select current_setting('auto_explain.nonsense', true), count(*) from items"},
			{"set auto_explain.nonsense = 'x'", "begin isolation level read committed read only", "select current_setting('auto_explain.nonsense', true), count(*) from items", "commit"},
			{"begin isolation level read committed read only", "set auto_explain.nonsense = 'x'", "select current_setting('auto_explain.nonsense', true), count(*) from items", "commit"},
			{"set auto_explain.nonsense = 'x'", "begin isolation level repeatable read read only; select current_setting('auto_explain.nonsense', true), count(*) from items; commit"},
		} {
			direct, proxied := raw(t, cluster.Primary.Addr(), "postgres"), raw(t, s.addr, "postgres")
			for _, sql := range script {
				require.Equal(t, direct.query(sql), proxied.query(sql), "%s: %s", level, sql)
			}
		}
	}
}

// TestAskedOfAReplica: without a primary, sessions log in and read on a replica whatever the
// defaults of the account are that the proxy asks by.
func TestAskedOfAReplica(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"scram-sha-256", "trust"} {
		cluster := pgtest.New(t, pgtest.Options{Replicas: 1})
		must(t, cluster.Exec(t.Context(), items+"create role app login password 'secret'; grant all on items to app; create role svc superuser login;"+
			" alter role svc set default_transaction_isolation = serializable; alter role app set default_transaction_isolation = serializable"))
		must(t, cluster.WaitReplay(t.Context()))
		cfg := failoverConfig(t, cluster)
		cfg.Service.User, cfg.Auth.Method, cfg.Auth.QueryTTL, cfg.Routing.PrimaryWait = "svc", method, 0, 100*time.Millisecond
		if method != "trust" {
			cfg.Auth.Query = "select rolname, rolpassword from pg_authid where rolname = $1"
		}
		must(t, cluster.Primary.Stop(pgtest.Immediate))
		s := launch(t, cfg)
		host, port, _ := strings.Cut(s.addr, ":")
		until(t, method+": a session reads", func() bool {
			conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%s user=app password=secret dbname=postgres sslmode=disable connect_timeout=3", host, port))
			if err != nil {
				time.Sleep(100 * time.Millisecond)
				return false
			}
			defer conn.Close(t.Context())
			_, err = conn.Exec(t.Context(), "begin isolation level read committed read only", pgx.QueryExecModeSimpleProtocol)
			if err == nil {
				_, err = conn.Exec(t.Context(), "select count(*) from items", pgx.QueryExecModeSimpleProtocol)
			}
			return err == nil
		})
	}
}
