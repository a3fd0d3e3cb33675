package freshness

import (
	"testing"
	"time"

	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// What a level promises of the commits of a session and of three others: of its tenant,
// of another tenant, and of one that is not certain. Each touched a table of its own.
func TestRequired(t *testing.T) {
	const arrival = 1000
	mine, tenant := SessionScope(1), TenantScope("a")
	var cs Commits
	commit := func(table string, at cluster.Moment, scopes ...Scope) {
		for _, s := range append(scopes, Everybody) {
			cs.note(s, changed(tables(table)), at)
		}
	}
	commit("mine", 10, mine, tenant)
	commit("colleague", 20, SessionScope(2), tenant)
	commit("stranger", 30, SessionScope(3), TenantScope("b"))
	commit("uncertain", 40, SessionScope(4), EveryTenant)
	for _, c := range []struct {
		level                                      router.Consistency
		tenant                                     Scope
		mine, colleague, stranger, uncertain, none cluster.Moment
	}{
		{router.ConsistencyNone, tenant, 0, 0, 0, 0, 0},
		{router.Eventual, tenant, 0, 0, 0, 0, 0},
		{router.Session, tenant, 10, 0, 0, 0, 0},
		{router.Tenant, tenant, 10, 20, 0, 40, 0},
		{router.Tenant, 0, 10, 20, 30, 40, 0},
		{router.Database, tenant, 10, 20, 30, 40, 0},
		{router.Strong, tenant, arrival, arrival, arrival, arrival, arrival},
	} {
		for table, want := range map[string]cluster.Moment{
			"mine": c.mine, "colleague": c.colleague, "stranger": c.stranger, "uncertain": c.uncertain, "none": c.none,
		} {
			r := Read{Level: c.level, Tables: tables(table), Session: mine, Tenant: c.tenant, Began: arrival}
			if want == 0 {
				want = cluster.AnyTime
			}
			if got := cs.Required(&r); got != want {
				t.Errorf("%v, tenant %v, %s: %d, want %d", c.level, c.tenant != 0, table, got, want)
			}
			r.MaxStaleness = 975 * time.Nanosecond
			if got := cs.Required(&r); got != max(want, 25) {
				t.Errorf("%v, tenant %v, %s, not staler than 975: %d", c.level, c.tenant != 0, table, got)
			}
		}
	}
}

// Where others commit, too, the reads of a tenant or database are as fresh as strong ones;
// those of a session know all that they are promised.
func TestRequiredWithOthers(t *testing.T) {
	for level, want := range map[router.Consistency]cluster.Moment{
		router.Eventual: cluster.AnyTime, router.Session: cluster.AnyTime, router.Tenant: 1000, router.Database: 1000, router.Strong: 1000,
	} {
		var cs Commits
		r := Read{Level: level, Tables: tables("t"), Session: SessionScope(1), Tenant: TenantScope("a"), Began: 1000, Others: true}
		if got := cs.Required(&r); got != want {
			t.Errorf("%v: %d, want %d", level, got, want)
		}
	}
}

// A write in doubt has those reads wait that it may concern: see InDoubt.
func TestRequiredInDoubt(t *testing.T) {
	a, b := TenantScope("a"), TenantScope("b")
	for name, c := range map[string]struct {
		level           router.Consistency
		session, tenant Scope
		reads           catalog.Footprint
		sure, waits     bool
	}{
		"eventual":                     {router.Eventual, SessionScope(1), a, tables("t"), true, false},
		"its own session":              {router.Session, SessionScope(1), a, tables("t"), true, true},
		"another table":                {router.Session, SessionScope(1), a, tables("u"), true, false},
		"any table":                    {router.Session, SessionScope(1), a, anyTables, true, true},
		"another session":              {router.Session, SessionScope(2), a, tables("t"), true, false},
		"its tenant":                   {router.Tenant, SessionScope(2), a, tables("t"), true, true},
		"another tenant":               {router.Tenant, SessionScope(2), b, tables("t"), true, false},
		"another, if that were known":  {router.Tenant, SessionScope(2), 0, tables("t"), true, true},
		"written for nobody knows who": {router.Tenant, SessionScope(2), b, tables("t"), false, true},
		"anybody":                      {router.Database, SessionScope(2), b, tables("t"), true, true},
	} {
		var cs Commits
		var ch Changes
		ch.Add(tables("t"), 1, a, c.sure)
		w := cs.Doubt(SessionScope(1), ch)
		r := Read{Level: c.level, Tables: c.reads, Session: c.session, Tenant: c.tenant, Began: 1000}
		if got := cs.Required(&r) == 1000; got != c.waits {
			t.Errorf("%s: %v", name, got)
		}
		cs.Resolve(w)
		if got := cs.Required(&r); got == 1000 {
			t.Errorf("%s: it is still in doubt", name)
		}
	}
}
