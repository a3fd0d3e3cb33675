package catalog

import (
	"testing"

	"github.com/pgweir/pgweir/internal/pgtest"
)

func TestFolds(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	exec := func(sql string) {
		t.Helper()
		if err := c.Primary.Exec(t.Context(), db, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`create table doc (id int);
create function asks() returns text language sql stable as $$ select current_setting('app.a', true) $$;
create function adds(int) returns int language plpgsql immutable as $$ begin return $1 + 1; end $$`)
	q := connect(t, c.Primary, db, pgtest.Superuser)
	for _, x := range []struct {
		body  string
		folds bool
	}{
		{"language sql as $$ select upper('x') $$", false},
		{"language plpgsql as $$ begin return adds(1)::text; end $$", false},
		{"language sql begin atomic select upper('x'); end", false},
		{"language plpgsql as $$ begin return current_setting('app.a', true); end $$", true},
		{"language sql as $$ select pg_catalog.\"current_setting\"('app.a') $$", true},
		{"language sql as $$ select current_user::text $$", true},
		{"language sql as $$ select asks() $$", true},
		{"language sql begin atomic select current_setting('app.a', true); end", true},
		{"language sql begin atomic select asks(); end", true},
		{"language sql as $$ select max(id)::text from doc $$", true},
		{"language plpgsql as $$ begin execute 'select 1'; return ''; end $$", true},
	} {
		exec("create function f() returns text immutable " + x.body)
		s := load(t, q, LoadOptions{})
		if s.Folds() != x.folds {
			t.Errorf("%s: %v", x.body, s.Folds())
		}
		exec("alter function f() stable")
		if s := load(t, q, LoadOptions{Previous: s}); s.Folds() {
			t.Errorf("stable, %s: true", x.body)
		}
		exec("drop function f()")
	}
	if none := (*Snapshot)(nil); !none.Folds() {
		t.Error("where nothing is known, nothing folds")
	}
}
