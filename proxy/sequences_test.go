package proxy_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// TestSequences: what a sequence gave to a session it can ask for, in and behind transactions,
// and what it gave to others nobody else can, by both protocols.
func TestSequences(t *testing.T) {
	const schema = "create table t(id serial primary key, v text); create table u(id int generated always as identity, t int); create sequence s"
	for name, lines := range map[string]string{
		"insert, lastval": "insert into t(v) values ('a') | select lastval() | select currval('t_id_seq') | insert into u(t) values (currval('t_id_seq')) |" +
			"select lastval(), currval('t_id_seq'), currval('u_id_seq') | select t from u",
		"nextval, currval": "select nextval('s') | select currval('s') | select setval('s', 100) | select currval('s'), lastval()",
		"transaction":      "begin | insert into t(v) values ('a') | commit | select lastval() | begin | insert into t(v) values ('b') | rollback | select lastval()",
		"reads in between": "insert into t(v) values ('a') | select v from t where v = 'none' | select v from t | select currval('t_id_seq')",
		"others read":      "insert into t(v) values ('a') | @b | select v from t where v = 'none' | @a | select currval('t_id_seq')",
		"drew nothing":     "@b | insert into t(v) values ('b') | @a | insert into t(id, v) values (-1, 'a') | select lastval()",
		"never drew":       "@b | insert into t(v) values ('b') | @a | select currval('t_id_seq') | select lastval()",
		"failed":           "insert into t(v) values ('a') | insert into t(v) values ('b'), ((1 / 0)::text) | select lastval()",
		"only failed":      "@b | insert into t(v) values ('a') | @a | insert into t(v) values ('b'), ((1 / 0)::text) | select currval('t_id_seq')",
		"failed, settings": "set app.x = 'a' | @b | set app.x = 'b' | insert into t(v) values ('b') | @a | insert into t(v) values ((1 / 0)::text) |" +
			"insert into t(v) values (current_setting('app.x', true)) returning v | select current_setting('app.x', true)",
		"forgotten":         "insert into t(v) values ('a') | discard sequences | select lastval()",
		"modes first":       "begin | set transaction isolation level serializable | insert into t(v) values ('a') | select lastval() | commit | select lastval()",
		"never asked, then": strings.Repeat("insert into t(v) values ('a') | select v from t where v = 'none' |", 10) + "insert into t(v) values ('a') | select lastval()",
	} {
		for _, size := range []int{1, 2, 8} {
			for _, extended := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/pool=%d,extended=%t", name, size, extended), func(t *testing.T) {
					c := &script{}
					for l := range strings.SplitSeq(lines, "|") {
						switch l = strings.TrimSpace(l); {
						case strings.HasPrefix(l, "@"):
							c.lines = append(c.lines, l)
						case extended:
							c.lines = append(c.lines, `P "" `+l, `B "" ""`, `D P ""`, `E ""`, "S", "wait")
						default:
							c.lines = append(c.lines, "Q "+l, "wait")
						}
					}
					direct, proxied := newDatabase(t, schema), newDatabase(t, schema)
					s := start(t, poolSize(size))
					want := play(t, c, shared(t).Primary.Addr(), direct, false)
					if diff := difference(want, play(t, c, s.addr, proxied, false)); diff != "" {
						t.Error(diff)
					}
				})
			}
		}
	}
}

// TestSequencesInAPipeline: draws and questions in the middle of a pipeline leave its portals
// alone, and another's values unseen.
func TestSequencesInAPipeline(t *testing.T) {
	const schema = "create table t(id serial primary key, v text)"
	c := &script{lines: strings.Split(`@b
Q insert into t(v) values ('b')
wait
@a
P r select generate_series(1, 3)
P w insert into t(v) values ('a')
P ask select lastval()
B "" r
E "" 1
H
wait s
B w w
E w
E "" 1
H
wait s
B ask ask
E ask
E "" 1
S
wait
P r2 select generate_series(1, 3)
B "" r2
E "" 1
H
wait s
B ask2 ask
E ask2
S
wait
@c
P r select generate_series(1, 3)
P ask select lastval()
B "" r
E "" 1
H
wait s
B ask ask
E ask
S
wait`, "\n")}
	for _, size := range []int{1, 3} {
		direct, proxied := newDatabase(t, schema), newDatabase(t, schema)
		s := start(t, poolSize(size))
		want := play(t, c, shared(t).Primary.Addr(), direct, false)
		if diff := difference(want, play(t, c, s.addr, proxied, false)); diff != "" {
			t.Errorf("pool of %d:\n%s", size, diff)
		}
	}
}

