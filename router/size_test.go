package router

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// long are texts of about n bytes, each of the same thing again and again.
var long = map[string]func(n int) string{
	"values": func(n int) string {
		return "insert into couriers (organization_id) values (0)" + strings.Repeat(",(7)", n/4)
	},
	"other values": func(n int) string { return "insert into couriers (organization_id) values " + numbered(n, "(%d)", ",") },
	"no tenant":    func(n int) string { return "insert into orders values " + numbered(n, "(%d)", ",") },
	"parameters": func(n int) string {
		return "insert into couriers (organization_id) values " + numbered(n, "($%d)", ",")
	},
	"columns": func(n int) string { return "insert into couriers values (" + numbered(n, "%d", ",") + ")" },
	"in": func(n int) string {
		return "select 1 from couriers where organization_id in (" + numbered(n, "%d", ",") + ")"
	},
	"in rows": func(n int) string {
		return "select 1 from couriers where (id, organization_id) in (" + numbered(n, "(%d,7)", ",") + ")"
	},
	"any": func(n int) string {
		return "select 1 from couriers where organization_id = any (array[" + numbered(n, "%d", ",") + "])"
	},
	"or": func(n int) string {
		return "select 1 from couriers where " + numbered(n, "organization_id = %d", " or ")
	},
	"and": func(n int) string {
		return "select 1 from couriers where " + numbered(n, "id <> %d", " and ") + " and organization_id = 1"
	},
	"or of and": func(n int) string {
		return "select 1 from couriers where " + numbered(n, "organization_id = 1 and id = %d", " or ")
	},
	"case": func(n int) string {
		return "select case " + strings.Repeat("when true then 1 ", n/17) + "end from couriers"
	},
	"targets":    func(n int) string { return "select " + numbered(n, "id as a%d", ",") + " from couriers" },
	"stars":      func(n int) string { return "select " + strings.Repeat("*,", n/2) + "1 from couriers" },
	"functions":  func(n int) string { return "select " + numbered(n, "lower('%d')", ",") },
	"settings":   func(n int) string { return "select " + numbered(n, "current_setting('a.b%d')", ",") },
	"set_config": func(n int) string { return "select " + numbered(n, "set_config('a.b%d', '1', true)", ",") },
	"set":        func(n int) string { return numbered(n, "set a.b%d = 1", ";") },
	"statements": func(n int) string { return numbered(n, "select %d", ";") },
	"inserts":    func(n int) string { return numbered(n, "insert into couriers (organization_id) values (%d)", ";") },
	"ddl":        func(n int) string { return numbered(n, "create table a%d (a int)", ";") },
	"drop":       func(n int) string { return "drop table " + numbered(n, "a%d", ",") },
	"execute":    func(n int) string { return "execute p(" + numbered(n, "%d", ",") + ")" },
	"with":       func(n int) string { return "with " + numbered(n, "a%d as (select 1)", ",") + " select 1" },
	"with used": func(n int) string {
		return "with x as (select 1)," + numbered(n, "a%d as (select * from x)", ",") + " select 1"
	},
	"from":         func(n int) string { return "select 1 from " + numbered(n, "couriers a%d", ",") },
	"star of from": func(n int) string { return "select * from " + numbered(n, "couriers a%d", ",") },
	"joins":        func(n int) string { return "select 1 from couriers c " + numbered(n, "join couriers a%d on true", " ") },
	"joins on": func(n int) string {
		return "select 1 from couriers a0 " + numbered(n, "join couriers a%[1]d on a%[1]d.id = a0.id", " ")
	},
	"full joins": func(n int) string {
		return "select 1 from couriers a0 " + numbered(n, "full join couriers a%[1]d on true", " ")
	},
	"star of joins": func(n int) string { return "select * from couriers c " + numbered(n, "join couriers a%d on true", " ") },
	"left joins": func(n int) string {
		return "select 1 from couriers c " + numbered(n, "left join couriers a%d using (id)", " ")
	},
	"union": func(n int) string { return numbered(n, "select %d from couriers", " union all ") },
	"exists": func(n int) string {
		return "select 1 where " + numbered(n, "exists (select %d from couriers)", " and ")
	},
	"scalar": func(n int) string { return "select " + numbered(n, "(select %d)", ",") },
	"update": func(n int) string { return "update couriers set " + numbered(n, "a%d = 1", ",") },
	"do":     func(n int) string { return "do $$ begin " + numbered(n, "perform f%d()", ";") + "; end $$" },
	"do settings": func(n int) string {
		return "do $$ begin " + numbered(n, "perform set_config('a.b%d', '1', true)", ";") + "; end $$"
	},
	"comments":    func(n int) string { return "select 1" + strings.Repeat("/* pgweir:x */", n/14) },
	"strings":     func(n int) string { return "select '" + strings.Repeat("x", n) + "'" },
	"quotes":      func(n int) string { return "select '" + strings.Repeat("''", n/2) + "'" },
	"operators":   func(n int) string { return "select 1" + strings.Repeat(" + 1", n/4) },
	"parentheses": func(n int) string { return "select " + strings.Repeat("(", n/2) + "1" + strings.Repeat(")", n/2) },
	"nested selects": func(n int) string {
		return "select " + strings.Repeat("(select ", n/9) + "1" + strings.Repeat(")", n/9)
	},
	"invalid": func(n int) string { return strings.Repeat("select from where ", n/18) },
}

