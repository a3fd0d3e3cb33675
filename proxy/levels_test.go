package proxy_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

const registers = `create table r(id int primary key, v int not null); insert into r select i, 0 from generate_series(0, 9) i;`

// TestLevels: with replay held up, who must see a commit reads on the primary, and
// who need not reads the past on a replica.
func TestLevels(t *testing.T) {
	l := newLagging(t, registers, nil)
	s := l.proxy(t)
	type who struct{ writer, tenant, other string }
	want := map[string]who{
		"eventual": {"replica", "replica", "replica"},
		"session":  {"primary", "replica", "replica"},
		"tenant":   {"primary", "primary", "replica"},
		"database": {"primary", "primary", "primary"},
		"strong":   {"primary", "primary", "primary"},
	}
	const read = "select v::text from r where id = 1"
	for level, want := range want {
		t.Run(level, func(t *testing.T) {
			open := func(tenant string) *watched {
				return s.watch(t, "pgweir.consistency="+level, "app.tenant="+tenant)
			}
			writer, tenant, other := open("7"), open("7"), open("8")
			writer.do("update r set v = 0 where id = 1")
			l.settle(t, writer, read)
			l.pause(t)
			defer l.resume(t)
			writer.do("update r set v = 1 where id = 1")
			for name, c := range map[string]*watched{"writer": writer, "tenant": tenant, "other": other} {
				expect := map[string]string{"writer": want.writer, "tenant": want.tenant, "other": want.other}[name]
				if got := c.runs(read); got != expect {
					t.Errorf("%s reads on a %s (%s), want %s", name, got, c.why, expect)
				}
				if got, fresh := c.value(read), expect == "primary"; (got == "1") != fresh {
					t.Errorf("%s reads %s", name, got)
				}
			}
		})
	}
}

