package catalog

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// asking returns a QueryParam on a connection of its own, and what runs SQL over it.
func asking(t *testing.T, s *pgtest.Server, database string) (q QueryParam, run func(sql string)) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), s.ConnString(database, pgtest.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	run = func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatal(sql, err)
		}
	}
	return func(ctx context.Context, sql, param string, row func([][]byte) error) error {
		rows := conn.ExecParams(ctx, sql, [][]byte{[]byte(param)}, nil, nil, nil)
		for rows.NextRow() {
			if err := row(rows.Values()); err != nil {
				rows.Close()
				return err
			}
		}
		_, err := rows.Close()
		return err
	}, run
}

// TestFew: what is taken for harmless by asking for it alone is so by the whole catalog, and
// most of what is harmless is taken for it.
func TestFew(t *testing.T) {
	c, db := nasty(t)
	s := load(t, connect(t, c.Primary, db, pgtest.Superuser), LoadOptions{})
	q, _ := asking(t, c.Primary, db)
	var relations [][2]string
	if err := connect(t, c.Primary, db, pgtest.Superuser)(t.Context(), "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = relnamespace where c.oid >= 16384 and relkind in ('r', 'v', 'm', 'f', 'p', 'S')",
		func(v [][]byte) error {
			relations = append(relations, [2]string{string(v[0]), string(v[1])})
			return nil
		}); err != nil {
		t.Fatal(err)
	}
	found, harmless := 0, 0
	for _, r := range relations {
		few, err := AskFew(t.Context(), q, s, []string{"another", r[1], `wei"rd\`})
		if err != nil {
			t.Fatal(err)
		}
		whole, alone := s.Relation(r[0], r[1]), few.Relation(r[0], r[1])
		clean := whole.Clean && whole.WriteClean && !whole.Sets && !whole.WriteSets && whole.Touches == whole.WriteTouches && len(whole.Touches.List()) == 0
		if clean {
			harmless++
		}
		if alone.Known {
			found++
		}
		if alone.Known && !clean {
			t.Errorf("%s.%s is taken for harmless, and is %+v", r[0], r[1], whole)
		}
		if few.Relation("elsewhere", r[1]).Known || few.Relation("", "another").Known {
			t.Errorf("%s.%s: others are known", r[0], r[1])
		}
	}
	t.Logf("%d of %d relations are harmless, %d are taken for it", harmless, len(relations), found)
	if found < 8 {
		t.Errorf("%d of %d harmless relations are found", found, harmless)
	}
}

// TestFewOfSession: temporary tables are those of the session that asks, and nothing in the
// query is found by its search_path.
func TestFewOfSession(t *testing.T) {
	c, db := nasty(t)
	s := load(t, connect(t, c.Primary, db, pgtest.Superuser), LoadOptions{})
	mine, run := asking(t, c.Primary, db)
	others, runOthers := asking(t, c.Primary, db)
	run("create temp table fresh(a int)")
	runOthers("create temp table other(a int); create function lies() returns trigger language plpgsql as 'begin return new; end';" +
		"create table public.triggered(a int); create trigger t before insert on triggered for each row execute function lies()")
	ask := func(q QueryParam, name string) (string, bool) {
		few, err := AskFew(t.Context(), q, s, []string{name})
		if err != nil {
			t.Fatal(err)
		}
		known, _ := json.Marshal([]bool{few.Relation("", name).Known, few.Relation("pg_temp", name).Known, few.Relation("public", name).Known})
		return string(known), few.Lasting
	}
	for _, c := range []struct {
		q    QueryParam
		name string
		want string
	}{
		{mine, "fresh", "[true,true,false]"},
		{others, "fresh", "[false,false,false]"},
		{mine, "triggered", "[false,false,false]"},
	} {
		if got, lasting := ask(c.q, c.name); got != c.want || lasting {
			t.Errorf("%s: %s, lasting %t, want %s", c.name, got, lasting, c.want)
		}
	}
	// Everything equals everything, and nothing exists.
	run(`create schema liar; create function liar.yes(oid, oid) returns bool language sql as 'select false';
		create operator liar.= (leftarg = oid, rightarg = oid, function = liar.yes); set search_path = liar, pg_catalog, public`)
	if got, _ := ask(mine, "triggered"); got != "[false,false,false]" {
		t.Errorf("under a search_path of its own: %s", got)
	}
	if got, _ := ask(mine, "fresh"); got != "[true,true,false]" {
		t.Errorf("under a search_path of its own: %s", got)
	}
}
