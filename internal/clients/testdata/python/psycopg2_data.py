"""psycopg2: statements, types, COPY, cursors, errors, notices and large objects."""

import datetime
import decimal
import io
import uuid

import psycopg2
import psycopg2.extras

from checks import check, digest, main, say
from psycopg2_driver import attempt, auto, connect, describe, one, rows, run

psycopg2.extras.register_uuid()

TYPES = (
    "select 1::int2, (-2147483648)::int4, 9223372036854775807::int8, 1.5::float4, 'NaN'::float8, '-Infinity'::float8, "
    "12345678901234567890.000123::numeric, 'NaN'::numeric, true, null::bool, 'grün – 漢字 🚚'::text, ''::text, "
    "'ab '::char(5), 'x'::\"char\", 'name'::name, '\\x00ff10'::bytea, ''::bytea, "
    "'{\"b\": [1, null], \"a\": \"ü\"}'::json, '{\"b\": [1, null], \"a\": \"ü\"}'::jsonb, "
    "'{1,2,null}'::int[], '{{a,b},{\"c d\",\"\\\"\"}}'::text[], '{}'::int[], "
    "'2026-02-28'::date, '23:59:59.999999'::time, '12:00+05:30'::timetz, '2026-02-28 01:02:03.456'::timestamp, "
    "'2026-02-28 01:02:03.456+02'::timestamptz, '0044-03-15 BC'::date::text, 'infinity'::timestamp::text, "
    "'1 year 2 mons 3 days 04:05:06.7'::interval, "
    "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid, '10.1.0.0/16'::inet, '08:00:2b:01:02:03'::macaddr, "
    "'[1,10)'::int4range, '(1,2)'::point, B'1010'::bit(4), '<a>b</a>'::xml, 12.34::money, row(1, 'a', null), "
    "'fat & rat'::tsquery, 'a fat cat'::tsvector, 1::oid, 'pg_class'::regclass, '16/B374D848'::pg_lsn"
)


@check
def types(conn):
    with conn.cursor() as cur:
        cur.execute(TYPES)
        say("values", cur.fetchone())
        say("oids", [(c.name, c.type_code, c.internal_size) for c in cur.description])
    say("adapted", rows(conn, "select %s, %s, %s, %s, %s, %s, %s, %s, %s", (
        7, decimal.Decimal("1.10"), "it's \\ ü", b"\x00\xff", None, [1, 2], datetime.date(2026, 2, 28),
        uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), psycopg2.extras.Json({"a": 1}))))
    say("percent", rows(conn, "select 'a%%b' like 'a%%', 7 %% 4", ()))
    attempt("nul", lambda: rows(conn, "select chr(0)"))
    conn.rollback()
    say("quotes", rows(conn, "select E'a\\'b\\n', $$dollar '$$, $t$tagged $$ $t$, U&'\\0441', 'a'\n'b'"))


@check
def statement_strings(conn):
    conn.autocommit = True
    cur = conn.cursor()

    def result(sql):
        cur.execute(sql)
        return [cur.statusmessage, cur.rowcount, cur.fetchall() if cur.description else None]

    for sql in ("select 1; select 2", "select 1;", "select 1; ;; -- tail", "create table m (a int); insert into m values (1), (2)",
                "insert into m values (3); select count(*) from m", "update m set a = a + 1 where a > 1",
                "delete from m where a = 1", "/* lead */ select 1 /* /* nested */ end */", "select ';', '--', '/*'",
                "values (1, 'a'), (2, 'b')", "table m", "select from m", "explain (costs off) select * from m where a = 1",
                "with d as (delete from m where a = 3 returning a) select * from d", "truncate m",
                "begin; insert into m values (9); rollback; select count(*) from m",
                "insert into m values (10); begin; insert into m values (11); commit; insert into m values (12)",
                "show server_version_num", "analyze m", "vacuum m", "comment on table m is 'c'", "checkpoint",
                "select 1 as \"odd \"\" name\", 2 as \"ü\""):
        attempt(sql, lambda: result(sql))
    for sql in ("", ";", "  ", "-- only a comment", "/* only */"):
        attempt(f"empty {sql!r}", lambda: result(sql))
    attempt("error in the middle", lambda: result("insert into m values (20); select 1/0; insert into m values (21)"))
    say("all undone", rows(conn, "select count(*) from m where a >= 20"))
    attempt("syntax error anywhere", lambda: result("insert into m values (22); selec 1"))
    attempt("error after commit", lambda: result("begin; insert into m values (23); commit; select 1/0"))
    attempt("no block in a string", lambda: result("select 1; vacuum m"))
    say("kept", rows(conn, "select a from m order by a"))
    attempt("set and use", lambda: result("set app.s = 'v'; select current_setting('app.s')"))
    attempt("local and use", lambda: result("begin; set local app.s = 'w'; select current_setting('app.s'); commit; show app.s"))