// TestTenantOfAWrite: a write counts for the tenant it was made for, whatever the session sets
// meanwhile; where that is not certain, for all.
func TestTenantOfAWrite(t *testing.T) {
	l := newLagging(t, registers, nil, func(c *config.Config) { c.Routing.Consistency = "tenant" })
	s := l.proxy(t)
	const read = "select v::text from r where id = 1"
	of := map[string]*watched{"": s.watch(t)}
	for _, tenant := range []string{"7", "8", "9"} {
		of[tenant] = s.watch(t, "app.tenant="+tenant)
	}
	batch := func(sql ...string) func(*watched) {
		return func(c *watched) {
			b := &pgx.Batch{}
			for _, q := range sql {
				b.Queue(q)
			}
			if err := c.SendBatch(t.Context(), b).Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	each := func(sql ...string) func(*watched) {
		return func(c *watched) {
			for _, q := range sql {
				c.do(q)
			}
		}
	}
	const write = "update r set v = v + 1 where id = 1"
	for name, c := range map[string]struct {
		writes func(*watched)
		seenBy string // tenants, besides the session without one
	}{
		"its own":                     {each(write), "7"},
		"set for the transaction":     {each("begin", "set local app.tenant = '8'", write, "commit"), "8"},
		"two in one transaction":      {each("begin", write, "set local app.tenant = '8'", write, "commit"), "789"},
		"set after it in one batch":   {batch(write, "select set_config('app.tenant', '8', false)"), "789"},
		"set before it in one batch":  {batch("select set_config('app.tenant', '8', false)", write), "789"},
		"set behind the proxy's back": {each("do $$ begin perform set_config('app.tenant', '8', false); end $$", write), "789"},
	} {
		l.settle(t, of["7"], read)
		l.pause(t)
		writer := s.watch(t, "app.tenant=7")
		c.writes(writer)
		if got := of[""].runs(read); got != "primary" {
			t.Errorf("%s: a session without a tenant reads on a %s", name, got)
		}
		for _, tenant := range []string{"7", "8", "9"} {
			want := "replica"
			if strings.Contains(c.seenBy, tenant) {
				want = "primary"
			}
			if got := of[tenant].runs(read); got != want {
				t.Errorf("%s: tenant %s reads on a %s (%s), want %s", name, tenant, got, of[tenant].why, want)
			}
		}
		l.resume(t)
	}
}

// TestWhatCommits: whatever way something is committed, others read it at once.
func TestWhatCommits(t *testing.T) {
	l := newLagging(t, registers+`
create table c(v int);
create procedure commits(x int) language plpgsql as $$
begin
  update r set v = x where id = 1; commit;
  raise notice 'committed'; perform 1 / 0;
end $$;
create function writes(x int) returns int language sql as 'update r set v = x where id = 1 returning v';`,
		map[string]string{"max_prepared_transactions": "4"},
		func(c *config.Config) { c.Routing.FreshnessWait = 0 })
	s := l.proxy(t)
	writer, reader := s.watch(t), s.watch(t, "app.tenant=8")
	const read = "select v::text from r where id = 1"
	simple := func(sql string) func(int) {
		return func(v int) {
			if _, err := writer.PgConn().Exec(t.Context(), strings.ReplaceAll(sql, "$1", fmt.Sprint(v))).ReadAll(); err != nil {
				t.Fatal(err)
			}
		}
	}
	kinds := []struct {
		name  string
		write func(v int)
	}{
		{"autocommit", func(v int) { writer.do("update r set v = $1 where id = 1", v) }},
		{"commit", simple("begin; update r set v = $1 where id = 1; commit")},
		{"three queries", func(v int) {
			writer.do("begin")
			writer.do("update r set v = $1 where id = 1", v)
			writer.do("commit")
		}},
		{"and chain", func(v int) {
			writer.do("begin")
			writer.do("update r set v = $1 where id = 1", v)
			writer.do("commit and chain")
			defer writer.do("rollback")
			if got := reader.value(read); got != fmt.Sprint(v) {
				t.Errorf("after COMMIT AND CHAIN another session reads %s, want %d", got, v)
			}
		}},
		{"with query", simple("with w as (update r set v = $1 where id = 1 returning v) select * from w")},
		{"merge", simple("merge into r using (values ($1)) n(v) on id = 1 when matched then update set v = n.v")},
		{"function", simple("select writes($1)")},
		{"do", simple("do $$ begin update r set v = $1 where id = 1; end $$")},
		{"dynamic", simple("do $$ begin execute 'upd' || 'ate r set v = $1 where id = 1'; end $$")},
		{"two phases", func(v int) {
			simple("begin; update r set v = $1 where id = 1; prepare transaction 'x'")(v)
			other := s.watch(t, "app.tenant=9")
			other.do("commit prepared 'x'")
		}},
		{"prepare, execute", func(v int) {
			writer.do("prepare w(int) as update r set v = $1 where id = 1")
			simple("execute w($1)")(v)
			writer.do("deallocate w")
		}},
		{"a procedure that fails after its commit", func(v int) {
			_, err := writer.PgConn().Exec(t.Context(), fmt.Sprintf("call commits(%d)", v)).ReadAll()
			var failed *pgconn.PgError
			if !errors.As(err, &failed) || failed.Code != "22012" {
				t.Fatal(err)
			}
		}},
		{"pipeline", func(v int) {
			b := &pgx.Batch{}
			b.Queue("select 1")
			b.Queue("update r set v = $1 where id = 1", v)
			if err := writer.SendBatch(t.Context(), b).Close(); err != nil {
				t.Fatal(err)
			}
		}},
		{"truncate and copy", func(v int) {
			writer.do("begin")
			writer.do("delete from r")
			if _, err := writer.CopyFrom(t.Context(), pgx.Identifier{"r"}, []string{"id", "v"}, pgx.CopyFromRows([][]any{{1, v}})); err != nil {
				t.Fatal(err)
			}
			writer.do("commit")
		}},
		{"a copy of its own", func(v int) {
			writer.do("delete from r")
			if _, err := writer.CopyFrom(t.Context(), pgx.Identifier{"r"}, []string{"id", "v"}, pgx.CopyFromRows([][]any{{1, v}})); err != nil {
				t.Fatal(err)
			}
		}},
		{"ddl", simple("alter table r rename to old; create table r as select id, $1 as v from old; drop table old")},
	}
	for i, k := range kinds {
		l.settle(t, reader, read)
		l.pause(t)
		k.write(i + 1)
		if got := reader.value(read); got != fmt.Sprint(i+1) {
			t.Errorf("%s: another session reads %s, want %d", k.name, got, i+1)
		}
		l.resume(t)
	}
}

// TestUnknownOutcome: the network between proxy and primary breaks while a write runs,
// which is committed later all the same. Who has seen it sees it again.
func TestUnknownOutcome(t *testing.T) {
	l := newLagging(t, registers, nil)
	line := newLine(t, l.Primary.Addr())
	l.config.Servers[0].Address = line.Addr().String()
	s := l.proxy(t)
	first, second := s.watch(t), s.watch(t)
	const read = "select v::text from r where id = 1"
	l.settle(t, first, read)
	l.settle(t, second, read)
	writer := s.watch(t)
	l.pause(t)
	failed := make(chan error, 1)
	go func() {
		_, err := writer.Exec(t.Context(), "update r set v = 1 from (select pg_sleep(1)) p where id = 1")
		failed <- err
	}()
	until(t, "it runs", func() bool {
		n, err := l.Primary.Value(t.Context(), "postgres", "select count(*) from pg_stat_activity where query like 'update r%' and wait_event = 'PgSleep'")
		return err == nil && n == "1"
	})
	line.cut()
	if err := <-failed; wantCode(err) != "08006" {
		t.Errorf("the writer is told %v", err)
	}
	if got := second.value(read); got != "0" {
		t.Errorf("before it is committed: %s", got)
	}
	until(t, "it is committed", func() bool { return first.value("/* pgweir:primary */ "+read) == "1" })
	for _, c := range []*watched{second, first} {
		if got := c.value(read); got != "1" {
			t.Errorf("what was seen is gone: %s", got)
		}
	}
	l.resume(t)
	until(t, "replicas read it again", func() bool { return second.runs(read) == "replica" })
}

// TestCrashedReplica: replicas crash and come back with less than they had, as they
// had not written all of it. No read is served from that.
func TestCrashedReplica(t *testing.T) {
	l := newLagging(t, registers+"checkpoint;", nil, func(c *config.Config) { c.Routing.MonitorInterval = 20 * time.Millisecond })
	s := l.proxy(t)
	writer, reader := s.watch(t), s.watch(t)
	const read = "select v::text from r where id = 1"
	l.settle(t, reader, read)
	for _, r := range l.Replicas { // no crash goes back behind a restart point
		if err := r.Exec(t.Context(), "postgres", "checkpoint"); err != nil {
			t.Fatal(err)
		}
	}
	writer.do("update r set v = 1 where id = 1")
	l.settle(t, reader, read)
	if got := reader.value(read); got != "1" || reader.role != "replica" {
		t.Fatalf("%s on a %s", got, reader.role)
	}
	for _, r := range l.Replicas {
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(r.DataDir, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString("recovery_min_apply_delay = '1h'\n")
		if err := errors.Join(err, f.Close(), r.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Value(t.Context(), "postgres", read); err != nil || got != "0" {
			t.Fatalf("the replica has %s, %v: the test proves nothing", got, err)
		}
	}
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		if got := reader.value(read); got != "1" {
			t.Fatalf("read %s on a %s (%s)", got, reader.role, reader.why)
		}
	}
}

// TestNotified: who is told of a commit by a notification sees it, though it was made
// past the proxy.
func TestNotified(t *testing.T) {
	l := newLagging(t, registers, nil)
	s := l.proxy(t)
	listener, reader := s.watch(t), s.watch(t, "pgweir.consistency=tenant", "app.tenant=7")
	const read = "select v::text from r where id = 1"
	l.settle(t, reader, read)
	listener.do("listen changes")
	l.pause(t)
	if err := l.Primary.Exec(t.Context(), "postgres", "update r set v = 1 where id = 1"); err != nil {
		t.Fatal(err)
	}
	if got := reader.value(read); got != "0" {
		t.Fatalf("nobody told of the commit, replay stands still, and it reads %s", got)
	}
	if err := l.Primary.Exec(t.Context(), "postgres", "notify changes"); err != nil {
		t.Fatal(err)
	}
	if _, err := listener.WaitForNotification(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := reader.value(read); got != "1" {
		t.Errorf("notified, it reads %s", got)
	}
}

// TestTables: a read waits for writes to what it reads only, seen through all that
// lies between.
func TestTables(t *testing.T) {
	l := newLagging(t, `
create schema s;
create table plain(i int primary key); create table elsewhere(i int); create table s.elsewhere2(i int);
create table audited(i int); create table audit(i int);
create function note() returns trigger language plpgsql as 'begin insert into audit values (1); return new; end';
create trigger note after insert on audited for each row execute function note();
create table parent(i int primary key); create table child(i int references parent on delete cascade);
insert into parent values (1), (2);
create table part(i int) partition by list (i); create table part1 partition of part for values in (1); create table part2 partition of part for values in (2);
create table ruled(i int); create table rule_log(i int);
create rule log as on insert to ruled do also insert into rule_log values (new.i);
create table base(i int); create view v1 as select * from base; create view v2 as select * from v1 where i > 0;
create table counted(i int);
create function counts() returns bigint stable language sql as 'select count(*) from counted';
create function counts2() returns bigint stable language plpgsql as 'begin return counts(); end';
create table fed(i int); create function feeds() returns int language plpgsql as 'begin insert into fed values (1); return 1; end';
create table hidden(i int); create function hides() returns int language plpgsql as $$ begin execute 'insert into hid' || 'den values (1)'; return 1; end $$;
create table guarded(i int); create table grants(u text); alter table guarded enable row level security;
create policy p on guarded using (exists (select from grants));
create table serials(id serial, i int);`, nil, func(c *config.Config) { c.Routing.FreshnessWait = 0 })
	s := l.proxy(t)
	writer, reader := s.watch(t), s.watch(t)
	cases := []struct {
		write   string
		stale   []string // reads that must see it
		current []string // and some that need not
	}{
		{"insert into plain values (1)", []string{"select * from plain", "select count(*) from public.plain p join elsewhere e using (i)", "with x as (select * from plain) select * from x", "copy plain to stdout", "explain analyze select * from plain"}, []string{"select * from elsewhere", "select 1", "select * from s.elsewhere2"}},
		{"insert into audited values (1)", []string{"select * from audit", "select * from audited"}, []string{"select * from elsewhere"}},
		{"delete from parent where i = 1", []string{"select * from child", "select * from parent"}, nil},
		{"insert into part values (1)", []string{"select * from part", "select * from part1", "select * from part2"}, nil},
		{"insert into ruled values (1)", []string{"select * from rule_log"}, nil},
		{"insert into v2 values (1)", []string{"select * from base", "select * from v2", "select * from v1"}, nil},
		{"insert into counted values (1)", []string{"select counts()", "select counts2()"}, nil},
		{"select feeds()", []string{"select * from fed"}, nil},
		{"insert into grants values ('x')", []string{"select * from guarded"}, nil},
		{"insert into serials(i) values (1)", []string{"select * from serials"}, nil},
		{"select * from elsewhere for update", nil, []string{"select * from elsewhere"}},
		{"begin; insert into elsewhere values (1); rollback", nil, []string{"select * from s.elsewhere2"}},
		// From here on nothing is certain: it must be the last.
		{"select hides()", []string{"select * from hidden"}, nil},
	}
	for _, c := range cases {
		l.settle(t, reader, append(c.stale, c.current...)...)
	}
	l.pause(t)
	for _, c := range cases {
		for _, sql := range append(c.stale, c.current...) {
			if got := reader.runs(sql); got != "replica" {
				t.Errorf("before %q: %q runs on a %s (%s)", c.write, sql, got, reader.why)
			}
		}
		if _, err := writer.PgConn().Exec(t.Context(), c.write).ReadAll(); err != nil {
			t.Fatalf("%s: %v", c.write, err)
		}
		for _, sql := range c.stale {
			if got := reader.runs(sql); got != "primary" || reader.why != "freshness" {
				t.Errorf("after %q: %q runs on a %s (%s)", c.write, sql, got, reader.why)
			}
		}
		for _, sql := range c.current {
			if got := reader.runs(sql); got != "replica" {
				t.Errorf("after %q: %q runs on a %s (%s)", c.write, sql, got, reader.why)
			}
		}
	}
}

// TestTokens: an LSN told by one proxy after a commit makes reads through another see it.
func TestTokens(t *testing.T) {
	l := newLagging(t, registers, nil)
	a, b := l.proxy(t), l.proxy(t)
	writer, reader := a.watch(t), b.watch(t)
	const read = "select v::text from r where id = 1"
	l.settle(t, reader, read)
	before := writer.value("show pgweir.lsn")
	older := "/* pgweir:min_lsn=" + before + " */ " + read
	until(t, "a replica has reached an older token", func() bool { return reader.runs(older) == "replica" })
	l.pause(t)
	writer.do("update r set v = 1 where id = 1")
	token := writer.value("show pgweir.lsn")
	if got := reader.value(read); got != "0" {
		t.Fatalf("without a token: %s, though replay stands still", got)
	}
	if got := reader.value("/* pgweir:min_lsn=" + token + " */ " + read); got != "1" {
		t.Errorf("with a token in a comment: %s", got)
	}
	until(t, "with an older token a replica is asked", func() bool { return reader.value(older) == "0" }) // unless its state is not known just then
	reader.do("set pgweir.min_lsn = '" + token + "'")
	if got := reader.value("show pgweir.min_lsn"); got != token {
		t.Errorf("SHOW tells %s, want %s", got, token)
	}
	if got := reader.value(read); got != "1" {
		t.Errorf("with a token: %s", got)
	}
	reader.do("set pgweir.consistency = eventual")
	if got := reader.value(read); got != "1" {
		t.Errorf("with a token at level eventual: %s", got)
	}
	l.resume(t)
	until(t, "a replica has reached the token", func() bool { return reader.runs(read) == "replica" })
	if got := reader.value(read); got != "1" {
		t.Errorf("on the replica: %s", got)
	}
	reader.do("set pgweir.min_lsn = 'FFFFFFFF/0'")
	if got := reader.runs(read); got != "primary" {
		t.Errorf("a token of the future is served by a %s", got)
	}
	reader.do("reset pgweir.min_lsn")
	if got := reader.value("show pgweir.min_lsn"); got != "" {
		t.Errorf("after RESET: %q", got)
	}
}

// TestOwnSettings: the proxy's settings are set for the session, the transaction, the
// statement and at startup, told and returned; nonsense is refused.
func TestOwnSettings(t *testing.T) {
	s := start(t, func(c *config.Config) {
		c.Users = map[string]config.User{pgtest.Superuser: {Consistency: "tenant"}}
	})
	database := newDatabase(t, "")
	c := s.connect(t, database)
	value := func(name string) (v string) {
		t.Helper()
		if err := c.QueryRow(t.Context(), "show "+name, pgx.QueryExecModeSimpleProtocol).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, step := range []struct{ sql, want string }{
		{"", "tenant"},
		{"set pgweir.consistency = strong", "strong"},
		{"begin", "strong"},
		{"set local pgweir.consistency = 'eventual'", "eventual"},
		{"commit", "strong"},
		{"set local pgweir.consistency = eventual", "strong"},
		{"begin", "strong"},
		{"set local pgweir.consistency to session", "session"},
		{"set pgweir.consistency to Database", "database"},
		{"rollback", "strong"}, // as with any setting
		{"reset pgweir.consistency", "tenant"},
		{"set pgweir.consistency = session", "session"},
		{"discard all", "tenant"},
	} {
		if step.sql != "" {
			if _, err := c.Exec(t.Context(), step.sql); err != nil {
				t.Fatalf("%s: %v", step.sql, err)
			}
		}
		if got := value("pgweir.consistency"); got != step.want {
			t.Errorf("after %q: %s, want %s", step.sql, got, step.want)
		}
	}
	for sql, code := range map[string]string{
		"set pgweir.consistency = serializable": "22023",
		"set pgweir.consistency = ''":           "22023",
		"set pgweir.min_lsn = '0-1'":            "22023",
		"set pgweir.min_lsn = '123456789/0'":    "22023",
		"set pgweir.route = nowhere":            "22023",
		"set pgweir.lsn = '0/1'":                "55P02",
		"set pgweir.nothing = 1":                "42704",
		"show pgweir.nothing":                   "42704",
	} {
		if _, err := c.Exec(t.Context(), sql); wantCode(err) != code {
			t.Errorf("%s: %v, want %s", sql, err, code)
		}
	}
	c = s.connect(t, database, "options='-c pgweir.consistency=strong -c PGWEIR.route=primary'")
	if got := value("pgweir.consistency") + " " + value("pgweir.route"); got != "strong primary" {
		t.Errorf("from the startup packet: %s", got)
	}
	if _, err := c.Exec(t.Context(), "set pgweir.consistency = eventual; "); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "reset pgweir.consistency"); err != nil {
		t.Fatal(err)
	}
	if got := value("pgweir.consistency"); got != "strong" {
		t.Errorf("RESET returns to %s, not to what the session began with", got)
	}
	for option, code := range map[string]string{"pgweir.consistency=weak": "22023", "pgweir.lsn=0/1": "42704"} {
		if _, err := pgx.Connect(t.Context(), s.dsn(database, "options='-c "+option+"'")); wantCode(err) != code {
			t.Errorf("%s: %v, want %s", option, err, code)
		}
	}
}

// TestLevelSources: comments are stronger than rules, those than the configuration.
func TestLevelSources(t *testing.T) {
	l := newLagging(t, registers+"create table outbox(i int); create table q(i int)", nil, func(c *config.Config) {
		c.Routing.FreshnessWait = 0
		c.Databases = map[string]config.Database{"*": {Consistency: "eventual"}}
		c.Routing.Rules = []config.Rule{{Table: "outbox", Consistency: "database"}, {Application: "careful", Consistency: "database"}}
	})
	s := l.proxy(t)
	writer, reader, careful := s.watch(t), s.watch(t), s.watch(t, "application_name=careful")
	if _, err := careful.Exec(t.Context(), "select 1"); err != nil {
		t.Fatal(err)
	}
	l.settle(t, reader, "select * from q", "select * from outbox")
	l.pause(t)
	writer.do("insert into q values (1)")
	writer.do("insert into outbox values (1)")
	for _, c := range []struct {
		who  *watched
		sql  string
		want string
	}{
		{reader, "select * from q", "replica"},
		{reader, "select * from outbox", "primary"},
		{reader, "/* pgweir:consistency=database */ select * from q", "primary"},
		{reader, "select * from q -- pgweir:consistency=strong", "primary"},
		{reader, "/* pgweir:consistency=eventual */ select * from outbox", "replica"},
		{reader, "/* pgweir:consistency=session */ select * from q", "replica"},
		{writer, "/* pgweir:consistency=session */ select * from q", "primary"},
		{writer, "select * from q", "replica"},
	} {
		if got := c.who.runs(c.sql); got != c.want {
			t.Errorf("%s: a %s (%s), want %s", c.sql, got, c.who.why, c.want)
		}
	}
	reader.do("set pgweir.consistency = eventual")
	if got := reader.runs("select * from outbox"); got != "replica" {
		t.Errorf("the session's own level is weaker than a rule: %s", got)
	}
}

// TestLevelsBesideACursor: a cursor in a READ ONLY transaction is not lost to a level, and
// the reads beside it obey it.
func TestLevelsBesideACursor(t *testing.T) {
	l := newLagging(t, registers, nil)
	s := l.proxy(t)
	for level, fresh := range map[string]bool{"eventual": false, "session": false, "tenant": true, "database": true, "strong": true} {
		reader, writer := s.watch(t, "pgweir.consistency="+level), s.watch(t, "pgweir.consistency="+level)
		writer.do("update r set v = 0 where id = 1")
		l.settle(t, reader, "select v::text from r where id = 1")
		reader.do("begin read only")
		reader.do("declare c cursor for select generate_series(1, 3)::text")
		require.Equal(t, "1", reader.value("fetch c"), level)
		l.pause(t)
		writer.do("update r set v = 1 where id = 1")
		require.Equal(t, fresh, reader.value("select v::text from r where id = 1") == "1", level)
		require.Equal(t, "2", reader.value("fetch c"), level)
		reader.do("commit")
		l.resume(t)
	}
}

// TestSnapshotIsFresh: where a statement without tables takes the snapshot of those behind it, or ties
// them to its server, it has to be as fresh as they need.
func TestSnapshotIsFresh(t *testing.T) {
	l := newLagging(t, registers, nil)
	s := l.proxy(t)
	settling := s.watch(t)
	const look, own = "select v::text from r where id = 1", "set pgweir.consistency = session"
	for i, script := range [][]string{
		{"begin isolation level repeatable read read only", "select current_setting('timezone')", look, "commit"},
		{"begin isolation level repeatable read read only; select current_setting('timezone')", look, "commit"},
		{"set default_transaction_isolation = 'repeatable read'", "begin read only", "select 1", look, "commit"},
		{"set default_transaction_isolation = 'repeatable read'", "select 1; " + look},
		{"begin read only", "set transaction isolation level repeatable read", "select 1", look, "commit"},
		{"begin isolation level repeatable read read only", "declare c cursor for select 1", look, "commit"},
		{own, "begin read only", "declare c cursor for select 1", look, "commit"},
		{own, "begin read only", "select 1", "declare c cursor for " + look, "fetch c", "commit"},
		{own, "begin read only; select 1; declare c cursor for " + look, "fetch c", "commit"},
		{own, "set default_transaction_read_only = on", "begin", "select 1", "declare c cursor for select 1", look, "commit"},
	} {
		l.settle(t, settling)
		r, want := raw(t, s.addr, "postgres"), strconv.Itoa(100+i)
		l.pause(t)
		r.query("update r set v = " + want + " where id = 1")
		var got []string
		for _, sql := range script {
			got = append(got, r.query(sql)...)
		}
		require.Contains(t, strings.Join(got, "\n"), `D "`+want+`"`, "%q", script)
		l.resume(t)
	}
	l.settle(t, settling)
	r := raw(t, s.addr, "postgres")
	l.pause(t)
	r.query("update r set v = 1000 where id = 1")
	r.send(&pgproto3.Parse{Query: look}, &pgproto3.Bind{}, &pgproto3.Flush{})
	r.wait("2")
	r.send(&pgproto3.Execute{}, &pgproto3.Sync{})
	require.Contains(t, r.wait("Z"), `D "1000"`, "Bind, and Execute behind a Flush")
}

// TestMaxStaleness: replay stands still; up to max_staleness eventual reads may miss a
// commit, but no longer.
func TestMaxStaleness(t *testing.T) {
	l := newLagging(t, registers, nil, func(c *config.Config) {
		c.Routing.Consistency, c.Routing.MaxStaleness = "eventual", time.Second
	})
	s := l.proxy(t)
	reader := s.watch(t)
	const read = "select v::text from r where id = 1"
	l.settle(t, reader, read)
	l.pause(t)
	if err := l.Primary.Exec(t.Context(), "postgres", "update r set v = 1 where id = 1"); err != nil {
		t.Fatal(err)
	}
	committed, replica := time.Now(), 0
	for time.Since(committed) < 3*time.Second/2 {
		began := time.Now()
		got := reader.value(read)
		if began.Sub(committed) > time.Second && got != "1" {
			t.Fatalf("read %s, %v after the commit", got, began.Sub(committed))
		}
		if reader.role == "replica" {
			replica++
		}
	}
	if replica == 0 {
		t.Error("no replica read, though it may be a second behind")
	}
}

// A point read by one client at each level, nothing being written, on a shared
// two-core machine: eventual 0.14 ms, strong 0.6 ms. See bench for loads.
func BenchmarkReadAtLevel(b *testing.B) {
	database := newDatabase(b, registers)
	s := start(b)
	for _, level := range []string{"eventual", "database", "strong"} {
		b.Run(level, func(b *testing.B) {
			conn := s.connect(b, database, "options='-c pgweir.consistency="+level+"'")
			before := s.metric(b, "pgweir_statements_total", "target=replica")
			for b.Loop() {
				var v int
				if err := conn.QueryRow(b.Context(), "select v from r where id = 1").Scan(&v); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(100*(s.metric(b, "pgweir_statements_total", "target=replica")-before)/float64(b.N), "%replica")
		})
	}
}
