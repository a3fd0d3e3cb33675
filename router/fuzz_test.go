package router

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// FuzzCacheEqualsAnalysis: a Plan found in the cache after any other text of
// the same mask was put there is the Plan the exact text gives.
func FuzzCacheEqualsAnalysis(f *testing.F) {
	seedTexts(f)
	facts := loadCatalog(f)
	o := Options{Rules: testRules, Unsafe: []string{"lower"}}
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		direct := plansWith(facts, o).Get(text)
		cache := plansWith(facts, o)
		key, ok := mask(nil, text)
		if ok {
			other := unmask(key, rand.New(rand.NewPCG(seed, 1)))
			if again, ok := mask(nil, other); ok && string(again) == string(key) {
				cache.Get(other)
			}
		}
		for range 2 {
			if got := cache.Get(text); got.line() != direct.line() {
				t.Fatalf("%q\n cached %s\n direct %s", text, got.line(), direct.line())
			}
		}
	})
}

// FuzzGet: no text panics, and what is not proved goes to the primary.
func FuzzGet(f *testing.F) {
	seedTexts(f)
	facts := loadCatalog(f)
	f.Fuzz(func(t *testing.T, text []byte, _ uint64) {
		p := plansWith(facts, Options{})
		plan := p.Get(text)
		p.Learn(text)
		learned := p.Get(text)
		if learned.Target == TargetReplica && !learned.Flags.Has(FlagHint) {
			t.Fatalf("%q: learned, yet %s", text, learned.line())
		}
		if plan.Class == ClassWrite && plan.Target != TargetPrimary {
			t.Fatalf("%q: a write, yet %s", text, plan.line())
		}
		if plan.Pins != 0 && !plan.SetOnly && plan.Target != TargetPrimary {
			t.Fatalf("%q: it pins, yet %s", text, plan.line())
		}
		if s := plan.SQL; s.NameEnd > len(text) || s.NameStart > s.NameEnd {
			t.Fatalf("%q: name at [%d, %d)", text, s.NameStart, s.NameEnd)
		}
		Explain(plan, p.Snapshot())
	})
}

func seedTexts(f *testing.F) {
	files, _ := filepath.Glob("testdata/plans/*.txt")
	n := uint64(0)
	for _, path := range files {
		for _, e := range readData(f, path) {
			n++
			f.Add([]byte(e.sql), n)
		}
	}
	for _, s := range []string{
		"", "\x00", "\xff\xfe", "select '\xe9'", "select \xe9", "select 'a\x00'", "select $1$", "$", "'", "\"", "/*", "--",
		"select 1/*/**/", strings.Repeat("(", 5000), "select " + strings.Repeat("-", 100), "set x=1;set y=2",
		"prepare", "execute", "explain execute", "create table a as execute", "deallocate", "select f(1e309)",
		"set pgweir.traceparent = 'x'", "select 1 /* pgweir:primary,traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' */ + 'x'",
	} {
		f.Add([]byte(s), n)
	}
}

// unmask writes other literals in the place of those the key leaves out.
func unmask(key []byte, r *rand.Rand) []byte {
	words := []string{
		"", "x", "public", "app.other", "timezone", "in_hot_standby", "search_path", "pg_temp", "true", "false", "off", "0", "1",
		"serializable", "primary", "role", "it''s", "/*", "--", "pgweir:primary", "é", "\xe9", "select 1; drop table t", "orders_id_seq",
	}
	comments := []string{"", " x ", "'", " /* y */ ", "traceparent='00-ab-01'", " report "}
	var b strings.Builder
	for _, c := range key {
		switch c {
		case maskString:
			b.WriteString("'" + words[r.IntN(len(words))] + "'")
		case maskInt:
			b.WriteString(strconv.Itoa(int(r.Int32N(1 << uint(1+r.IntN(30))))))
		case maskFloat:
			b.WriteString([]string{"0.5", "1e5", "99999999999", ".5", "3."}[r.IntN(5)])
		case maskComment:
			b.WriteString("/*" + comments[r.IntN(len(comments))] + "*/")
		case maskLine:
			b.WriteString("--" + comments[r.IntN(len(comments))])
		case maskParent:
			fmt.Fprintf(&b, "00-%032x-%016x-01", r.Uint64(), r.Uint64())
		default:
			b.WriteByte(c)
		}
	}
	return []byte(b.String())
}