// TestSequencesInABusyPool: the orders of calls of PDO, Hibernate and Doctrine give each of
// many sessions its own ids, on few connections. PGWEIR_FUZZ_TIME plays 10,000 rounds.
func TestSequencesInABusyPool(t *testing.T) {
	const sessions = 20
	rounds := 10
	if os.Getenv("PGWEIR_FUZZ_TIME") != "" {
		rounds = 500
	}
	database := newDatabase(t, "create table t(id serial primary key, who text)")
	run(t, "postgres", `alter database "`+database+`" set synchronous_commit = off`)
	s := start(t, poolSize(2))
	var all sync.WaitGroup
	for i := range sessions {
		all.Go(func() {
			mode := []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec}[i%3]
			if err := askForIDs(s.addr, database, mode, i, rounds); err != nil {
				t.Errorf("session %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if pinned := s.metric(t, "pgweir_pinned_sessions"); pinned != 0 {
		t.Errorf("%v sessions are pinned", pinned)
	}
}

func askForIDs(addr, database string, mode pgx.QueryExecMode, i, rounds int) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, "postgres://"+pgtest.Superuser+"@"+addr+"/"+database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	exec := func(sql string, args ...any) error {
		_, err := conn.Exec(ctx, sql, append([]any{mode}, args...)...)
		return err
	}
	for n := range rounds {
		who := fmt.Sprintf("%d.%d", i, n)
		ask := []string{"select lastval()", "select currval('t_id_seq')", "select currval('t_id_seq')"}[(i+n)%3]
		within := (i+n)%3 == 2
		if within {
			err = exec("begin")
		}
		if err == nil {
			err = exec("insert into t(who) values ($1)", who)
		}
		if err == nil && within {
			err = exec("commit")
		}
		var id int64
		if err == nil {
			err = conn.QueryRow(ctx, ask, mode).Scan(&id)
		}
		var got string
		if err == nil {
			err = conn.QueryRow(ctx, "select who from t where id = $1", mode, id).Scan(&got)
		}
		if err == nil && got != who {
			err = fmt.Errorf("the id is that of %s", got)
		}
		if err != nil {
			return fmt.Errorf("round %s: %w", who, err)
		}
	}
	return nil
}

// TestKeptConnectionsDecideNothing: a transaction that begins in a pipeline while its session's
// connection is kept for a question goes where it would have gone without.
func TestKeptConnectionsDecideNothing(t *testing.T) {
	database := newDatabase(t, items)
	s := start(t, eventual)
	for _, begin := range [][]string{
		{"begin isolation level repeatable read"},
		{"begin", "set transaction isolation level repeatable read"},
	} {
		c := raw(t, s.addr, database)
		c.query("insert into w values (1)")
		for _, sql := range begin {
			c.send(extended(sql)...)
		}
		c.send(append(extended("select count(*) from items"), advSync)...)
		c.wait("Z")
		if got := c.query("insert into w values (2)"); got[len(got)-1] != "Z T" {
			t.Errorf("%q: %q", begin, got)
		}
		c.close()
	}
}

// TestSequencesBehindCode: what code draws in a transaction can be asked for in it, and code that
// asks is not told what another session drew.
func TestSequencesBehindCode(t *testing.T) {
	t.Parallel()
	const setup = items + `create table t (id serial, v text); create function draws() returns bigint language plpgsql as 'begin return nextval(''sq''); end';
		create function lastp() returns bigint language plpgsql as 'begin return lastval(); end'; create function lasts() returns bigint language sql as 'select lastval()';
		create view lastv as select lastval() as l; create table kid (p bigint default lastval());`
	const other = "@b\nQ insert into t (v) values ('b')\n@a\n"
	stage{setup: setup}.tell(t,
		story{name: "drawn by a function", mode: "once", steps: other + "Q begin\nQ select draws()\nQ select currval('sq')\nQ commit"},
		story{name: "drawn behind LOCK in a string", mode: "once", steps: other + "Q begin\nQ lock table t; insert into t (v) values ('a')\nQ select currval('t_id_seq') is not null\nQ commit"},
		story{name: "of what is gone", mode: "once", steps: other + "P s select * from kid\nD S s\nS\nQ begin\nQ drop table kid\nB \"\" s\nE \"\"\nS\nQ rollback"},
		story{name: "asked by plpgsql", mode: "once", steps: other + "Q select lastp()"},
		story{name: "asked by sql", mode: "once", steps: other + "Q select lasts()"},
		story{name: "asked by a view", mode: "once", steps: other + "Q select * from lastv"},
		story{name: "asked by a default", mode: "once", steps: other + "Q insert into kid default values"},
		story{name: "asked by DO", mode: "once", steps: other + "Q do $$ begin raise notice '%', lastval(); end $$"},
		story{name: "asked behind modes", mode: "once", steps: other + "Q begin\nQ set transaction isolation level serializable; select currval('sq')\nQ rollback"},
	)
}

// TestResetBesideSequences: that what a sequence gave may be asked for does not keep a session on a
// connection whose defaults are not its own, where RESET needs one that began with them.
func TestResetBesideSequences(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, "create table t (id serial, v text)")
	s := oneEach(t)
	r := raw(t, s.addr, db, "options", "-c app.org=7")
	r.query("select count(*) from t")
	for range 3 {
		r.query("insert into t(v) values ('a')")
		if got := r.query("reset app.org; insert into t(v) values ('b'); select current_setting('app.org', true)"); !slices.Contains(got, `D "7"`) {
			t.Errorf("%v", got)
		}
	}
}
