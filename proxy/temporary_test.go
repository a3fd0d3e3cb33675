package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/config"
)

// TestTemporaryByName: temporary objects that are named with their schema, and dropped so.
func TestTemporaryByName(t *testing.T) {
	t.Parallel()
	stage{}.tell(t,
		story{name: "view", steps: "Q create temp view tv as select 1\nQ drop view pg_temp.tv\nQ drop view pg_temp.tv"},
		story{name: "table", steps: "Q create temp table tt (a int)\nQ drop table pg_temp.tt\nQ drop table pg_temp.tt\nQ select * from pg_temp.tt"},
		story{name: "if exists", steps: "Q create temp table tt (a int)\nQ drop table pg_temp.tt\nQ drop table if exists pg_temp.tt"},
		story{name: "type", steps: "Q create type pg_temp.ty as enum ('a')\nQ drop type pg_temp.ty\nQ drop type pg_temp.ty"},
		story{name: "function", steps: "Q create function pg_temp.ff() returns int language sql as 'select 1'\nQ select pg_temp.ff()\nQ drop function pg_temp.ff()\nQ select pg_temp.ff()"},
	)
}

// TestTemporaryCostsNothing: for temporary tables that come one after the other no catalog is read,
// and what is left is asked once the client pauses. The connection is free then.
func TestTemporaryCostsNothing(t *testing.T) {
	database := newDatabase(t, "create table known(a int)")
	s := start(t, func(c *config.Config) { c.Routing.CatalogInterval = time.Hour })
	c, direct := raw(t, s.addr, database), raw(t, shared(t).Primary.Addr(), database)
	until(t, "the catalog is read", func() bool {
		c.query("select * from known")
		return s.metric(t, "pgweir_statements_total", "target=replica") > 0
	})
	reading := func() bool {
		return direct.query("select count(*) from pg_stat_activity where datname = current_database() and application_name = 'pgweir'")[1] != `D "0"`
	}
	until(t, "nobody reads it any more", func() bool { return !reading() })
	asked := s.metric(t, "pgweir_read_backs_total")
	i := 0
	for begun := time.Now(); i < 20 || time.Since(begun) < 300*time.Millisecond; i++ { // a read would begin after 50 ms
		c.query(fmt.Sprintf("create temp table t%d(a int)", i))
		if got := tail(c.query(fmt.Sprintf("drop table t%d", i))); !strings.Contains(got, "DROP TABLE") {
			t.Fatal(got)
		}
		if i%10 == 9 && reading() {
			t.Fatal("the catalog is read")
		}
	}
	until(t, "the connection is free", func() bool {
		return s.metric(t, "pgweir_pinned_sessions") == 0 && s.metric(t, "pgweir_pool_connections", "database="+database, "state=used") == 0
	})
	if now := s.metric(t, "pgweir_read_backs_total"); now-asked > float64(i) {
		t.Errorf("asked %v times for %d tables", now-asked, i)
	}
	c.query("create temp table kept(a int)")
	c.query("create temp table gone(a int)")
	c.query("drop table gone")
	until(t, "the other is found", func() bool { return s.metric(t, "pgweir_read_backs_total") > asked+1 })
	if got := tail(c.query("select count(*) from kept")); !strings.Contains(got, "SELECT 1") {
		t.Errorf("what is left is lost: %s", got)
	}
}
