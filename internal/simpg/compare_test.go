package simpg

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// compareSchema is what the statements of compare run against. %R% is a role of its own.
const compareSchema = `create role %R%; create role %R%_b;
create table items (id int primary key, tenant text not null default current_setting('app.tenant', true), v text, n int not null default 0);
alter table items enable row level security; alter table items force row level security;
create policy own on items using (tenant = current_setting('app.tenant', true)) with check (tenant = current_setting('app.tenant', true));
create policy reads on items for select to %R%_b using (n > 5);
create policy never on items as restrictive for delete using (v is distinct from 'kept');
create table log (id serial primary key, item int, what text unique);
create table plain (a int, b text);
create view seen as select id, v from items where n >= 0;
create function f_count() returns bigint language sql stable as $$ select count(*) from items $$;
create function f_tenant(t text) returns text language plpgsql as $$ begin perform set_config('app.tenant', t, true); return current_setting('app.tenant'); end $$;
create function f_log(i int, w text) returns int language plpgsql as $$ declare r int; begin insert into log (item, what) values (i, w) returning id into r; return r; end $$;
create function f_trg() returns trigger language plpgsql as $$ begin new.n := new.n + 1; return new; end $$;
create trigger bump before update on items for each row execute function f_trg();
insert into items values (1, 'a', 'x', 1), (2, 'a', 'kept', 9), (3, 'b', 'y', 7), (4, 'c', null, 0);
insert into plain values (1, 'one'), (2, 'two'), (null, 'none');
grant all on items, log, seen, log_id_seq to %R%, %R%_b; grant select on plain to %R%;`

// comparer makes up statements.
type comparer struct {
	*rand.Rand
	role string
	next int
}

func (g *comparer) of(list ...string) string { return list[g.IntN(len(list))] }

func (g *comparer) id() string { return fmt.Sprint(1 + g.IntN(8)) }

func (g *comparer) word() string {
	return g.of("'x'", "'y'", "'kept'", "null", "'it''s'", "'a'", "'7'", "''")
}

func (g *comparer) tenant() string { return g.of("'a'", "'b'", "'c'", "''") }

func (g *comparer) fresh() string { g.next++; return fmt.Sprint(100 + g.next) }

// statement is one statement of any kind.
func (g *comparer) statement() string {
	switch g.IntN(12) {
	case 0, 1:
		return g.session()
	case 2, 3:
		return g.write()
	case 4, 5, 6:
		return g.read()
	case 7, 8:
		return g.transaction()
	case 9:
		return g.state()
	case 10:
		return g.wrong()
	}
	return g.read()
}

func (g *comparer) session() string {
	return g.of("set app.tenant = "+g.tenant(), "set local app.tenant = "+g.tenant(), "select set_config('app.tenant', "+g.tenant()+", "+g.of("true", "false")+")", "reset app.tenant",
		"set role "+g.role, "set role "+g.role+"_b", "set local role "+g.role, "reset role", "set role none", "set session authorization "+g.role, "reset session authorization",
		"select f_tenant("+g.tenant()+")", "set row_security = "+g.of("on", "off"), "reset row_security", "reset all", "show app.tenant", "select current_user, session_user, current_setting('app.tenant', true)",
		"set transaction_read_only = "+g.of("on", "off"), "set default_transaction_read_only = "+g.of("on", "off"), "set search_path = "+g.of("public", "pg_temp, public", "nowhere, public", "nowhere"),
		"reset search_path", "set app.tenant from current", "set datestyle = 'german'", "discard all", "discard temp", "discard sequences")
}

func (g *comparer) write() string {
	return g.of("insert into items (id, v) values ("+g.fresh()+", "+g.word()+")", "insert into items values ("+g.fresh()+", "+g.tenant()+", "+g.word()+", "+g.id()+") returning id, tenant, n",
		"insert into items (id, v) values ("+g.id()+", 'dup')", "insert into items (id, v, n) values ("+g.id()+", 'up', 3) on conflict (id) do update set v = excluded.v, n = items.n + excluded.n returning *",
		"insert into items (id, v) values ("+g.id()+", 'no') on conflict do nothing", "update items set v = "+g.word()+" where id = "+g.id()+" returning *", "update items set n = n + 1 where n < 5",
		"update items set tenant = "+g.tenant()+" where id = "+g.id(), "delete from items where id = "+g.id()+" returning id", "delete from items where v = 'x'", "insert into log (item, what) select id, v || id from items order by id returning id, what",
		"select f_log("+g.id()+", "+g.word()+")", "with gone as (delete from items where id = "+g.id()+" returning id, v) insert into log (item, what) select id, v from gone returning item, what", "truncate plain",
		"update items i set v = p.b from plain p where p.a = i.id", "update items i set v = p.b from plain p where p.a = i.id and i.id = 1 returning i.id", "insert into plain select n, v from items order by id", "update plain set b = default", "insert into log default values returning id", "insert into items values ("+g.fresh()+", default, default, default) returning *",
		"select id from items where n < 100 order by id for update", "select v from items order by v nulls first limit 2 for share")
}

