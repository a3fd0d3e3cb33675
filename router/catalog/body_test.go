package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/internal/setting"
)

func TestScanBody(t *testing.T) {
	for _, test := range []struct {
		name, text string
		unclean    bool
	}{
		{"empty", "", false},
		{"select", "select 1", false},
		{"update", "update t set a = 1", false},
		{"update with alias", "UPDATE ONLY t AS x SET a = 1 FROM u", false},
		{"upsert", "insert into t values (1) on conflict do update set a = 2", false},
		{"merge", "merge into t using u on a = b when matched then update set a = 1", false},
		{"set first", "set a = 1", true},
		{"set after update", "update t set a = 1; set b = 2", true},
		{"set in then after update", "begin if x then update t set a = 1; end if; if y then set z = 1; end if; end", true},
		{"set after loop", "begin for r in update t set a = 1 returning * loop set x = 1; end loop; end", true},
		{"set after label", "begin <<l>> set x = 1; end", true},
		{"set after else", "begin update t set a = case when true then 1 else 2 end; end", false},
		{"quoted set", `begin update t set "set" = 1; end`, false},
		{"quoted begin is no keyword", `select "begin", "set" from t`, false},
		{"comment between", "begin/**/set/**/x = 1; end", true},
		{"line comment", "begin -- set x = 1\n end", false},
		{"line comment ends at carriage return", "begin -- \rset x = 1; end", true},
		{"nested comment", "begin /* /* */ set x = 1; */ end", false},
		{"open comment", "begin /* set", true},
		{"open string", "begin 'set", true},
		{"open dollar", "begin $a$ set $b$", true},
		{"string", "begin raise 'set x = 1; create temp table'; end", false},
		{"escape string", `begin raise E'it\'s; set x = 1'; end`, false},
		{"escape string ends", `begin raise E'\\'; set x = 1; end`, true},
		{"plain string with backslash", `begin raise '\'; set x = 1; end`, true},
		{"plain string with harmless backslash", `begin raise '\d+'; end`, false},
		{"doubled quote", "begin raise 'it''s'; end", false},
		{"dollar string", "begin raise $x$ set y = 1; $x$; end", false},
		{"parameter", "select $1, $2", false},
		{"unicode identifier", `select U&"\0061"`, true},
		{"u and", "select u &x from t", false},
		{"temp", "create temp table x()", true},
		{"pg_temp", "insert into pg_temp.x values (1)", true},
		{"upper case", "CREATE TEMPORARY TABLE x()", true},
		{"column named load", "select load, listen, role from t", false},
		{"load", "begin load 'x'; end", true},
		{"listen", "listen x", true},
		{"prepare", "begin prepare x as select 1; end", true},
		{"discard", "discard all", true},
		{"deallocate", "begin null; deallocate all; end", true},
		{"reset", "begin reset all; end", true},
		{"reset role in exception", "begin null; exception when others then reset role; end", true},
		{"do", "begin do 'x'; end", true},
		{"on conflict do nothing", "insert into t values (1) on conflict do nothing", false},
		{"dynamic", "begin execute 'select 1'; end", true},
		{"cursor with hold", "declare c cursor with hold for select 1", true},
		{"explain create", "explain analyze create table x as select 1", true},
	} {
		if got := scanBody(test.text); (got.unclean != "" || got.sets) != test.unclean {
			t.Errorf("%s: unclean %q, want %v", test.name, got.unclean, test.unclean)
		}
	}
}

