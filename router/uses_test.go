package router

import "testing"

// TestUses: only what no change of the catalog can make wrong uses nothing.
func TestUses(t *testing.T) {
	plans := plansWith(loadCatalog(t), Options{})
	for sql, want := range map[string]bool{
		"":                                 false,
		"select 1":                         false,
		"select 1 + $1":                    true,
		"select 'x'::text, $1::int[]":      false,
		"select case when true then 1 end": false,
		"begin":                            false,
		"set app.x = 1":                    false,
		"set role none":                    false,
		"show timezone":                    false,
		"select pg_catalog.set_config('app.x', '1', false)": false,
		"select pg_catalog.now()":                           false,
		"prepare p as select 1":                             false,
		"select now()":                                      true, // another now() may be made
		"select set_config('app.x', '1', false)":            true,
		"select * from orders":                              true,
		"select * from pg_catalog.pg_class":                 true,
		"select 'sad'::mood":                                true,
		"select 1 <-> 2":                                    true,
		"insert into orders values (1)":                     true,
		"prepare p as select * from orders":                 true,
		"do $$ begin end $$":                                true,
		"call p()":                                          true,
		"create table x (a int)":                            true,
		"alter table orders add x int default now()":        true,
		"create table x as select now()":                    true,
		"drop table orders":                                 false, // it runs nothing that it names
		"create view x as select now() from orders":         false,
		"create or replace function f() returns int language sql as 'select 1'": false,
		"drop table orders; select now()":                                       true,
		"select from where":                                                     true,
	} {
		if got := plans.Get([]byte(sql)).Uses; got != want {
			t.Errorf("%q: %v", sql, got)
		}
	}
}