func (g *comparer) read() string {
	return g.of("select * from items order by id", "select count(*), sum(n), min(v), max(n) from items", "select tenant, count(*) from items group by tenant order by 1", "select id, v from seen order by id desc limit "+g.id(),
		"select f_count()", "select i.id, l.what from items i join log l on l.item = i.id order by l.id", "select i.id, p.b from items i left join plain p on p.a = i.id order by i.id, p.b", "select * from plain order by a, b",
		"select id from items where id in (1, 2, "+g.id()+") and v is not null order by id", "select exists (select 1 from items where tenant <> current_setting('app.tenant', true))", "select coalesce(v, '-'), n + 1, n * 2.5, id || ':' || tenant from items order by id",
		"select case when n > 5 then 'big' when v is null then 'none' else v end as c from items order by id", "with t as (select tenant, n from items) select tenant, sum(n) from t group by tenant having count(*) > 0 order by tenant",
		"select id from items union select a from plain order by 1", "select id from items union all select a from plain order by 1 desc nulls last", "values (1, 'a'), (2, 'b')", "select distinct tenant from items order by tenant",
		"select (select count(*) from items i where i.id <= o.id) from items o order by o.id", "select x, x * x from generate_series(1, 4) x where x % 2 = 0", "select string_agg(v, ',' order by id) from items", "table plain order by a, b",
		"select n from items where v like '%x%' or n between 3 and 9 order by id offset 1", "select what from log order by id", "select hashtext(''), hashtext('x'), hashtext('twelve bytes'), hashtext('it is a longer text than that'), hashtext("+g.word()+")", "select nullif("+g.word()+", 'x'), greatest(1, 5, 3), least('b', 'a')", "select 10 / (n - 1) from items order by id", "select * from items i where n = any (array[1, 9]) order by id",
		"select count(distinct tenant) filter (where n > 1) from items", "select true and null, not false, null is null, 1 = 1.0, 'a' < 'b', 7 % 3, -5, 2 <> 3")
}

func (g *comparer) transaction() string {
	return g.of("begin", "begin", "commit", "commit", "rollback", "savepoint a", "savepoint b", "rollback to a", "rollback to b", "release a", "release b", "begin read only", "begin isolation level repeatable read", "start transaction isolation level serializable",
		"commit and chain", "rollback and chain", "set transaction isolation level repeatable read", "set transaction read only", "end", "abort")
}

func (g *comparer) state() string {
	return g.of("create temp table t (a int, b text)", "create temp table if not exists t (a int)", "insert into t values ("+g.id()+", 'x')", "select * from t", "drop table t", "drop table if exists t", "create temp table c on commit drop as select id, v from items",
		"declare c cursor for select id, v from items order by id", "declare h cursor with hold for select n from items order by id", "fetch 2 from c", "fetch all from h", "move 1 in c", "close c", "close h", "close all",
		"select pg_try_advisory_lock(5)", "select pg_advisory_unlock(5)", "select pg_advisory_unlock_all()", "select pg_try_advisory_xact_lock(6, 7)", "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
		"listen news", "unlisten *", "notify news, 'hello'", "select pg_notify('news', 'again')", "select * from pg_listening_channels()", "select pg_listening_channels()", "select currval('log_id_seq')", "select lastval()", "select nextval('log_id_seq') is not null",
		"prepare p (int) as select id, v from items where id = $1", "execute p(2)", "deallocate p", "prepare w as insert into log (what) values ('by p') returning id", "execute w", "deallocate all", "select name, from_sql from pg_prepared_statements order by name",
		"alter table plain add c int default 3", "alter table plain drop c", "create or replace function f_count() returns bigint language sql stable as $$ select count(*) + 100 from items $$", "create index on plain (a)", "create table made (x int)", "drop table made",
		"copy plain to stdout", "copy (select id, v from items order by id) to stdout", "explain (costs off) select 1", "do $$ begin perform set_config('app.tenant', 'b', false); end $$", "do $$ begin raise notice 'said %', 1; end $$", "lock table plain in share mode", "lock table nowhere in access share mode",
		"copy plain from stdin", "copy plain (a) from stdin", "copy t from stdin", "copy items from stdin", "copy nowhere from stdin", "copy nowhere to stdout", "copy plain (z) from stdin", "copy items (id, z) to stdout")
}