func TestScanBodyNames(t *testing.T) {
	b := scanBody(`begin perform App.F(x), "G"(1), h (2), r.attr; if a <-> b then insert into T select -1 @@ -c; end if; end`)
	for _, c := range []string{"f", "G", "h", "attr"} {
		if !slices.Contains(b.calls, c) {
			t.Errorf("call %s not seen: %q", c, b.calls)
		}
	}
	for _, w := range []string{"app", "t", "r"} {
		if !slices.Contains(b.words, w) {
			t.Errorf("word %s not seen: %q", w, b.words)
		}
	}
	if want := []string{"<->", "-", "@@"}; !slices.Equal(b.operators, want) {
		t.Errorf("operators %q, want %q", b.operators, want)
	}
	if !b.writes || scanBody("select 1").writes {
		t.Error("writes")
	}
	if b := scanBody("begin execute $x$ select 'f(1)', g(2) $x$; end"); !slices.Equal(b.calls, []string{"g", "f"}) {
		t.Errorf("calls in dynamic SQL: %q", b.calls)
	}
	if b := scanBody("begin raise 'g(2)'; end"); len(b.calls) != 0 {
		t.Errorf("calls in a message: %q", b.calls)
	}
}

func TestScanBodySettings(t *testing.T) {
	for _, test := range []struct {
		text, touches    string
		changes, unclean bool // unclean: the text itself, or its call of set_config
	}{
		{"begin set app.org = 1; end", "app.org", true, false},
		{"begin set local App.Org to 1; end", "app.org", false, false},
		{`begin set session "app"."org" = 1; end`, "app.org", true, false},
		{"begin set work_mem = 1; end", "", true, false},
		{"begin set role x; end", "", true, false},
		{"begin set local role x; end", "", false, false},
		{"begin reset app.org; end", "app.org", true, false},
		{"begin reset all; end", "", false, true},
		{"begin set constraints all deferred; end", "", false, true},
		{"begin set transaction read only; end", "", false, true},
		{"begin set session authorization x; end", "", false, true},
		{"begin perform set_config('app.org', x::text, true); end", "app.org", false, false},
		{"begin perform pg_catalog.set_config('app.org', f(x, (y)), false); end", "app.org", true, false},
		{"select set_config('app.a', $1, true), set_config('app.b', 'x', z)", "app.a,app.b", true, false},
		{"select set_config('app.' || x, $1, true)", "", false, true},
		{"select set_config($1, $2, true)", "", false, true},
		{"select set_config(E'app.a', $1, true)", "app.a", false, false},
		// Names only PostgreSQL's own rules spell.
		{`select set_config(E'app.current\x5forg_id', $1, true)`, "", false, true},
		{`select set_config(e'app.\141', $1, true)`, "", false, true},
		{`select set_config(E'app.\u0061', $1, true)`, "", false, true},
		{`select set_config('app.a\x5f', $1, true)`, "", false, true}, // with standard_conforming_strings off
		{`select set_config(U&'app.\0061', $1, true)`, "", false, true},
		{`select set_config(U&'app.!0061' uescape '!', $1, true)`, "", false, true},
		{"select set_config('app.'\n'a', $1, true)", "app.a", false, false},
		{"select set_config('app.' -- x\n  -- y\n 'a', $1, true)", "app.a", false, false},
		{"select set_config(E'app.'\n'\\141', $1, true)", "", false, true},
		{"select set_config('app.' 'a', $1, true)", "", false, true},
		{"select set_config($$app.a$$, $1, true)", "app.a", false, false},
		{"select set_config($x$app.a$x$, $1, true)", "app.a", false, false},
		{"select set_config(N'app.a', $1, true)", "app.a", false, false},
		{"select set_config(X'61', $1, true)", "", false, true},
		{"select set_config(/* 'app.b', */ 'App.A' /* x */, $1, true)", "app.a", false, false},
		{"select set_config -- x\n ('app.a', $1, true)", "app.a", false, false},
		{"select set_config('app.é', $1, true)", "app.é", false, true},
		{"select set_config(quote_literal('app.a'), $1, true)", "", false, true},
		{"select set_config(format('app.%s', 'a'), $1, true)", "", false, true},
		{"select set_config('app.a'::text, $1, true)", "", false, true},
		{"select set_config('app.a' || '', $1, true)", "", false, true},
		{"select set_config(setting_name => 'app.a', new_value => $1, is_local => true)", "", false, true},
		{`select set_config('app.a', $1, "true") from t`, "app.a", true, false},
		{"select set_config('app.a', $1, 'true')", "app.a", false, false},
		{"select set_config('app.a', $1, true and x)", "app.a", true, false},
		{"select set_config('app.a', set_config('app.b', $1, false), true)", "app.a,app.b", true, false},
		{"begin for i in 1..set_config('app.a', '3', false)::int loop null; end loop; end", "app.a", true, false},
		{"begin perform 1.5, 2.e3, 0x1F, 1_000, set_config('app.a', '3', false); end", "app.a", true, false},
		{"select $1$x$, set_config('app.a', '1', false)", "", false, true},
		{`begin set "App"."Org" to 1; end`, "app.org", true, false},
		{`begin set U&"app\002Eorg" = 1; end`, "", false, true},
		{"begin set é.a = 1; end", "é.a", true, true},
		{"begin execute 'set app.a = 1'; end", "app.a", true, true},
		{"begin execute format('set app.%I = %L', 'a', 1); end", "", false, true},
		{"update t set app = 1", "", false, false},
	} {
		b := scanBody(test.text)
		touches := setting.Names{}.With(b.touches).String()
		unclean := b.unclean != "" || slices.Contains(b.calls, "set_config")
		if touches != test.touches || b.sets != test.changes || unclean != test.unclean {
			t.Errorf("%s: touches %q changes %v unclean %q calls %q", test.text, touches, b.sets, b.unclean, b.calls)
		}
	}
}

