package proxy_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/config"
)

// world is what the scripts find, and what is restored before each.
const world = `
create table items (id int primary key, name text not null, price numeric not null default 1);
create table log (id serial primary key, line text not null check (line <> 'bad'), unique (line));
create view dear as select * from items where price > 10;
create function noisy(n int) returns int language plpgsql stable as
	$$ begin raise notice 'noisy %', n using detail = 'a detail', hint = 'a hint'; return n; end $$;
create function failing(n int) returns int language plpgsql stable as
	$$ begin if n = 3 then raise exception 'not %', n using errcode = 'P0099', detail = 'a detail', hint = 'a hint'; end if; return n; end $$;
create function liar(t text) returns int language plpgsql stable as
	$$ begin perform write_log(t); return 1; end $$;
create function write_log(t text) returns int language plpgsql volatile as
	$$ begin insert into log (line) values (t); return 1; end $$;
create function told(t text) returns void language plpgsql volatile as
	$$ begin raise notice '%', t; perform pg_advisory_xact_lock(77); raise notice 'after %', t; end $$;
`

const restore = `
drop schema if exists own cascade;
create schema own;
truncate items, log restart identity;
insert into items select i, 'item ' || i, i from generate_series(1, 20) i;
`

// way is one way of playing a script through a proxy.
type way struct {
	name     string
	s        *service
	database string
	single   bool // byte by byte
	one      bool // there is but one connection to each server
}

// TestProtocol plays every script of testdata/protocol directly to PostgreSQL
// and in several ways through the proxy. Whatever the client sees must be the same.
func TestProtocol(t *testing.T) {
	ordinary := start(t)
	single := start(t, poolSize(1), eventual, func(c *config.Config) { c.Insight.Enabled = true })
	narrow := start(t, poolSize(1), maxStatements(1), eventual)
	direct := newDatabase(t, world)
	ways := []way{
		{name: "whole", s: ordinary, database: newDatabase(t, world)},
		{name: "bytes", s: ordinary, database: newDatabase(t, world), single: true},
		{name: "one connection", s: single, database: newDatabase(t, world), one: true},
		{name: "one statement", s: narrow, database: newDatabase(t, world), one: true},
	}
	files, err := filepath.Glob("testdata/protocol/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			for _, s := range readScripts(t, file) {
				t.Run(s.name, func(t *testing.T) { compareWays(t, s, direct, ways) })
			}
		})
	}
}

func compareWays(t *testing.T, s *script, direct string, ways []way) {
	prepare(t, s, direct)
	want := play(t, s, shared(t).Primary.Addr(), direct, false)
	if testing.Verbose() {
		t.Logf("directly:\n%s", tail(want))
	}
	for _, w := range ways {
		if w.single && s.whole || w.one && s.many {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			prepare(t, s, w.database)
			got := play(t, s, w.s.addr, w.database, w.single)
			if d := difference(want, got); d != "" {
				t.Errorf("%s", d)
			}
		})
	}
}

func prepare(t *testing.T, s *script, database string) {
	t.Helper()
	run(t, database, restore+strings.Join(s.setup, ";\n"))
}