func (g *comparer) wrong() string {
	return g.of("select 1/0", "select nothing", "selec 1", "select * from nowhere", "insert into items values (1)", "insert into items (id, tenant) values (50, 'zz')", "insert into items (id, v, nope) values (1, 2, 3)", "select no_such(1)", "select 'x'::int",
		"select 1 + 'x'", "update items set id = null where id = 2", "insert into log (what) values ('same'), ('same')", "fetch 1 from none", "execute none", "set nonsense = 1", "set role nobody", "select i.id from items j", "select v from items, log where id = 1",
		"insert into plain values (1, 'x', 4, 5)", "select $1", "select count(*) from items where count(*) > 1", "select (select 1, 2)", "create table plain (a int)", "drop table nowhere", "select 99999999999::int", "select 2147483647 + 1", "release z", "rollback to z", "savepoint")
}

// wire is a connection to either side, whose answers are lines.
type wire struct {
	front *pgproto3.Frontend
	conn  net.Conn
}

func connectWire(conn net.Conn, database, options string) *wire {
	w := &wire{pgproto3.NewFrontend(conn, conn), conn}
	w.say([]pgproto3.FrontendMessage{&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters: map[string]string{"user": Superuser, "database": database, "options": options}}})
	return w
}

func (w *wire) say(ms []pgproto3.FrontendMessage) (lines []string) {
	for _, m := range ms {
		w.front.Send(m)
	}
	_ = w.conn.SetDeadline(time.Now().Add(5 * time.Second))
	if err := w.front.Flush(); err != nil {
		return []string{err.Error()}
	}
	for {
		m, err := w.front.Receive()
		if err != nil {
			return append(lines, err.Error())
		}
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			return append(lines, line(m))
		case *pgproto3.RowDescription:
			l := "T"
			for _, f := range m.Fields {
				l += fmt.Sprintf(" %s:%d:%d:%d", f.Name, f.DataTypeOID, f.DataTypeSize, f.TableAttributeNumber)
			}
			lines = append(lines, l)
		case *pgproto3.ErrorResponse:
			lines = append(lines, fmt.Sprintf("%s detail=%s position=%d %s.%s %s", line(m), m.Detail, m.Position, m.SchemaName, m.TableName, m.ConstraintName))
		case *pgproto3.ParameterDescription:
			lines = append(lines, fmt.Sprint("t ", m.ParameterOIDs))
		case *pgproto3.NotificationResponse:
			lines = append(lines, "A "+m.Channel+" "+m.Payload)
		case *pgproto3.CopyData:
			lines = append(lines, fmt.Sprintf("d %q", m.Data))
		case *pgproto3.ParameterStatus:
			if m.Name != "in_hot_standby" {
				lines = append(lines, line(m))
			}
		default:
			lines = append(lines, fmt.Sprintf("%T %s", m, line(m)))
		}
	}
}

// messages send a statement in one of the protocol's ways.
func (g *comparer) messages(sql string) []pgproto3.FrontendMessage {
	var data []pgproto3.FrontendMessage
	if strings.HasSuffix(sql, "from stdin") {
		data = append(data, &pgproto3.CopyData{Data: []byte(g.of(g.fresh()+"\n", g.fresh()+"\tfive\n"+g.fresh()+"\t\\N\n", "x\ty\n", g.fresh()+"\ta\tz\t1\n"))}, g.end())
	}
	if g.IntN(2) == 0 {
		return append([]pgproto3.FrontendMessage{&pgproto3.Query{String: sql}}, data...)
	}
	ms := []pgproto3.FrontendMessage{&pgproto3.Parse{Query: sql}}
	if g.IntN(3) == 0 {
		ms = append(ms, &pgproto3.Describe{ObjectType: 'S'})
	}
	ms = append(ms, &pgproto3.Bind{})
	if g.IntN(2) == 0 {
		ms = append(ms, &pgproto3.Describe{ObjectType: 'P'})
	}
	if g.IntN(4) == 0 && data == nil {
		ms = append(ms, &pgproto3.Execute{MaxRows: 1})
	}
	ms = append(ms, &pgproto3.Execute{})
	return append(append(ms, data...), &pgproto3.Sync{})
}

