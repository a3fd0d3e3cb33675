package proxy_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Who misspells a hint is told, once a session, by whatever protocol; who does not, or
// writes something else, is not.
func TestMisspeltHints(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t)
	warned := func(lines []string) int { return strings.Count(tail(lines), "N WARNING WARNING 01000 ") }
	for sql, want := range map[string]int{
		"/* pgweir:primry */ select 1":                             1,
		"select 1 -- pgweir:replca":                                1,
		"/* pgweir: primary */ select 1":                           1,
		"/* pgweir:consistency=stong */ select 1":                  1,
		"/* pgweir:min_lsn=x */ select 1":                          1,
		"/* pgweir:primary=yes */ select 1":                        1,
		"/* pgweir:primary */ select 1":                            0,
		"/* pgweir:consistency=strong */ select 1":                 0,
		"/* see pgweir: it knows */ select 1":                      0,
		"select 1 /* pgweir:cross-tenant reason=monthly report */": 0,
		"select 1 -- pgweir:cross-tenant":                          0,
		"/* pgweir:cross-tennant */ select 1":                      1,
		"/* pgweir: cross-tenant */ select 1":                      1,
		"select '/* pgweir:primry */'":                             0,
		"/* pgweir:primary pgweir:replcia */ begin":                1,
	} {
		for _, extended := range []bool{false, true} {
			r := raw(t, s.addr, database)
			ask := func() []string {
				if !extended {
					return r.query(sql)
				}
				r.send(&pgproto3.Parse{Query: sql}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
				return r.wait("Z")
			}
			counted, logged := s.metric(t, "pgweir_misspelt_hints_total"), s.logs.Len()
			if n := warned(ask()); n != want {
				t.Errorf("%s, extended %t: %d warnings, want %d", sql, extended, n, want)
			}
			if n := warned(ask()); n != 0 {
				t.Errorf("%s, extended %t: %d warnings again", sql, extended, n)
			}
			if n := s.metric(t, "pgweir_misspelt_hints_total") - counted; n != float64(2*want) {
				t.Errorf("%s: %v counted", sql, n)
			}
			if n := s.logs.Len() - logged; n != want {
				t.Errorf("%s: %d lines logged", sql, n)
			}
		}
	}
}