@check
def sql_prepare(conn):
    conn.autocommit = True
    run(conn, "create table p (a int, b text)", "insert into p select g, 'v' || g from generate_series(1, 10) g")
    say("prepare", run(conn, "prepare q (int) as select b from p where a = $1"))
    say("execute", [one(conn, f"execute q ({i})") for i in range(1, 11)])
    attempt("duplicate", lambda: run(conn, "prepare q as select 1"))
    attempt("unknown", lambda: run(conn, "execute nothing"))
    attempt("unknown deallocate", lambda: run(conn, "deallocate nothing"))
    attempt("wrong count", lambda: run(conn, "execute q (1, 2)"))
    attempt("wrong type", lambda: run(conn, "execute q ('x')"))
    run(conn, "prepare w (int, text) as insert into p values ($1, $2) returning a")
    say("writing", rows(conn, "execute w (11, 'e')"))
    say("read", one(conn, "execute q (11)"))
    say("in transaction", [run(conn, "begin"), rows(conn, "execute q (2)"), rows(conn, "execute w (12, 'z')"), run(conn, "rollback")])
    say("prepare survives rollback", [run(conn, "begin"), run(conn, "prepare r as select 5"), run(conn, "rollback"), rows(conn, "execute r")])
    say("explain", rows(conn, "explain (costs off) execute r"))
    say("create table as execute", [run(conn, "create table p2 as execute q (4)"), rows(conn, "table p2")])
    say("listed", rows(conn, "select name, statement, parameter_types::text, from_sql from pg_prepared_statements order by name"))
    run(conn, "deallocate q")
    attempt("deallocated", lambda: run(conn, "execute q (1)"))
    say("again", [run(conn, "prepare q (int) as select $1 * 2"), one(conn, "execute q (21)")])
    say("all", run(conn, "deallocate all"))
    attempt("gone", lambda: run(conn, "execute w (1, '1')"))
    attempt("gone too", lambda: run(conn, "execute q (1)"))


@check
def sql_prepare_and_ddl(conn):
    conn.autocommit = True
    run(conn, "create table d (a int)", "insert into d values (1)", "prepare star as select * from d")
    say("before", rows(conn, "execute star"))
    run(conn, "alter table d add b text default 'x'")
    attempt("changed", lambda: rows(conn, "execute star"))
    run(conn, "deallocate star", "prepare star as select * from d")
    say("prepared anew", rows(conn, "execute star"))
    run(conn, "drop table d")
    attempt("dropped", lambda: rows(conn, "execute star"))
    run(conn, "create table d (a int, b text)")
    say("created again", rows(conn, "execute star"))


