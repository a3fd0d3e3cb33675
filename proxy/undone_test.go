package proxy_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// A connection on which a function that is declared safe has set another tenant comes to a session
// of tenant 1. Whatever undoes its transaction there, it sees its own rows and no others, or gets an error.
func TestUndoneAssertion(t *testing.T) {
	t.Parallel()
	const look = "select count(*) filter (where org <> '1'), current_setting('app.current_org_id', true) from item"
	for name, script := range map[string]string{
		"a pipeline without a block":         "X %l ;; rollback ;; %l",
		"a string without a block":           "Q %l; rollback; %l",
		"behind Flush":                       "F %l\nF rollback\nX %l",
		"a chain in a pipeline":              "X %l ;; begin ;; rollback and chain ;; %l\nQ rollback",
		"a chain":                            "Q begin\nQ %l\nQ rollback and chain\nQ %l",
		"a chain of READ ONLY":               "Q begin read only\nQ %l\nQ rollback and chain\nQ %l",
		"a chain of REPEATABLE READ":         "Q begin isolation level repeatable read read only\nQ %l\nQ rollback and chain\nQ %l",
		"a chain behind a failure":           "Q begin\nQ %l\nQ select 1/0\nQ rollback and chain\nQ %l",
		"COMMIT of a failure":                "Q begin\nQ %l\nQ select 1/0\nQ commit and chain\nQ %l",
		"COMMIT AND CHAIN":                   "Q begin\nQ %l\nQ commit and chain\nQ %l\nQ rollback and chain\nQ %l",
		"set before":                         "Q begin\nQ set local app.x = '1'\nQ %l\nQ rollback\nQ %l",
		"a failed savepoint":                 "Q begin\nQ savepoint s\nQ select 1/0 from item\nQ rollback to s\nQ %l\nQ rollback and chain\nQ %l",
		"a failure before all":               "Q begin\nQ select 1/0\nQ rollback and chain\nQ %l",
		"a string behind BEGIN":              "Q begin\nQ %l; rollback; %l",
		"a string with a chain":              "Q begin\nQ %l; rollback and chain; %l",
		"a pipeline behind BEGIN":            "Q begin\nX %l ;; rollback ;; %l",
		"ROLLBACK behind Flush":              "X begin\nF %l\nF rollback\nX %l",
		"a whole string":                     "Q begin; %l; rollback; %l",
		"a lock taken in the block":          "Q begin\nQ %l\nQ select pg_advisory_lock(1)\nQ rollback\nQ %l\nQ begin\nQ %l",
		"a lock taken by a failure":          "Q select pg_advisory_lock(1) from item where 1/0 = 1\nQ %l",
		"a lock taken before a failure":      "Q select pg_advisory_lock(1), 1/(select 0)\nQ %l",
		"a lock taken by a failing pipeline": "X select pg_advisory_lock(1) ;; select 1/0\nQ %l",
		"a lock taken by a failing string":   "Q select pg_advisory_lock(1); select 1/0\nQ %l",
		"a lock first":                       "Q begin\nQ select pg_advisory_lock(1)\nQ rollback\nQ %l",
		"a temporary table undone":           "Q begin\nQ %l\nQ create temp table tt (i int)\nQ rollback\nQ %l",
		"a sequence":                         "Q select nextval('sq'), 1/0\nQ select lastval()\nQ begin\nQ select nextval('sq')\nQ rollback\nQ %l\nQ select lastval()\nQ %l",
		"opaque code":                        "Q begin\nQ %l\nQ select opq('select 1')\nQ rollback\nQ %l",
		"opaque code that fails":             "Q select opq('select 1/0')\nQ %l",
		"PREPARE":                            "Q begin\nQ prepare p as select 1\nQ %l\nQ rollback\nQ execute p\nQ %l",
		"LISTEN":                             "Q begin\nQ listen x\nQ %l\nQ rollback\nQ %l",
		"COPY that fails":                    "Q copy item to '/nowhere/x'\nQ %l",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, where := range []string{"/* pgweir:primary */ ", "/* pgweir:replica */ "} {
				db := newDatabase(t, "")
				role := "role_" + db
				run(t, db, strings.ReplaceAll(hammerSchema, "%ROLE%", role)+";"+leaky+"grant "+role+" to current_user; create sequence sq; grant all on sequence sq to public;"+
					"create function opq(q text) returns text language plpgsql as $$ begin execute q; return 'x'; end $$;")
				t.Cleanup(func() { run(t, db, "drop owned by "+role+"; drop role "+role) })
				s := start(t, poolSize(1), eventual, func(c *config.Config) {
					c.Servers = c.Servers[:2]
					c.Tenant.Settings, c.Routing.SafeFunctions, c.Settings.VerifyReleases = []string{"app.current_org_id"}, []string{"leaky"}, false
				})
				spoils, a := raw(t, s.addr, db, "user", role), raw(t, s.addr, db, "user", role)
				spoils.query("set app.current_org_id = '1'")
				for _, where := range []string{"/* pgweir:primary */ ", "/* pgweir:replica */ "} {
					spoils.query(where + "select count(*) from item")
					spoils.query(where + "select leaky('2')")
				}
				a.query("set app.current_org_id = '1'")
				for line := range strings.Lines(strings.ReplaceAll(script, "%l", where+look)) {
					kind, sql, _ := strings.Cut(strings.TrimSpace(line), " ")
					var got []string
					switch kind {
					case "Q":
						got = a.query(sql)
					default:
						for one := range strings.SplitSeq(sql, " ;; ") {
							a.send(extended(one)...)
						}
						if kind == "F" {
							a.send(advFlush)
							got = a.wait("C")
						} else {
							a.send(advSync)
							got = a.wait("Z")
						}
					}
					for _, l := range got {
						if strings.HasPrefix(l, `D "`) && (strings.HasSuffix(l, ` "2"`) || strings.Contains(l, `" "`) && !strings.HasPrefix(l, `D "0"`)) {
							t.Errorf("%s%s: %s", where, sql, strings.Join(got, " | "))
						}
					}
				}
			}
		})
	}
}

