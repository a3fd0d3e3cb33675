package catalog

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// TestVersion: a load without a change gives back the previous snapshot, other
// sessions' temporary objects are no change, and each kind of change is one.
func TestVersion(t *testing.T) {
	c, db := nasty(t)
	q := connect(t, c.Primary, db, "catalog_nobody")
	last := load(t, q, LoadOptions{})
	reload := func(sql string) *Snapshot {
		t.Helper()
		if err := c.Primary.Exec(t.Context(), db, sql); err != nil {
			t.Fatal(err)
		}
		s := load(t, q, LoadOptions{Previous: last})
		if whole := load(t, q, LoadOptions{}); s.Version() != whole.Version() {
			t.Errorf("%s: what changed is read, and it is something else than the whole", sql)
		}
		return s
	}
	if s := reload("select 1"); s != last {
		t.Error("nothing changed, and the previous snapshot was not kept")
	}
	for _, sql := range []string{
		"insert into plain values (1)", "analyze plain",
		"create temporary table t1 as select 1; create temporary view v1 as select * from t1",
		"create table gone (id int); drop table gone",
		"comment on table plain is 'x'",
	} {
		if s := reload(sql); s.Version() != last.Version() {
			t.Errorf("%s: another version", sql)
		}
	}
	for _, sql := range []string{
		"create table fresh (id int)",
		"alter function f_immutable(int) volatile",
		"create or replace function g_string() returns text stable language plpgsql as $$ begin return pg_backend_pid(); end $$",
		"create or replace view v_plain as select id, name from plain where pg_backend_pid() > 0",
		"alter table fresh set unlogged",
		"alter table fresh add column s d_state",
		"alter table fresh rename to renamed",
		"create policy q on policy_good using (pg_backend_pid() > 0)",
		"alter table policy_off enable row level security",
		"alter table trigger_off enable trigger t",
		"alter table trigger_bad disable trigger t",
		"alter table parted detach partition parted_2",
		"alter domain d_good add check (pg_backend_pid() > value)",
		"alter table plain alter column name set default set_config('a.b', 'c', false)",
		"alter schema app rename to app2",
		"drop function f_volatile() cascade",
		"create cast (composite_good as source_type) with function to_source(composite_good)",
		"create cast (composite_good as mood) with function to_mood(composite_good) as implicit",
		"alter database " + db + " set default_transaction_isolation = 'repeatable read'",
	} {
		if sql[:11] == "create cast" {
			prepareCasts(t, c, db)
		}
		s := reload(sql)
		if s.Version() == last.Version() {
			t.Errorf("%s: the same version", sql)
		}
		last = s
	}
	if f := last.Implicit(); f.Replica || !f.Sets {
		t.Errorf("implicit: %+v", f)
	}
}

// prepareCasts makes the functions that casts need, once.
func prepareCasts(t *testing.T, c *pgtest.Cluster, db string) {
	t.Helper()
	if err := c.Primary.Exec(t.Context(), db, `
create or replace function to_source(composite_good) returns source_type volatile language sql as 'select row(1)::source_type';
create or replace function to_mood(composite_good) returns mood language sql as
  $$ select set_config('a.b', 'ok', false)::mood $$`); err != nil {
		t.Fatal(err)
	}
}

func TestDefaults(t *testing.T) {
	c := pgtest.Shared(t)
	db, elsewhere := c.Database(t), c.Database(t)
	if err := c.Exec(t.Context(), fmt.Sprintf(`
create role d_none login; create role d_role login; create role d_both login; create role d_elsewhere login; create role d_read login;
alter role d_role set default_transaction_isolation = 'repeatable read';
alter role d_both set default_transaction_isolation = 'repeatable read';
alter role d_both in database %[1]s set default_transaction_isolation = 'serializable';
alter role d_elsewhere in database %[2]s set default_transaction_isolation = 'serializable';
alter role d_read set default_transaction_read_only = on;
alter role d_read set search_path = pg_temp, public;
alter role d_read set work_mem = '8MB'`, db, elsewhere)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // their settings go with them
		if err := c.Exec(context.Background(), "drop role d_none, d_role, d_both, d_elsewhere, d_read"); err != nil {
			t.Error(err)
		}
	})
	check := func(s *Snapshot, want map[string]string) {
		t.Helper()
		for user, isolation := range want {
			if got := s.DefaultIsolation(user); got != isolation {
				t.Errorf("%s: %q, want %q", user, got, isolation)
			}
		}
	}
	s := load(t, connect(t, c.Primary, db, "d_none"), LoadOptions{})
	check(s, map[string]string{
		"d_none": "read committed", "d_role": "repeatable read", "d_both": "serializable",
		"d_elsewhere": "read committed", "nobody at all": "read committed",
	})
	if got := s.Default("d_read", "search_path"); got != "pg_temp, public" {
		t.Errorf("search_path: %q", got)
	}
	if got := s.Default("d_none", "standard_conforming_strings"); got != "on" {
		t.Errorf("standard_conforming_strings: %q", got)
	}
	if s.DefaultReadOnly("d_read") != "on" || s.DefaultReadOnly("d_none") != "off" {
		t.Errorf("read only: %q, %q", s.DefaultReadOnly("d_read"), s.DefaultReadOnly("d_none"))
	}
	// The loader's own setting hides the server's.
	check(load(t, connect(t, c.Primary, db, "d_role"), LoadOptions{}), map[string]string{"d_none": "", "d_role": "repeatable read"})
	if err := c.Exec(t.Context(), fmt.Sprintf("alter database %s set default_transaction_isolation = 'serializable'", db)); err != nil {
		t.Fatal(err)
	}
	check(load(t, connect(t, c.Primary, db, "d_none"), LoadOptions{Previous: s}), map[string]string{
		"d_none": "serializable", "d_role": "repeatable read", "d_elsewhere": "serializable",
	})
	if Builtin().DefaultIsolation("postgres") != "" {
		t.Error("isolation known before anything was read")
	}
}