// end ends what is copied.
func (g *comparer) end() pgproto3.FrontendMessage {
	if g.IntN(4) == 0 {
		return &pgproto3.CopyFail{Message: "enough"}
	}
	return &pgproto3.CopyDone{}
}

// stage is a database on both sides for one history.
type stage struct {
	t        testing.TB
	database string
	role     string
	model    *Cluster
	sides    [2][]*wire // by session
	done     []chan struct{}
}

// newStage makes it; sessions wait for each other for so long.
func newStage(t testing.TB, sessions int, options string, standby bool) *stage {
	real := pgtest.Shared(t)
	db := real.Database(t)
	s := &stage{t: t, database: db, role: "r_" + db}
	schema := strings.ReplaceAll(compareSchema, "%R%", s.role)
	if err := real.Primary.Exec(context.Background(), db, schema); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.model, err = New(Options{Replicas: 1, Databases: []string{db}, Setup: schema, Parameters: map[string]string{"TimeZone": "UTC", "jit": "off", "synchronize_seqscans": "off"}}); err != nil {
		t.Fatal(err)
	}
	addr, server := real.Primary.Addr(), s.model.Primary()
	if standby {
		if err := real.WaitReplay(context.Background()); err != nil {
			t.Fatal(err)
		}
		addr, server = real.Replicas[0].Addr(), s.model.Server("replica1")
	}
	for range sessions {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		near, far := pair(t)
		done := make(chan struct{})
		go func() { server.Serve(far); close(done) }()
		s.done = append(s.done, done)
		s.sides[0] = append(s.sides[0], connectWire(conn, db, options))
		s.sides[1] = append(s.sides[1], connectWire(near, db, options))
	}
	return s
}

// pair is a connection with both its ends; unlike a net.Pipe it holds what is not read yet.
func pair(t testing.TB) (near, far net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func (s *stage) close() {
	for i := range s.done {
		_ = s.sides[0][i].conn.Close()
		_ = s.sides[1][i].conn.Close()
		<-s.done[i]
	}
	s.model.Close()
	for range 100 { // the server may not have noticed yet
		err := pgtest.Shared(s.t).Primary.Exec(context.Background(), s.database, strings.ReplaceAll("reassign owned by %R%, %R%_b to postgres; drop owned by %R%, %R%_b; drop role %R%, %R%_b", "%R%", s.role))
		if err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func exploring() (seed uint64) {
	seed = 1
	if v := os.Getenv("SIMPG_SEED"); v != "" {
		_, _ = fmt.Sscan(v, &seed)
	}
	return seed
}

// TestStatements plays made-up statements of one session on PostgreSQL and on the model.
// SIMPG_SEED has it explore others.
func TestStatements(t *testing.T) { compareHistories(t, 40, 60, 1, "", 0, false) }

// TestSessions plays made-up statements of several sessions, one after the other: who
// would wait for another runs into its time limit.
func TestSessions(t *testing.T) {
	compareHistories(t, 12, 60, 3, "-c statement_timeout=300", 1000, false)
}

// TestStandby plays made-up statements on a standby, which refuses most.
func TestStandby(t *testing.T) { compareHistories(t, 20, 60, 1, "", 2000, true) }

func compareHistories(t *testing.T, histories, length, sessions int, options string, salt uint64, standby bool) {
	steps := 0
	for n := range histories {
		s := newStage(t, sessions, options, standby)
		g := &comparer{Rand: rand.New(rand.NewPCG(exploring()+salt, uint64(n))), role: s.role}
		var told []string
		for range length {
			i := g.IntN(sessions)
			sql := g.statement()
			ms := g.messages(sql)
			want, got := s.sides[0][i].say(ms), s.sides[1][i].say(ms)
			steps++
			told = append(told, fmt.Sprintf("%d: %s (%d messages)", i, sql, len(ms)))
			w, h := answers(want, sessions), answers(got, sessions)
			if strings.Contains(h, "40P01") && strings.Contains(w, "57014") {
				break // PostgreSQL takes a second to find a deadlock
			}
			if w != h {
				t.Errorf("history %d\n%s\nPostgreSQL:\n\t%s\nthe model:\n\t%s", n, strings.Join(told, "\n"), w, h)
				break
			}
		}
		s.close()
		if t.Failed() {
			break
		}
	}
	t.Logf("%d steps", steps)
}

// answers are what is compared: notifications of others come when they come.
func answers(lines []string, sessions int) string {
	if sessions > 1 {
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "A ") })
	}
	return strings.Join(lines, "\n\t")
}