// A default given past the proxy is not a session's that began before, also on a connection that is
// opened for it with its own startup parameters.
func TestDefaultsOfABegunConnection(t *testing.T) {
	t.Parallel()
	for i, reset := range []string{"reset default_transaction_isolation", "reset all", "select set_config('default_transaction_isolation', null, false)"} {
		db := newDatabase(t, "")
		s := start(t, poolSize(2), func(c *config.Config) { c.Servers = c.Servers[:2] })
		r := raw(t, s.addr, db, "options", "-c default_transaction_isolation=serializable")
		r.query("select 1")
		name := "app.since" + strconv.Itoa(i)
		run(t, db, "alter database "+db+" set "+name+" = 'since'")
		const look = "; select current_setting('%', true)"
		for _, sql := range []string{reset + look, reset + look, "select 1" + look} {
			if got := strings.Join(r.query(strings.Replace(sql, "%", name, 1)), " "); strings.Contains(got, "since\"") {
				t.Errorf("%s: %s", sql, got)
			}
		}
	}
}

// A default of a library's setting that was given since, which may not be empty, keeps no session from
// a connection, also not from one that is opened for it; it has that default there, as of a built-in one.
func TestDefaultsOfAnExtension(t *testing.T) {
	t.Parallel()
	cluster := pgtest.New(t, pgtest.Options{Conf: map[string]string{"shared_preload_libraries": "pg_trgm"}})
	s := startConfig(t, failoverConfig(t, cluster))
	r := raw(t, s.addr, "postgres", "options", "-c default_transaction_isolation=serializable -c app.own=mine")
	plain := raw(t, s.addr, "postgres")
	r.query("select 1")
	must(t, cluster.Exec(t.Context(), "alter database postgres set pg_trgm.similarity_threshold = 0.5; alter database postgres set app.since = 'since'"))
	must(t, cluster.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where application_name = ''"))
	const look = "reset default_transaction_isolation; select current_setting('default_transaction_isolation'), current_setting('app.own', true), current_setting('app.since', true)"
	require.Contains(t, strings.Join(r.query(look), " "), `D "serializable" "mine" ""`)
	require.Contains(t, strings.Join(plain.query(look), " "), `D "read committed" NULL ""`)
}