// numbered is form with 1, 2, … until it is n bytes long.
func numbered(n int, form, between string) string {
	var b strings.Builder
	for i := 1; b.Len() < n; i++ {
		if i > 1 {
			b.WriteString(between)
		}
		fmt.Fprintf(&b, form, i)
	}
	return b.String()
}

// planOnce is the processor time it takes to make a Plan, and to make it ready to run
// again: the thread's own, without the collector's, so that a busy machine changes nothing.
func planOnce(p *Plans, text string) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	bytes := []byte(text)
	began := threadTime()
	plan := p.Get(bytes)
	if plan.Tenant != nil {
		for i := range plan.Tenant.Values {
			plan.TenantLiteral(i, bytes)
		}
	}
	Explain(plan, nil)
	return threadTime() - began
}

// threadTime is the processor time that the calling thread has used, to the nanosecond:
// getrusage counts by the tick, of which the least of a few says nothing.
func threadTime() time.Duration {
	var at unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &at)
	return time.Duration(at.Nano())
}

// TestSizes: a Plan takes time in proportion to the text.
func TestSizes(t *testing.T) {
	for name, of := range long {
		t.Run(name, func(t *testing.T) {
			var took [2]time.Duration
			for i, size := range []int{8 << 10, 64 << 10} {
				took[i] = time.Hour
				text := of(size)
				for range 2 {
					took[i] = min(took[i], planOnce(tenantPlans(t), text))
				}
			}
			t.Log(took)
			if limit := 8 * 4 * max(took[0], 2*time.Millisecond); took[1] > limit {
				t.Errorf("8 times the text takes %.0f times as long: %v", float64(took[1])/float64(took[0]), took)
			}
		})
	}
}

// BenchmarkSizes: 16 KB, 64 KB and 256 KB of one thing, analysed anew each time. Wall time
// on a shared two-core machine:
//
//	rows of VALUES          14, 49, 195 ms
//	rows of parameters       6, 21,  81 ms
//	arms of OR               5, 19,  78 ms
//	arguments of EXECUTE     7, 23,  84 ms
//	joins                   12, 30 ms; 256 KB of them are too deep
func BenchmarkSizes(b *testing.B) {
	for _, name := range []string{"values", "parameters", "or", "in", "joins", "execute", "do"} {
		for _, times := range []int{1, 4, 16} {
			b.Run(fmt.Sprintf("%s/%dx", name, times), func(b *testing.B) {
				text := long[name](times * 16 << 10)
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					planOnce(tenantPlans(b), text)
				}
			})
		}
	}
}
