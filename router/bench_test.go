package router

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// ormSelect is a statement as an ORM writes it: 43 columns, every one renamed.
func ormSelect() string {
	var cols []string
	for i := range 43 {
		cols = append(cols, fmt.Sprintf("couriers.column_number_%d AS couriers_column_number_%d", i, i))
	}
	return "SELECT " + strings.Join(cols, ", ") + " FROM couriers WHERE couriers.organization_id = "
}

func BenchmarkGet(b *testing.B) {
	facts := loadCatalog(b)
	b.Run("short/new literals", func(b *testing.B) {
		benchLiterals(b, facts, "SELECT abalance FROM pgbench_accounts WHERE aid = ")
	})
	b.Run("orm/new literals", func(b *testing.B) { benchLiterals(b, facts, ormSelect()) })
	b.Run("short/parameters", func(b *testing.B) {
		p := plansWith(facts, Options{})
		text := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = $1")
		b.ReportAllocs()
		for b.Loop() {
			p.Get(text)
		}
	})
	b.Run("exact/BEGIN", func(b *testing.B) {
		p := plansWith(facts, Options{})
		text := []byte("BEGIN")
		b.ReportAllocs()
		for b.Loop() {
			p.Get(text)
		}
	})
	b.Run("short/parallel", func(b *testing.B) {
		p := plansWith(facts, Options{})
		text := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 12345")
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p.Get(text)
			}
		})
	})
}

// BenchmarkGetString is Get for a transaction in one string that sets a value of its own each time.
func BenchmarkGetString(b *testing.B) {
	p := plansWith(loadCatalog(b), Options{})
	i := 0
	var text []byte
	b.ReportAllocs()
	for b.Loop() {
		i++
		text = fmt.Appendf(text[:0], "BEGIN; SET LOCAL app.current_org_id = '%d'; SELECT abalance FROM pgbench_accounts WHERE aid = %d; COMMIT;", i%100, i%100000)
		p.Get(text)
	}
}

func benchLiterals(b *testing.B, facts facts, head string) {
	p := plansWith(facts, Options{})
	text := []byte(head)
	n := len(text)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		text = strconv.AppendInt(text[:n], int64(i%100000), 10)
		p.Get(text)
	}
}

func BenchmarkMask(b *testing.B) {
	text := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 12345")
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		mask(buf, text)
	}
}

func BenchmarkMiss(b *testing.B) {
	facts := loadCatalog(b)
	for name, text := range map[string]string{
		"short": "SELECT abalance FROM pgbench_accounts WHERE aid = 12345", "orm": ormSelect() + "1",
	} {
		b.Run(name, func(b *testing.B) {
			p := plansWith(facts, Options{})
			g := p.gen.Load()
			for b.Loop() {
				p.analyse(g, nil, keyMasked, []byte(text))
			}
		})
	}
}
