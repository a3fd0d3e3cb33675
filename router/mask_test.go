package router

import (
	"strings"
	"testing"
)

// visible writes a mask with its markers readable.
func visible(key []byte) string {
	return strings.NewReplacer("\x01", "‹s›", "\x02", "‹i›", "\x03", "‹f›", "\x04", "‹c›", "\x05", "‹l›", "\x06", "‹p›").Replace(string(key))
}

func TestMask(t *testing.T) {
	const exact = "EXACT"
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"select 1", "select ‹i›"},
		{"select 1.5e3, .5, 1., 1e10, 1.e-5, 12345678901", "select ‹f›, ‹f›, ‹f›, ‹f›, ‹f›, ‹f›"},
		{"select 2147483647, 2147483648, 0000000000000000000001", "select ‹i›, ‹f›, ‹i›"},
		{"select -1, - 1, 1-1, 1--1", "select -‹i›, - ‹i›, ‹i›-‹i›, ‹i›‹l›"},
		{"select a1, t1.c2, _3, $1, $12, x$1", "select a1, t1.c2, _3, $1, $12, x$1"},
		{"select $1.5", "select $1‹f›"},
		{"select t.5", "select t‹f›"},
		{"select a[1:2]", "select a[‹i›:‹i›]"},
		{"select 'a', 'it''s', ''", "select ‹s›, ‹s›, ‹s›"},
		{"select 'a'\n 'b'", "select ‹s›\n ‹s›"},
		{"select 'a' -- c\n 'b'", "select ‹s› ‹l›\n ‹s›"},
		{"select date '2020-01-01', interval'1 day', 'x'::regclass", "select date ‹s›, interval‹s›, ‹s›::regclass"},
		{"select \"a\"\"1'\", 1", "select \"a\"\"1'\", ‹i›"},
		{"select a->>'b', a ? 'c', a @> '{}'", "select a->>‹s›, a ? ‹s›, a @> ‹s›"},
		{"select 1 /* a /* b */ '1 */ + 2", "select ‹i› ‹c› + ‹i›"},
		{"select 1 /* pgweir:primary */ + 2", "select ‹i› /* pgweir:primary */ + ‹i›"},
		{"select 1 -- x\r + 2", "select ‹i› ‹l›\r + ‹i›"},
		{"select 1 */* x */ 2", "select ‹i› *‹c› ‹i›"},
		{"select nb'1', fooe'2', ab'3'", "select nb‹s›, fooe‹s›, ab‹s›"},
		{"(select 1)", "(select ‹i›)"},
		{";; select 1 ; insert into t values (1)", ";; select ‹i› ; insert into t values (‹i›)"},
		{"SELECT current_setting( 'app.x' ), set_config('app.y', 'v', true)", "SELECT current_setting( 'app.x' ), set_config('app.y', ‹s›, true)"},
		{"select f(1), float8(2), 1::float", "select f(‹i›), float8(‹i›), ‹i›::float"},
		{"select 'é', é", "select ‹s›, é"},
		{"select 1\v+\f1", "select ‹i›\v+\f‹i›"},
		{"set app.x = '1'", "set app.x = ‹s›"},
		{"select 1 /* pgweir:primary,traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' */ + 2",
			"select ‹i› /* pgweir:primary,traceparent='‹p›' */ + ‹i›"},
		{"select 1 /* pgweir:primary,traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-pgweir:replica02b7-01' */",
			"select ‹i› /* pgweir:primary,traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-pgweir:replica02b7-01' */"},

		{"select 1::float(24)", exact},
		{"select 1::FLOAT /* x */ ( 25)", exact},
		{"select current_setting('a'\n'b')", exact},
		{"select 'a\\b'", exact},
		{"select 'a", exact},
		{"select \"a", exact},
		{"select /* a", exact},
		{"select /* a /* b */", exact},
		{"select E'a'", exact},
		{"select e'a'", exact},
		{"select x'1f', b'01'", exact},
		{"select N'a'", exact},
		{"select U&'a', 1", exact},
		{"select u&\"a\", 1", exact},
		{"select $$a$$", exact},
		{"select $t$a$t$", exact},
		{"select 0x1F", exact},
		{"select 1_000", exact},
		{"select 1..2", exact},
		{"select 1a", exact},
		{"select 1e", exact},
		{"select 1.2.3", exact},
		{"select 1'a'", exact},
		{"select 'a\x00b'", exact},
		{"select \"a\x00b\"", exact},
		{"select 1 /* \x00 */", exact},
		{"select \x01", exact},
		{"create table t (a varchar(10))", exact},
		{"select 1; drop table t", exact},
		{"alter table t alter 1 set statistics 5", exact},
		{"begin; set local a.b = 'x'; select 5; commit", "begin; set local a.b = ‹s›; select ‹i›; commit"},
		{"create table t (a int default 5)", exact},
	} {
		key, ok := mask(nil, []byte(c.text))
		got := visible(key)
		if !ok {
			got = exact
		}
		if got != c.want {
			t.Errorf("mask(%q)\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}

// TestMaskTellsApart: texts that may differ in meaning have different keys.
func TestMaskTellsApart(t *testing.T) {
	for _, c := range [][2]string{
		{"select 1", "select 1.0"},
		{"select 1", "select '1'"},
		{"select 1", "select 12345678901"},
		{"select 'a' 'b'", "select 'a'\n'b'"},
		{"select 'a'/**/'b'", "select 'a'--\n'b'"},
		{"select current_setting('a.b')", "select current_setting('a.c')"},
		{"select set_config('a.b', '1', true)", "select set_config('a.c', '1', true)"},
		{"select 1 /* pgweir:primary */", "select 1 /* pgweir:replica */"},
		{"select \"a\"", "select a"},
	} {
		a, okA := mask(nil, []byte(c[0]))
		b, okB := mask(nil, []byte(c[1]))
		if okA && okB && string(a) == string(b) {
			t.Errorf("%q and %q have one mask", c[0], c[1])
		}
	}
}
