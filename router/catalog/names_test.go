package catalog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"

	"github.com/pgweir/pgweir/internal/pgtest"
)

func TestJoin(t *testing.T) {
	good := Relation{Fact: Fact{Known: true, Replica: true, Clean: true}, WriteClean: true}
	all := []Relation{
		{}, good,
		{Fact: Fact{Known: true, Clean: true, Why: "volatile"}, WriteClean: true},
		{Fact: Fact{Known: true, Clean: true, Why: "unlogged"}, WriteClean: true},
		{Fact: Fact{Known: true, Replica: true, Why: "state"}},
		{Fact: Fact{Known: true, Why: "sequence"}},
		{Fact: Fact{Known: true, Replica: true, Clean: true, Why: "trigger"}},
	}
	for _, a := range all {
		if join(a, a) != a || join(a, Relation{}) != a {
			t.Errorf("%+v with itself or nothing", a)
		}
		for _, b := range all {
			ab := join(a, b)
			if ab != join(b, a) {
				t.Errorf("the order of %+v and %+v matters", a, b)
			}
			if a.Known && b.Known && (ab.Replica != (a.Replica && b.Replica) || ab.Clean != (a.Clean && b.Clean) ||
				ab.WriteClean != (a.WriteClean && b.WriteClean) || (ab.Why == "") != (a.Why == "" && b.Why == "")) {
				t.Errorf("%+v and %+v give %+v", a, b, ab)
			}
		}
	}
}

// TestNameTable holds the table to a plain map.
func TestNameTable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	facts := []Relation{
		{Fact: Fact{Known: true, Replica: true, Clean: true}, WriteClean: true},
		{Fact: Fact{Known: true, Clean: true, Why: "volatile"}},
		{Fact: Fact{Known: true, Replica: true, Why: "state"}},
	}
	var objects []named
	plain := map[[2]string]Relation{}
	for range 5000 {
		o := named{"s" + strconv.Itoa(r.IntN(4)), strconv.Itoa(r.IntN(1500)), facts[r.IntN(3)]}
		objects = append(objects, o)
		for _, schema := range []string{"", o.schema} {
			key := [2]string{schema, o.name}
			plain[key] = join(plain[key], o.fact)
		}
	}
	table := newNameTable(objects)
	for name := range 1600 {
		for _, schema := range []string{"", "s0", "s1", "s2", "s3", "s4"} {
			if got, want := table.find(schema, strconv.Itoa(name)), plain[[2]string{schema, strconv.Itoa(name)}]; got != want {
				t.Fatalf("%s.%d: %+v, want %+v", schema, name, got, want)
			}
		}
	}
}

// manyRelations answers relationsQuery with n good tables, and all else with nothing.
func manyRelations(n int) Query {
	return func(_ context.Context, sql string, row func([][]byte) error) error {
		for i := 0; sql == relationsQuery && i < n; i++ {
			id := strconv.Itoa(100000 + i)
			err := row([][]byte{[]byte(id), []byte("public"), []byte("some_table_name_" + id), []byte("r"), []byte("p"), []byte("f")})
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// TestCompact: a hundred thousand plain tables cost less than 20 bytes and their names each.
func TestCompact(t *testing.T) {
	const tables = 100_000
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	s := load(t, manyRelations(tables), LoadOptions{})
	used := heap() - before
	if s.Relations() != tables || used > (20+22)*tables {
		t.Errorf("%d relations in %d bytes", s.Relations(), used)
	}
	runtime.KeepAlive(s)
}

// BenchmarkFunction: one look-up of an unqualified name, which no schema but
// pg_catalog bears, among PostgreSQL's own: about 130 ns and no allocation.
func BenchmarkFunction(b *testing.B) {
	s := Builtin()
	b.ReportAllocs()
	for b.Loop() {
		if !s.Function("", "lower").Replica {
			b.Fatal("lower")
		}
	}
}

// BenchmarkLoad is the work on this side of a load of 100,000 tables.
func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		load(b, manyRelations(100_000), LoadOptions{})
	}
}

// BenchmarkReload is a load after CREATE TABLE in a database with little else: 24 ms on a
// busy machine of two cores, where
// a whole load takes 85.
func BenchmarkReload(b *testing.B) {
	c := pgtest.Shared(b)
	db := c.Database(b)
	q := connect(b, c.Primary, db, pgtest.Superuser)
	s := load(b, q, LoadOptions{})
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		if err := c.Primary.Exec(b.Context(), db, fmt.Sprintf("create table t%d (a int)", i)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		s = load(b, q, LoadOptions{Previous: s})
	}
}