@check
def copy_in(conn):
    run(conn, "create table k (a int primary key, b text)")
    conn.commit()
    cur = conn.cursor()

    def load(sql, data):
        cur.copy_expert(sql, data)
        return [cur.statusmessage, cur.rowcount]

    attempt("text", lambda: load("copy k from stdin", io.StringIO("1\tone\n2\t\\N\n3\tgrün\\ttab\n")))
    attempt("csv", lambda: load("copy k (b, a) from stdin with (format csv, header)", io.StringIO('b,a\n"a, ""b""",4\n,5\n')))
    attempt("end marker", lambda: load("copy k from stdin", io.StringIO("6\tsix\n\\.\n")))
    attempt("nothing", lambda: load("copy k from stdin", io.StringIO("")))
    say("rows", rows(conn, "select * from k order by a"))
    conn.commit()
    attempt("bad value", lambda: load("copy k from stdin", io.StringIO("7\tx\nseven\tx\n8\tx\n")))
    conn.rollback()
    attempt("duplicate", lambda: load("copy k from stdin", io.StringIO("1\tx\n")))
    conn.rollback()
    attempt("too many columns", lambda: load("copy k from stdin", io.StringIO("9\tx\ty\n")))
    conn.rollback()
    attempt("no such table", lambda: load("copy nowhere from stdin", io.StringIO("9\tx\n")))
    conn.rollback()
    attempt("error late in much data", lambda: load("copy k from stdin", io.StringIO(
        "".join(f"{i}\t{'y' * 100}\n" for i in range(100, 20000)) + "bad\n")))
    conn.rollback()

    class Breaks:
        def __init__(self):
            self.calls = 0

        def read(self, size=-1):
            self.calls += 1
            if self.calls > 2:
                raise ValueError("the client gave up")
            return "".join(f"{self.calls}{i}\tx\n" for i in range(10, 90))

    attempt_with(conn, "client gives up", lambda: load("copy k from stdin", Breaks()))
    conn.rollback()
    say("unharmed", rows(conn, "select count(*) from k"))
    conn.commit()
    conn.autocommit = True
    big = "".join(f"{i}\t{'ü' * 50}{i}\n" for i in range(1000, 95000))
    say("10 MB", [len(big.encode()) > 10 << 20 or len(big.encode()), load("copy k from stdin", io.StringIO(big))])
    say("read back", rows(conn, "select count(*), sum(a), md5(string_agg(b, '' order by a)) from k"))
    say("in a string", [load("insert into k values (50, 's'); copy k from stdin", io.StringIO("51\tx\n")),
                        one(conn, "select count(*) from k where a in (50, 51)")])


def attempt_with(conn, name, fn):
    try:
        say(name, fn())
    except (psycopg2.Error, ValueError) as err:
        say(name, describe(err))


@check
def copy_out(conn):
    run(conn, "create table kout (a int, b text)",
        "insert into kout select g, repeat('ü', 40) || g from generate_series(1, 120000) g")
    conn.commit()
    conn.autocommit = True
    cur = conn.cursor()

    def dump(sql):
        out = io.BytesIO()
        cur.copy_expert(sql, out)
        return [cur.statusmessage, out.getvalue()]

    attempt("text", lambda: dump("copy (select * from kout where a <= 3 order by a) to stdout"))
    attempt("csv", lambda: dump("copy (select a, b, null from kout where a = 1) to stdout with (format csv, header, force_quote *)"))
    attempt("binary", lambda: dump("copy (select a, b from kout where a < 10 order by a) to stdout with (format binary)"))
    attempt("table", lambda: dump("copy kout to stdout"))
    attempt("error", lambda: dump("copy (select 1 / (a - 90000) from kout order by a) to stdout"))
    attempt("no such table", lambda: dump("copy nowhere to stdout"))
    attempt("writing", lambda: dump("copy (insert into kout values (0, 'zero') returning *) to stdout"))
    attempt("after", lambda: dump("copy (select * from kout where a = 0) to stdout"))

    class Breaks:
        def write(self, data):
            raise ValueError("disk full")

    attempt_with(conn, "client gives up", lambda: cur.copy_expert("copy kout to stdout", Breaks()))
    attempt("usable", lambda: one(conn, "select 1"))


