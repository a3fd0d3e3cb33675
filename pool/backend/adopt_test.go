package backend

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
)

// connect is a fresh connection to the shared primary, closed at the test's end.
func connect(t *testing.T, statements int) *Backend {
	t.Helper()
	c := pgtest.Shared(t)
	l, err := Open(testContext(t), Options{Address: addressOf(t, c)}, Credentials{User: pgtest.Superuser}, "postgres", nil)
	if err != nil {
		t.Fatal(err)
	}
	b := New(l, statements)
	t.Cleanup(b.Close)
	return b
}

// value is the only value of a query, "NULL" for NULL.
func value(t *testing.T, b *Backend, sql string) string {
	t.Helper()
	v := "no row"
	err := b.Query(testContext(t), sql, func(values [][]byte) error {
		if v = "NULL"; values[0] != nil {
			v = string(values[0])
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// settingsOf are settings from names and values in turn.
func settingsOf(nameValues ...string) setting.Settings {
	m := map[string]string{}
	for i := 0; i+1 < len(nameValues); i += 2 {
		m[nameValues[i]] = nameValues[i+1]
	}
	return setting.From(m)
}

func adopt(t *testing.T, b *Backend, want setting.Settings) {
	t.Helper()
	if err := b.Adopt(testContext(t), want, want.Custom()); err != nil {
		t.Fatal(err)
	}
	if b.Settings() != want {
		t.Error("another Settings is noted")
	}
}

// Any value arrives as it is, byte for byte, under any quoting rules in force.
func TestAdoptValues(t *testing.T) {
	b := connect(t, 10)
	for _, conforming := range []string{"on", "off"} {
		for _, v := range []string{
			"", "plain", "it's", "''", "'", `\`, `\\`, `\'`, `'\`, `a\nb`, "a\nb\tc\r", `"double"`, "$1 $$ $a$", "; drop table x; --", "/* */",
			"é", "日本語", "é'\\", "'日本\\語'", "\x01\x7f", "%s %d", "U&'x'", "E'x'", " leading and trailing ",
			strings.Repeat("x", 64<<10), strings.Repeat(`'\é`, 20<<10),
		} {
			adopt(t, b, settingsOf("app.value", v, "standard_conforming_strings", conforming))
			if got := value(t, b, "select current_setting('app.value')"); got != v {
				t.Errorf("standard_conforming_strings %s: %.80q arrives as %.80q", conforming, v, got)
			}
		}
	}
	if b.MayDefine() != settingsOf("app.value", "").Custom() {
		t.Error("defined names")
	}
}

// The encoding is in force before the values that are written in it.
func TestAdoptEncoding(t *testing.T) {
	b := connect(t, 10)
	for _, try := range []struct{ encoding, bytes, utf8 string }{
		{"LATIN1", "caf\xe9's", "café's"},
		{"UTF8", "café's", "café's"},
		{"SJIS", "\x95\x5c' \x83\x5c", "表' ソ"}, // second bytes are backslashes
		{"BIG5", "\xa5\x5c\\'", "功\\'"},
		{"GBK", "\x81\x5c' or 1=1", "乗' or 1=1"},
	} {
		adopt(t, b, settingsOf("client_encoding", try.encoding, "a.b", try.bytes, "zz.z", "1"))
		adopt(t, b, settingsOf("client_encoding", try.encoding, "a.b", try.bytes))
		got := value(t, b, "select encode(convert_to(current_setting('a.b'), 'UTF8'), 'escape')")
		want := value(t, b, "select encode('\\x"+hexOf(try.utf8)+"'::bytea, 'escape')")
		if got != want {
			t.Errorf("%s: %q, want %q", try.encoding, got, want)
		}
	}
	adopt(t, b, setting.Settings{})
	if got := value(t, b, "show client_encoding"); got != "UTF8" {
		t.Errorf("afterwards the encoding is %s", got)
	}
}

func hexOf(s string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, c := range []byte(s) {
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// From any settings to any others: what is no more wanted has its default again.
func TestAdoptChanges(t *testing.T) {
	b := connect(t, 10)
	defaults := map[string]string{}
	names := []string{"work_mem", "datestyle", "timezone", "statement_timeout", "search_path"}
	for _, n := range names {
		defaults[n] = value(t, b, "show "+n)
	}
	for _, step := range []setting.Settings{
		settingsOf("work_mem", "7MB", "datestyle", "German, DMY"),
		settingsOf("WORK_MEM", "7MB", "timezone", "Asia/Tokyo"),
		settingsOf("search_path", `"$user", "od'd", public`, "app.x", "1"),
		settingsOf("statement_timeout", "1h", "app.y", ""),
		{},
	} {
		adopt(t, b, step)
		for _, n := range names {
			want, ok := step.Value(n)
			if !ok {
				want = defaults[n]
			}
			if got := value(t, b, "show "+n); got != want {
				t.Errorf("%s is %s, want %s", n, got, want)
			}
		}
	}
	if got := value(t, b, "select current_setting('app.x', true)"); got != "" {
		t.Errorf("app.x is %q, which was defined", got)
	}
	if b.Parameter("TimeZone") != defaults["timezone"] {
		t.Errorf("reported TimeZone %q", b.Parameter("TimeZone"))
	}
}

// A session that defined a name reads ” of it, not NULL, on a connection that did not.
func TestAdoptDefined(t *testing.T) {
	b := connect(t, 10)
	defined := setting.Names{}.With([]string{"app.tenant"})
	if got := value(t, b, "select current_setting('app.tenant', true)"); got != "NULL" {
		t.Fatalf("at first %q", got)
	}
	if err := b.Adopt(testContext(t), setting.Settings{}, defined); err != nil {
		t.Fatal(err)
	}
	if got := value(t, b, "select current_setting('app.tenant', true)"); got != "" || b.MayDefine() != defined {
		t.Errorf("%q, defined %v", got, b.MayDefine())
	}
}

// What a server refuses is an error, b does not claim to carry it, and is closed.
func TestAdoptRefused(t *testing.T) {
	for name, want := range map[string]setting.Settings{
		"no such setting": settingsOf("work_mem", "8MB", "zz_no_such", "1"),
		"a bad value":     settingsOf("application_name", "x", "work_mem", "much"),
		"a bad encoding":  settingsOf("client_encoding", "KLINGON"),
		"bad bytes":       settingsOf("app.value", "\xff\xfe'"),
		"bad bytes alone": settingsOf("app.value", "\xff\xfe"),
		"not changeable":  settingsOf("shared_buffers", "1GB", "work_mem", "8MB"),
	} {
		b := connect(t, 10)
		var refused *ServerError
		if err := b.Adopt(testContext(t), want, want.Custom()); !errors.As(err, &refused) {
			t.Errorf("%s: error %v", name, err)
		}
		if b.Settings() == want {
			t.Errorf("%s: b claims to carry it", name)
		}
		if b.AtRest() == nil {
			t.Errorf("%s: b may go to another session", name)
		}
		if _, err := b.RoundTrip(testContext(t), wire.AppendSync(nil)); err == nil {
			t.Errorf("%s: b is not closed", name)
		}
	}
}

// When the context ends the connection is of no use.
func TestAdoptEnds(t *testing.T) {
	b := connect(t, 10)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.Adopt(ctx, settingsOf("work_mem", "8MB"), setting.Names{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if b.Settings() != (setting.Settings{}) {
		t.Error("b claims to carry it")
	}
}

func TestReset(t *testing.T) {
	b := connect(t, 10)
	adopt(t, b, settingsOf("work_mem", "8MB", "app.x", "1"))
	st := new(prepared.Registry).Statement([]byte("select 1"), []byte{0, 0}, "")
	b.Held().Hold(st)
	b.Held().Unnamed = 7
	if _, err := b.RoundTrip(testContext(t), wire.AppendQuery(nil, "create temp table z (); listen l; prepare p as select 1; select pg_advisory_lock(1)")); err != nil {
		t.Fatal(err)
	}
	if err := b.Reset(testContext(t)); err != nil {
		t.Fatal(err)
	}
	const left = `select current_setting('work_mem') || coalesce(to_regclass('pg_temp.z')::text, '-') || (select count(*) from pg_listening_channels())
		|| (select count(*) from pg_prepared_statements) || (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())`
	if got := value(t, b, left); got != "4MB-000" {
		t.Errorf("left: %s", got)
	}
	if b.Settings() != (setting.Settings{}) || b.Held().Holds(st) || b.Held().Unnamed != 0 || b.MayDefine() == (setting.Names{}) {
		t.Error("notes are left, or defined names forgotten")
	}
}

// TestDrain: what the server reports behind an error is noted, and notifications are kept.
func TestDrain(t *testing.T) {
	b := connect(t, 0)
	b.Sent(1)
	if _, err := b.Conn.Write(wire.AppendQuery(nil, "listen news; set timezone = 'Asia/Tokyo'; notify news; commit; select 1/0")); err != nil {
		t.Fatal(err)
	}
	if err := b.Drain(); err != nil {
		t.Fatal(err)
	}
	if zone, heard := b.Parameter("TimeZone"), b.Notified(); zone != "Asia/Tokyo" || !bytes.Contains(heard, []byte("news")) {
		t.Errorf("time zone %q, heard %q", zone, heard)
	}
	if got := value(t, b, "select 2"); got != "2" {
		t.Errorf("afterwards: %s", got)
	}
}
