package proxy_test

import "testing"

// TestTemporaryByName: temporary objects that are named with their schema, and dropped so.
func TestTemporaryByName(t *testing.T) {
	stage{}.tell(t,
		story{name: "view", steps: "Q create temp view tv as select 1\nQ drop view pg_temp.tv\nQ drop view pg_temp.tv"},
		story{name: "table", steps: "Q create temp table tt (a int)\nQ drop table pg_temp.tt\nQ drop table pg_temp.tt\nQ select * from pg_temp.tt"},
		story{name: "if exists", steps: "Q create temp table tt (a int)\nQ drop table pg_temp.tt\nQ drop table if exists pg_temp.tt"},
		story{name: "type", steps: "Q create type pg_temp.ty as enum ('a')\nQ drop type pg_temp.ty\nQ drop type pg_temp.ty"},
		story{name: "function", steps: "Q create function pg_temp.ff() returns int language sql as 'select 1'\nQ select pg_temp.ff()\nQ drop function pg_temp.ff()\nQ select pg_temp.ff()"},
	)
}