@check
def cursors(conn):
    run(conn, "create table n (a int)", "insert into n select generate_series(1, 5000)")
    conn.commit()
    with conn.cursor("named") as cur:
        cur.itersize = 100
        cur.execute("select a from n order by a")
        say("iterated", digest(cur))
    conn.commit()
    cur = conn.cursor("scrolling", scrollable=True)
    cur.execute("select a from n order by a")
    say("fetch", [cur.fetchmany(3), cur.fetchone()])
    cur.scroll(10), say("forward", cur.fetchone())
    cur.scroll(-5), say("backward", cur.fetchone())
    cur.scroll(4999, mode="absolute"), say("absolute", [cur.fetchone(), cur.fetchone()])
    cur.close()
    two = [conn.cursor("one"), conn.cursor("two")]
    for c, order in zip(two, ("asc", "desc")):
        c.execute(f"select a from n order by a {order}")
    say("two open", [c.fetchmany(2) for c in two + two])
    conn.rollback()
    attempt("after rollback", lambda: two[0].fetchone())
    conn.rollback()
    run(conn, "declare u cursor for select a from n where a < 4 order by a for update", "fetch 2 from u")
    say("update where current of", run(conn, "update n set a = -a where current of u"))
    say("updated", rows(conn, "select a from n where a < 0"))
    conn.rollback()
    conn.autocommit = True
    held = conn.cursor("held", withhold=True)
    held.execute("select a from n order by a")
    say("held", [held.fetchmany(2), one(conn, "select count(*) from n"), held.fetchmany(2)])
    say("listed", rows(conn, "select name, is_holdable, is_scrollable from pg_cursors order by 1"))
    held.close()
    attempt("declare outside", lambda: run(conn, "declare x cursor for select 1"))
    attempt("unknown", lambda: run(conn, "fetch x"))
    attempt("close unknown", lambda: run(conn, "close x"))
    say("close all", run(conn, "close all"))
    say("move", [run(conn, "begin"), run(conn, "declare m cursor for select a from n order by a"), run(conn, "move 10 in m"),
                 rows(conn, "fetch m"), run(conn, "fetch backward 2 from m"), run(conn, "commit")])


@check
def refcursor(conn):
    run(conn, "create table rn (a int)", "insert into rn select generate_series(1, 9)",
        "create function opens() returns refcursor language plpgsql as "
        "$$ declare c refcursor := 'rc'; begin open c for select a from rn order by a; return c; end $$")
    conn.commit()
    cur = conn.cursor()
    cur.callproc("opens")
    say("name", cur.fetchone())
    say("rows", rows(conn, "fetch all from rc"))
    conn.commit()


@check
def errors(conn):
    conn.autocommit = True
    run(conn, "create table parent (id int primary key)",
        "create table child (id int primary key, parent int references parent, n int not null check (n > 0), "
        "s varchar(3), constraint child_s_key unique (s))", "insert into child values (1, null, 1, 'a')",
        "create domain positive as int check (value > 0)",
        "create function raises(code text) returns void language plpgsql as $$ begin raise exception 'custom %', code using "
        "errcode = code, hint = 'a hint', detail = 'a detail', constraint = 'cons', column = 'col', table = 'tab', schema = 'sch', datatype = 'typ'; end $$",
        "create function inner_error() returns int language plpgsql as $$ begin execute 'selec 1'; return 1; end $$")
    for sql in ("selec 1", "select 'grün', nowhere from child", "select 1/0", "select * from nowhere", "select nofunc(1)",
                "insert into child values (1, null, 1, 'b')", "insert into child values (2, null, 1, 'a')",
                "insert into child values (2, 99, 1, 'c')", "insert into child values (2, null, 0, 'c')",
                "insert into child values (2, null, null, 'c')", "insert into child values (2, null, 1, 'long')",
                "insert into child (nocol) values (1)", "select 'x'::int", "select 99999999999::int", "select '2026-13-01'::date",
                "select (-1)::positive", "select raises('XX123')", "select raises('42501')", "select inner_error()",
                "select '\\xzz'::bytea", "select '{'::json", "create table child (a int)", "drop table nowhere",
                "drop table parent", "select * from child where id = (select generate_series(1, 2))", "select 'unterminated",
                "select $1", "grant select on child to nobody_here", "select 1 +", "select lower(", "create database x template nowhere",
                "select pg_read_file('/etc/passwd')", "copy child from '/nowhere/file'", "select * from child for update of nowhere",
                "alter system set work_mem = '1MB'", "set transaction isolation level nonsense", "lock table child",
                "select convert_from('\\xff', 'UTF8')", "call raises('1')", "reindex table nowhere"):
        attempt(sql, lambda: run(conn, sql))
    say("usable", rows(conn, "select * from child"))