// TestPrepared plays what prepared statements go through when the catalog changes.
func TestPrepared(t *testing.T) {
	q := func(sql string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{&pgproto3.Query{String: sql}}
	}
	prepare := func(name, sql string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{&pgproto3.Parse{Name: name, Query: sql}, &pgproto3.Describe{ObjectType: 'S', Name: name}, &pgproto3.Sync{}}
	}
	run := func(name string, params ...string) []pgproto3.FrontendMessage {
		b := &pgproto3.Bind{PreparedStatement: name}
		for _, p := range params {
			b.Parameters = append(b.Parameters, []byte(p))
		}
		return []pgproto3.FrontendMessage{b, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{}}
	}
	numbers := regexp.MustCompile(`(type|t \[)( ?)[0-9]{5,}|:[0-9]{5,}:`)
	s := newStage(t, 1, "", false)
	defer s.close()
	for i, ms := range [][]pgproto3.FrontendMessage{
		q("create type mood as enum ('sad', 'ok')"), q("create table m (x mood, n int)"), prepare("e", "insert into m values ($1, $2)"), run("e", "ok", "1"), prepare("r", "select x, n from m where x = $1"), run("r", "ok"),
		q("drop table m; drop type mood"), run("e", "ok", "2"), q("create type mood as enum ('sad', 'ok'); create table m (x mood, n int)"), run("e", "ok", "2"), run("r", "ok"),
		prepare("e", "select 1"), {&pgproto3.Close{ObjectType: 'S', Name: "e"}, &pgproto3.Sync{}}, prepare("e", "insert into m values ($1, $2)"), run("e", "sad", "3"),
		prepare("s", "select * from plain where a = $1"), run("s", "1"), q("alter table plain add c text default 'new'"), run("s", "1"), q("begin"), run("s", "1"), q("rollback"), q("alter table plain drop c"), run("s", "2"),
		prepare("p", "select count(*) from plain"), q("create temp table plain (a int)"), run("p"), q("drop table plain"), run("p"), q("create schema other; create table other.plain (a int)"), q("set search_path = other, public"), run("p"), run("s", "1"),
		q("reset search_path"), run("s", "1"), prepare("x", "select $1 + 1, $2 || 'x', $3, $4::int"), run("x", "1", "a", "b", "7"), run("x", "one", "a", "b", "7"), run("x", "1"),
		prepare("l", "select id from items order by id limit $1"), run("l", "2"), prepare("i", "select id from items where id = any ($1) order by id"), run("i", "{1,3}"), prepare("v", "values ($1::int, $2)"), run("v", "3", "z"),
		prepare("b", "begin"), run("b"), run("b"), prepare("c", "commit"), run("c"), run("c"), q("deallocate e"), run("e", "ok", "1"), q("prepare e as select 5"), run("e"), prepare("d", "deallocate e"), run("d"), run("d"),
		{&pgproto3.Parse{Query: "select 1"}, &pgproto3.Bind{DestinationPortal: "one"}, &pgproto3.Bind{DestinationPortal: "one"}, &pgproto3.Sync{}}, q("begin"), {&pgproto3.Parse{Query: "select id from items order by id"}, &pgproto3.Bind{DestinationPortal: "two"}, &pgproto3.Execute{Portal: "two", MaxRows: 2}, &pgproto3.Sync{}},
		{&pgproto3.Execute{Portal: "two", MaxRows: 1}, &pgproto3.Execute{Portal: "two"}, &pgproto3.Execute{Portal: "two"}, &pgproto3.Sync{}}, q("commit"), {&pgproto3.Execute{Portal: "two"}, &pgproto3.Sync{}},
	} {
		want, got := s.sides[0][0].say(ms), s.sides[1][0].say(ms)
		w, h := numbers.ReplaceAllString(strings.Join(want, "\n\t"), "$1 own"), numbers.ReplaceAllString(strings.Join(got, "\n\t"), "$1 own")
		if w != h {
			t.Errorf("step %d: %+v\nPostgreSQL:\n\t%s\nthe model:\n\t%s", i, ms[0], w, h)
		}
	}
}
