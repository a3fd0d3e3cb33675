package proxy_test

import (
	"testing"

	"github.com/pgweir/pgweir/config"
)

// TestNewerImplicitBlocks: what a connection is told before a simple query opens no block that
// the query leaves open, as messages before it without a Sync do since PostgreSQL 18.
func TestNewerImplicitBlocks(t *testing.T) {
	t.Parallel()
	tenants := func(c *config.Config) { c.Tenant.Settings = []string{"app.current_org_id"} }
	stage{setup: items, change: []func(*config.Config){tenants}}.tell(t,
		story{name: "a tenant", steps: "Q set app.current_org_id = '1'\nQ insert into w values (1)\n@b\nQ set app.current_org_id = '2'\nQ insert into w values (2)\n@a\nQ insert into w values (3)\nQ select current_setting('app.current_org_id')\n@b\nQ rollback\nQ select count(*) from w"},
		story{name: "a setting", steps: "Q set work_mem = '1MB'\nQ insert into w values (1)\n@b\nQ insert into w values (2)\n@a\nQ insert into w values (3)\n@b\nQ rollback\nQ select count(*) from w"},
	)
	database := newDatabase(t, items)
	p := start(t, poolSize(2))
	for range 3 {
		c := raw(t, p.addr, database)
		if got := c.query("select currval('sq')"); got[len(got)-1] != "Z I" {
			t.Errorf("a sequence: %v", got)
		}
		c.query("select nextval('sq')")
		c.close()
	}
}