// TestScanBodyTime: whatever a body says, the scan takes time in proportion to its length.
func TestScanBodyTime(t *testing.T) {
	nested := func(n int) string { // dollar quotes of different tags within each other
		var open, end string
		for i := range n / 14 {
			tag := fmt.Sprintf("$t%d$", i)
			open, end = open+tag, tag+end
		}
		return "execute " + open + end
	}
	for name, of := range map[string]func(n int) string{
		"open calls":      func(n int) string { return strings.Repeat("set_config('a',", n/15) },
		"nested calls":    func(n int) string { return strings.Repeat("set_config('a',", n/20) + strings.Repeat("),true", n/20) },
		"long names":      func(n int) string { return "set " + strings.Repeat("a.set.", n/6) },
		"operators":       func(n int) string { return strings.Repeat("+-", n/2) },
		"strings":         func(n int) string { return strings.Repeat("'a' \n", n/5) },
		"dollars":         func(n int) string { return strings.Repeat("$a$ $b$ ", n/8) },
		"nested strings":  nested,
		"nested comments": func(n int) string { return strings.Repeat("/*", n/2) },
	} {
		const short, times = 16 << 10, 16
		measure := func(text string) time.Duration {
			best := time.Hour
			for range 3 {
				began := time.Now()
				scanBody(text)
				best = min(best, time.Since(began))
			}
			return best
		}
		one, many := measure(of(short)), measure(of(times*short))
		if many > 4*times*max(one, time.Millisecond) {
			t.Errorf("%s: %v for 16 KiB, %v for 256 KiB", name, one, many)
		}
	}
}

// FuzzScanBody: the scan ends and does not panic, and SET as the only statement after
// any text that reads well is found.
func FuzzScanBody(f *testing.F) {
	for _, s := range []string{"", "begin 'x'; end", "/* */", "$a$ $a$", `E'\''`, `"x"`, "update t set a=1", "U&'x'", "<<a>>", "--"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		scanBody(text)
		if b := scanBody(text + "\n; set a = 1"); b.unclean == "" && !b.sets && !insideLiteral(text) {
			t.Errorf("SET not seen after %q", text)
		}
	})
}

// insideLiteral reports whether text ends within a string or comment, so that what follows is data.
func insideLiteral(text string) bool {
	l := lexer{text: text + "\n"}
	for {
		switch l.next().kind {
		case tokenBroken:
			return true
		case tokenEnd:
			return false
		}
	}
}
