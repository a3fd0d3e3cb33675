package proxy

import (
	"fmt"
	"sync"
	"testing"

	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

func tables(names ...string) catalog.Footprint {
	f := catalog.NoTable()
	for _, n := range names {
		f = f.With(catalog.OneTable(n))
	}
	return f
}

func changed(writes catalog.Footprint) *changes {
	ch := &changes{}
	ch.add(writes, 1, 0, true)
	return ch
}

func TestCommits(t *testing.T) {
	const tenant, session = scope(400), scope(803)
	for name, c := range map[string]struct {
		in     scope
		writes catalog.Footprint
		of     scope
		reads  catalog.Footprint
		sees   bool
	}{
		"the same table":         {everybody, tables("a"), everybody, tables("a"), true},
		"one of several":         {everybody, tables("a", "b"), everybody, tables("b", "c"), true},
		"another table":          {everybody, tables("a"), everybody, tables("b"), false},
		"no table":               {everybody, tables("a"), everybody, tables(), false},
		"any was written":        {everybody, anyFootprint, everybody, tables("b"), true},
		"any was written, no":    {everybody, anyFootprint, everybody, tables(), true},
		"any is read":            {everybody, tables("a"), everybody, anyFootprint, true},
		"any is read, none":      {everybody, tables(), everybody, anyFootprint, true},
		"another scope":          {tenant, tables("a"), session, tables("a"), false},
		"another scope, any":     {tenant, anyFootprint, session, anyFootprint, false},
		"more than are told off": {everybody, tables("a", "b", "c", "d", "e", "f", "g"), everybody, tables("z"), true},
	} {
		var cs commits
		cs.note(c.in, changed(c.writes), 7)
		if got := cs.last(c.of, c.reads); (got == 7) != c.sees || got != 0 && got != 7 {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// What a transaction changed is joined; what two catalogs say of it, or for two
// tenants, counts for any.
func TestChanges(t *testing.T) {
	ch := changed(tables("a"))
	ch.add(tables("b"), 1, 0, true)
	if ch.any || ch.several || !ch.concerns(tables("b")) || ch.concerns(tables("c")) {
		t.Errorf("%+v", ch)
	}
	other := *ch
	if other.add(tables("a"), 2, 0, true); !other.any || !other.concerns(tables()) {
		t.Errorf("of two catalogs: %+v", other)
	}
	other = *ch
	if other.add(tables("a"), 1, tenantScope("7"), true); !other.several || other.any {
		t.Errorf("for two tenants: %+v", other)
	}
	other = *ch
	if other.add(anyFootprint, 1, 0, true); !other.several || !other.any {
		t.Errorf("of anything: %+v", other)
	}
}

// A catalog that comes while commits are noted leaves none of them behind.
func TestCommitsWhileTheCatalogChanges(t *testing.T) {
	var cs commits
	cs.note(everybody, changed(tables("a")), 5)
	cs.while(func() bool {
		if got := cs.last(everybody, tables("b")); got != cluster.Never {
			t.Errorf("meanwhile reads need %d", got)
		}
		return false
	})
	if got := cs.last(everybody, tables("b")); got != 0 {
		t.Errorf("nothing changed, and reads need %d", got)
	}
	before := cluster.Now()
	cs.while(func() bool { return true })
	if got := cs.last(everybody, tables("b")); got < before || got == cluster.Never {
		t.Errorf("afterwards reads need %d", got)
	}
}

func TestUnsureWritesComeAndGo(t *testing.T) {
	var cs commits
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			w := &unsureWrite{*changed(tables(fmt.Sprint(i))), sessionScope(uint64(i))}
			cs.open(w)
			if open := cs.unsure.Load(); open == nil || len(*open) == 0 {
				t.Error("none is open")
			}
			cs.settle(w)
		})
	}
	wg.Wait()
	if open := cs.unsure.Load(); open != nil {
		t.Errorf("%d are left", len(*open))
	}
	if cs.last(everybody, tables("7")) == 0 {
		t.Error("a settled write counts for nothing")
	}
}

// What a read asks, and what a commit notes, on one core of a shared two-core machine:
//
//	last    15 ns, no allocation
//	note   140 ns, no allocation, most of it the clock
func BenchmarkCommits(b *testing.B) {
	var cs commits
	reads, ch := tables("orders", "customers"), changed(tables("orders"))
	b.Run("last", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			cs.last(everybody, reads)
		}
	})
	b.Run("note", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			cs.note(everybody, ch, cluster.Now())
		}
	})
}

func TestCommitsWithin(t *testing.T) {
	plans := router.NewPlans(router.Options{})
	for sql, want := range map[string]bool{
		"call p()": true, "do 'begin end'": true, "vacuum": true, "begin; insert into t values (1); commit": true,
		"commit prepared 'x'": true, "create index concurrently on t (i)": true,
		"insert into t values (1)": false, "select 1": false, "commit": false, "create table t()": false,
	} {
		if got := commitsWithin(plans.Get([]byte(sql))); got != want {
			t.Errorf("%s: %v", sql, got)
		}
	}
}