@check
def notices(conn):
    conn.autocommit = True
    run(conn, "do $$ begin raise notice 'a % ü', 1 using hint = 'h', detail = 'd'; raise warning 'w'; raise info 'i'; raise debug 'no'; end $$")
    run(conn, "create table if not exists nn (a int)", "create table if not exists nn (a int)", "drop table if exists nowhere")
    run(conn, "set client_min_messages = debug1", "do $$ begin raise debug 'dbg'; end $$", "set client_min_messages = error",
        "do $$ begin raise warning 'unseen'; end $$", "reset client_min_messages")
    run(conn, "create function tells(n int) returns int language plpgsql as $$ begin raise notice 'told %', n; return n; end $$")
    say("select", rows(conn, "select tells(g) from generate_series(1, 3) g"))
    run(conn, "drop table nn; drop table if exists nn; do $$ begin raise notice 'end'; end $$")
    for number, notice in enumerate(conn.notices):
        say(str(number), notice)


@check
def large_objects(conn):
    lob = conn.lobject(0, "wb", 77777)
    oid = lob.oid
    say("write", lob.write(b"0123456789" * 30000))
    lob.close()
    conn.commit()
    lob = conn.lobject(oid, "rwb")
    say("read", lob.read(15))
    say("seek", [lob.seek(299990), lob.read(), lob.seek(-5, 2), lob.tell()])
    say("truncate", [lob.truncate(7), lob.seek(0), lob.read()])
    lob.close()
    conn.commit()
    attempt("unlink", lambda: conn.lobject(oid, "n").unlink())
    conn.commit()
    attempt("gone", lambda: conn.lobject(oid, "rb"))
    conn.rollback()
    attempt("no such object", lambda: conn.lobject(4000000000, "rb"))
    conn.rollback()
    say("usable", one(conn, "select 1"))
    say("by functions", [one(conn, "select lo_from_bytea(77778, '\\x0102')"), one(conn, "select lo_get(77778)"),
                         one(conn, "select lo_unlink(77778)")])


@check
def sizes(conn):
    conn.autocommit = True
    say("large result", one(conn, "select repeat('ü0123456789', 100000)"))
    say("large literal", rows(conn, "select length(%s), md5(%s)", ("x" * (1 << 20), "é" * (1 << 20))))
    say("many values", one(conn, f"select count(*) from unnest(array[{','.join('%s' for _ in range(3000))}]) u", tuple(range(3000))))
    say("many rows", digest(rows(conn, "select g, md5(g::text), null from generate_series(1, 10000) g")))
    say("wide row", rows(conn, "select " + ", ".join(f"{i} as column_number_{i}" for i in range(500))))
    say("no columns", run(conn, "select from generate_series(1, 3)"))
    say("16 MB result", digest(rows(conn, "select repeat(md5(g::text), 2000) from generate_series(1, 250) g")))
    cur = conn.cursor()
    run(conn, "create table bulk (a int, b text)")
    psycopg2.extras.execute_values(cur, "insert into bulk values %s", [(i, f"v{i}") for i in range(5000)], page_size=1000)
    psycopg2.extras.execute_batch(cur, "update bulk set b = %s where a = %s", [(f"w{i}", i) for i in range(300)])
    say("bulk", rows(conn, "select count(*), sum(a), count(*) filter (where b like 'w%') from bulk"))


@check
def asynchronous(conn):
    import select as sel
    aconn = connect(async_=True)

    def wait():
        while True:
            state = aconn.poll()
            if state == psycopg2.extensions.POLL_OK:
                return
            sel.select([aconn] if state == psycopg2.extensions.POLL_READ else [],
                       [aconn] if state == psycopg2.extensions.POLL_WRITE else [], [], 10)

    wait()
    cur = aconn.cursor()
    for sql in ("select 1", "begin", "create table ay (a int)", "commit", "insert into ay values (1) returning a", "select * from ay"):
        cur.execute(sql)
        wait()
        say(sql, cur.fetchall() if cur.description else cur.statusmessage)
    aconn.close()


main(connect, describe)