// TestLoadFails: whichever query fails, the error comes out and no snapshot.
func TestLoadFails(t *testing.T) {
	c := pgtest.Shared(t)
	q := connect(t, c.Primary, c.Database(t), pgtest.Superuser)
	failure := errors.New("connection lost")
	queries := 0
	count := func(ctx context.Context, sql string, row func([][]byte) error) error {
		queries++
		return q(ctx, sql, row)
	}
	load(t, count, LoadOptions{})
	if queries > 20 {
		t.Errorf("%d queries", queries)
	}
	for i := range queries {
		n := 0
		s, err := Load(t.Context(), func(ctx context.Context, sql string, row func([][]byte) error) error {
			if n++; n > i {
				return failure
			}
			return q(ctx, sql, row)
		}, LoadOptions{})
		if s != nil || !errors.Is(err, failure) {
			t.Errorf("query %d failed: %v, %v", i, s, err)
		}
		if n != i+1 {
			t.Errorf("%d queries after the first failure", n-i-1)
		}
	}
	wrong := func(_ context.Context, _ string, row func([][]byte) error) error { return row(make([][]byte, 40)) }
	if _, err := Load(t.Context(), wrong, LoadOptions{}); !errors.Is(err, errRow) {
		t.Errorf("an answer of another shape: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Load(ctx, func(context.Context, string, func([][]byte) error) error { return nil }, LoadOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestNewerServer: functions this program has not heard of are not trusted.
func TestNewerServer(t *testing.T) {
	for _, test := range []struct {
		f            function
		replica, bad bool
	}{
		{function{oid: 9999, name: "novel", volatility: 's', language: "internal", unheard: true}, false, true},
		{function{oid: 9999, name: "now", volatility: 's', language: "internal"}, true, false},
		{function{oid: 99999, name: "c", volatility: 's', language: "c"}, true, true},
		{function{oid: 99999, name: "c", volatility: 'i', language: "c"}, true, false},
		{function{oid: 99999, name: "uuid_generate_v4", volatility: 'v', language: "c", extension: "uuid-ossp"}, true, false},
		{function{oid: 99999, name: "uuid_generate_v4", volatility: 'v', language: "c"}, false, true},
		{function{oid: 99999, name: "crosstab", volatility: 's', language: "c", extension: "tablefunc"}, false, true},
		{function{oid: 99999, name: "similarity", volatility: 's', language: "c", extension: "pg_trgm"}, true, false},
		{function{oid: 99999, name: "dblink", volatility: 'v', language: "c", extension: "dblink"}, false, true},
		{function{oid: 99999, name: "f", volatility: 'i', language: "plpython3u"}, true, true},
	} {
		if got := test.f.keptFromReplica() == ""; got != test.replica {
			t.Errorf("%+v: replica %v", test.f, got)
		}
		if got := test.f.mayLeaveState() != ""; got != test.bad {
			t.Errorf("%+v: may leave state %v", test.f, got)
		}
	}
}

func TestParseLists(t *testing.T) {
	for _, text := range []string{"names first", "@harmless without colon", "@unknown: x\ny", "@: x"} {
		if _, err := parseLists(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

// TestHostileSettings: a role's settings do not change what a load finds.
func TestHostileSettings(t *testing.T) {
	c, db := nasty(t)
	want := load(t, connect(t, c.Primary, db, "catalog_nobody"), LoadOptions{})
	if err := c.Exec(t.Context(), `create role catalog_odd login;
alter role catalog_odd set search_path = app, other, public;
alter role catalog_odd set standard_conforming_strings = off;
alter role catalog_odd set quote_all_identifiers = on;
alter role catalog_odd set row_security = off;
alter role catalog_odd set extra_float_digits = -15;
alter role catalog_odd set client_encoding = latin1`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Exec(context.Background(), "drop role catalog_odd"); err != nil {
			t.Error(err)
		}
	})
	if got := load(t, connect(t, c.Primary, db, "catalog_odd"), LoadOptions{}); own(got) != own(want) {
		t.Errorf("other facts:\n%s", own(got))
	}
}
