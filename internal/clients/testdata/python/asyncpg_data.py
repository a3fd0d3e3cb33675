"""asyncpg: binary formats, statement cache, cursors, COPY, listeners, pools."""

import asyncio
import datetime
import decimal
import io
import json
import time
import uuid

import asyncpg

from asyncpg_driver import attempt, connect, describe, main, tuples
from checks import TARGET, check, digest, say

VALUES = (
    ("int2", 7), ("int4", -2**31), ("int8", 2**63 - 1), ("numeric", decimal.Decimal("12345678901234567890.000123")), ("float4", 1.5),
    ("float8", float("inf")), ("bool", True), ("text", "it's ü 漢 🚚"), ("text", ""), ("text", None), ("bytea", b"\x00\xff"), ("bytea", b""),
    ("int4[]", [1, 2, None]), ("text[]", ["a", 'b "c"', "d,e"]), ("int4[][]", [[1, 2], [3, 4]]), ("json", '{"a": 1}'), ("jsonb", '{"a": [null, "ü"]}'),
    ("date", datetime.date(2026, 2, 28)), ("time", datetime.time(1, 2, 3, 4)), ("timestamp", datetime.datetime(2026, 2, 28, 1, 2, 3, 456)),
    ("timestamptz", datetime.datetime(2026, 2, 28, 1, 2, 3, tzinfo=datetime.timezone.utc)), ("interval", datetime.timedelta(days=3, seconds=4)),
    ("uuid", uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")), ("int4range", asyncpg.Range(1, 10)), ("inet", "10.1.0.1"), ("name", "x"),
    ("varchar(3)", "abc"), ("char(4)", "ab"), ("point", asyncpg.Point(1, 2)), ("bit(4)", asyncpg.BitString("1010")), ("oid", 5),
)


@check
async def startup(conn):
    other = await connect(server_settings={"application_name": "asyncpg ü", "search_path": "pg_catalog, \"x y\"", "timezone": "Asia/Tokyo",
                                           "app.org": "4'2", "work_mem": "5MB", "DateStyle": "SQL, DMY"}, command_timeout=15)
    for name in ("application_name", "search_path", "timezone", "app.org", "work_mem", "datestyle", "client_encoding", "jit"):
        say(name, await other.fetchval("select current_setting($1)", name))
    settings = other.get_settings()
    say("settings", [getattr(settings, n) for n in ("server_version", "client_encoding", "TimeZone", "DateStyle", "application_name")])
    say("version", list(other.get_server_version()))
    await other.execute("set work_mem = '9MB'")
    await other.reset()
    say("reset", [await other.fetchval("show work_mem"), await other.fetchval("show app.org")])
    await other.close()
    await attempt("database", connect(dbname="no_such_database"))
    await attempt("setting", connect(server_settings={"no_such_setting": "1"}))


@check
async def types(conn):
    for name, value in VALUES:
        await attempt(name, conn.fetchval(f"select $1::{name}", value))
    await attempt("wrong type", conn.fetchval("select $1::int", "x"))
    await attempt("overflow", conn.fetchval("select $1::int2", 2**15))
    await conn.execute("create type mood as enum ('sad', 'ok'); create type spot as (x int, m mood); create domain pos as int check (value > 0)")
    await conn.execute("create table custom (m mood, s spot, ms mood[], p pos, r int4range)")
    await attempt("custom", conn.fetchrow("insert into custom values ($1, $2, $3, $4, $5) returning *", "ok", (1, "sad"), ["sad", "ok"], 4, asyncpg.Range(1, 2)))
    await attempt("domain", conn.fetchrow("insert into custom (p) values ($1)", -4))
    await conn.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await attempt("codec", conn.fetchval("select $1::jsonb", {"b": [1, None]}))
    statement = await conn.prepare("select $1::int as a, $2::text[] as b, null::spot as c")
    say("parameters", [(t.name, t.kind) for t in statement.get_parameters()])
    say("attributes", [(a.name, a.type.name, a.type.kind) for a in statement.get_attributes()])
    await attempt("record", conn.fetchrow("select row(1, 'a', null), array[row(1,2)]"))


@check
async def statements(conn):
    await attempt("script", conn.execute("create table st (a int primary key, b text); insert into st values (1, 'x'), (2, 'y'); select * from st"))
    for sql in ("", ";", "-- c", "select 1; select 2"):
        # The driver itself stumbles over a script that gives no command tag.
        await attempt(f"execute {sql!r}", conn.execute(sql + "\n; select 0"))
        await attempt(f"fetch {sql!r}", conn.fetch(sql))
    await attempt("args", conn.execute("update st set b = $1 where a = $2", "z", 1))
    await attempt("syntax", conn.fetch("selec $1", 1))
    await attempt("unique", conn.fetch("insert into st values ($1, $2)", 1, "again"))
    await attempt("zero", conn.fetch("select 1 / $1::int", 0))
    await attempt("missing", conn.fetch("select * from nowhere"))
    await attempt("too few", conn.fetch("select $1::int, $2::int", 1))
    await attempt("executemany", conn.executemany("insert into st values ($1, $2)", [(i, f"v{i}") for i in range(10, 2010)]))
    await attempt("executemany fails", conn.executemany("insert into st values ($1, $2)", [(5000, "a"), (1, "dup"), (5001, "b")]))
    say("count", await conn.fetchrow("select count(*), sum(a), count(*) filter (where a >= 5000) from st"))
    await attempt("middle", conn.execute("insert into st values (6000, ''); select 1/0"))
    await attempt("undone", conn.fetchval("select count(*) from st where a = 6000"))
    say("reused", [await conn.fetchval("select b from st where a = $1", i) for i in range(10, 40)])
    many = [await conn.fetchval(f"select $1::int + {i % 150}", i) for i in range(400)]
    say("cache overflow", sum(many))
    statement = await conn.prepare("select a, b from st where a < $1 order by a")
    say("prepared", [tuples(await statement.fetch(3)), tuples(await statement.fetchrow(2)), await statement.fetchval(12, column=1), statement.get_statusmsg()])
    say("explain", len(await statement.explain(5)))
    del statement
    named = await conn.prepare("select $1::int", name="my name")
    say("named", [await named.fetchval(3), named.get_name()])
    await attempt("duplicate name", conn.prepare("select 2", name="my name"))
    await conn.execute("deallocate all")
    await attempt("after deallocate all", conn.fetchval("select b from st where a = $1", 1))
    await conn.reload_schema_state()
    await attempt("named after deallocate all", named.fetchval(3))


@check
async def ddl_under_statements(conn):
    await conn.execute("create table du (a int); insert into du values (1)")
    query = "select * from du where a = $1"
    say("before", [tuples(await conn.fetch(query, 1)) for _ in range(3)])
    await conn.execute("alter table du add b text")
    await attempt("column added", conn.fetch(query, 1))
    await conn.execute("alter table du alter b type int using 5")
    await attempt("type changed", conn.fetch(query, 1))

    async def inside():
        async with conn.transaction():
            await conn.execute("alter table du add c int")
            return await conn.fetch(query, 1)

    await attempt("in a transaction", inside())
    await attempt("after it", conn.fetch(query, 1))
    statement = await conn.prepare(query)
    await conn.execute("alter table du drop column b")
    await attempt("held statement", statement.fetch(1))
    await attempt("held statement again", statement.fetch(1))


@check
async def transactions(conn):
    await conn.execute("create table tr (a int primary key)")
    show = "select current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('transaction_deferrable')"
    for options in ({}, {"isolation": "read_committed"}, {"isolation": "repeatable_read", "readonly": True}, {"isolation": "serializable"},
                    {"isolation": "serializable", "readonly": True, "deferrable": True}):
        async def work():
            async with conn.transaction(**options):
                shown = await conn.fetchrow(show)
                await conn.execute(f"insert into tr values ({len(options)})")
                return shown
        await attempt(f"{options}", work())
    async with conn.transaction():
        await conn.execute("insert into tr values (100)")
        try:
            async with conn.transaction():
                await conn.execute("insert into tr values (101)")
                await conn.execute("insert into tr values (100)")
        except asyncpg.UniqueViolationError as err:
            say("inner", describe(err))
        await conn.execute("insert into tr values ($1)", 102)
    say("rows", tuples(await conn.fetch("select a from tr order by a")))
    tr = conn.transaction()
    await tr.start()
    await attempt("error", conn.fetch("select 1/0"))
    await attempt("aborted", conn.fetch("select 1"))
    say("in transaction", conn.is_in_transaction())
    await tr.rollback()
    say("out", [conn.is_in_transaction(), await conn.fetchval("select count(*) from tr")])
    await conn.execute("begin; set local app.x = 'local'")
    say("local", await conn.fetchval("select current_setting('app.x')"))
    await conn.execute("commit")
    say("after", await conn.fetchval("select current_setting('app.x')"))
    logs = []
    conn.add_log_listener(lambda _, m: logs.append((m.severity_en, m.sqlstate, m.message, m.hint)))
    await conn.execute("begin; begin; commit; commit")
    await conn.execute("do $$ begin raise notice 'ü' using hint = 'h'; raise warning 'w'; end $$")
    await conn.fetch("select 1")
    say("logs", logs)


@check
async def cursors(conn):
    await conn.execute("create table cu (a int); insert into cu select generate_series(1, 3000)")
    async with conn.transaction():
        say("iterated", digest([r async for r in conn.cursor("select a from cu where a > $1 order by a", 5, prefetch=70)]))
        cur = await conn.cursor("select a from cu order by a")
        other = await conn.cursor("select a from cu order by a desc")
        say("fetch", [tuples(await cur.fetch(3)), tuples(await other.fetch(2)), await cur.forward(10), tuples(await cur.fetchrow()),
                      tuples(await other.fetchrow())])
        say("write between", await conn.execute("insert into cu values (0)"))
        say("unmoved", tuples(await cur.fetchrow()))
        say("to the end", [len(await cur.fetch(5000)), tuples(await cur.fetchrow())])
        statement = await conn.prepare("select g from generate_series(1, $1) g")
        say("statement", [tuples(r) async for r in statement.cursor(7, prefetch=2)])
    await attempt("outside", outside(conn))


async def outside(conn):
    return await (await conn.cursor("select 1"))


@check
async def copy(conn):
    await conn.execute("create table cp (a int primary key, b text, c timestamptz)")
    when = datetime.datetime(2026, 2, 28, tzinfo=datetime.timezone.utc)
    await attempt("records", conn.copy_records_to_table("cp", records=[(i, f"ü{i}" if i % 7 else None, when) for i in range(5000)]))
    await attempt("duplicate", conn.copy_records_to_table("cp", records=[(9000, "x", when), (1, "x", when)]))
    await attempt("bad value late", conn.copy_records_to_table("cp", records=[(9000, "x", when), (9001, "\0", when)]))
    await attempt("csv", conn.copy_to_table("cp", source=io.BytesIO(b"a,b\n10000,\"x,y\"\n10001,\n"), columns=["a", "b"], format="csv", header=True))
    await attempt("bad csv", conn.copy_to_table("cp", source=io.BytesIO(b"x,y\n"), columns=["a", "b"], format="csv"))
    await attempt("no table", conn.copy_to_table("nowhere", source=io.BytesIO(b"x\n")))

    async def breaks():
        yield b"20000\tx\t\\N\n"
        raise ValueError("the client gave up")

    try:
        await conn.copy_to_table("cp", source=breaks())
    except (ValueError, asyncpg.PostgresError) as err:
        say("client gives up", describe(err))
    out = io.BytesIO()
    await attempt("out", conn.copy_from_query("select a, b from cp where a > $1 order by a", 9990, output=out))
    say("text", out.getvalue())
    out = io.BytesIO()
    await attempt("out binary", conn.copy_from_query("select a, b, c from cp order by a", output=out, format="binary"))
    say("binary", out.getvalue())
    await attempt("out error", conn.copy_from_query("select 1 / (a - 4000) from cp order by a", output=io.BytesIO()))
    big = b"".join(b"%d\t%s\t\\N\n" % (100000 + i, b"y" * 100) for i in range(100000))
    await attempt("10 MB", conn.copy_to_table("cp", source=io.BytesIO(big)))
    say("after", await conn.fetchrow("select count(*), sum(length(b)) from cp"))


@check
async def listeners(conn):
    got = asyncio.Queue()
    other = await connect()
    await conn.add_listener("fleet", lambda c, pid, channel, payload: got.put_nowait((channel, payload)))
    await conn.execute("notify fleet, 'own'")
    say("own", await asyncio.wait_for(got.get(), 10))
    for i in range(3):
        await other.fetchval("select pg_notify('fleet', $1)", f"n{i}")
    say("other", [await asyncio.wait_for(got.get(), 10) for _ in range(3)])
    await conn.reset()
    await other.execute("notify fleet, 'after reset'")
    await conn.fetchval("select 1")
    say("after reset", got.qsize())
    await other.close()


@check
async def timeouts_and_cancel(conn):
    for _ in range(3):
        started = time.monotonic()
        await attempt("timeout", conn.fetch("select pg_sleep(20)", timeout=0.3))
        say("quick", time.monotonic() - started < 10)
        say("usable", await conn.fetchval("select $1::int", 5))
    task = asyncio.ensure_future(conn.fetch("select pg_sleep(20)"))
    await asyncio.sleep(0.3)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        say("cancelled", True)
    say("usable", await conn.fetchval("select $1::int", 6))
    await conn.execute("set statement_timeout = 100")
    await attempt("statement_timeout", conn.fetch("select pg_sleep(20)"))
    await conn.execute("reset statement_timeout")


@check
async def pool(conn):
    target = {**TARGET, "database": TARGET["dbname"]}
    del target["dbname"]
    pool = await asyncpg.create_pool(**target, min_size=2, max_size=5, max_queries=20)
    await pool.execute("create table po (a int, b int)")

    async def worker(n):
        total = 0
        for i in range(30):
            async with pool.acquire() as c:
                leftover = await c.fetchval("select current_setting('app.worker', true)")
                if leftover not in (None, ""):
                    return f"worker {n} met the setting {leftover!r}"
                await c.execute(f"set app.worker = '{n}'")
                async with c.transaction():
                    await c.execute("insert into po values ($1, $2)", n, i)
                    total += await c.fetchval("select max(b) from po where a = $1", n)
                if await c.fetchval("select current_setting('app.worker')") != str(n):
                    return f"worker {n} lost its setting"
        return total

    say("workers", await asyncio.gather(*(worker(n) for n in range(8))))
    async with pool.acquire() as c:
        await c.execute("select pg_advisory_lock(5); create temp table left_behind (a int)")
    async with pool.acquire() as c:
        say("count", tuples(await c.fetch("select a, count(*) from po group by a order by a")))
    await pool.close()
    say("lock is free", await conn.fetchval("select pg_try_advisory_lock(5)"))


@check
async def sizes(conn):
    say("large", [len(await conn.fetchval("select $1::text || 'x'", "é" * (1 << 20))), await conn.fetchval("select $1::bytea", bytes(range(256)) * 8192)])
    say("many parameters", await conn.fetchval("select sum(x) from unnest(array[" + ",".join(f"${i + 1}::int" for i in range(3000)) + "]) x", *range(3000)))
    say("many rows", digest(await conn.fetch("select g, md5(g::text), null::int from generate_series(1, 10000) g")))
    say("wide", list((await conn.fetchrow("select " + ", ".join(f"{i} as c{i}" for i in range(500)))).values()))
    say("array", digest([(x,) for x in await conn.fetchval("select array_agg(g) from generate_series(1, 50000) g")]))


@check
async def temporary_and_locks(conn):
    await conn.execute("create temp table tt (a int)")
    say("insert", await conn.fetch("insert into tt values ($1) returning a", 1) and tuples(await conn.fetch("select * from tt")))
    say("lock", await conn.fetchval("select pg_try_advisory_lock($1)", 99))
    other = await connect()
    say("held", await other.fetchval("select pg_try_advisory_lock($1)", 99))
    await attempt("not there", other.fetch("select * from tt"))
    await conn.execute("discard all")
    say("free", await other.fetchval("select pg_try_advisory_lock($1)", 99))
    await other.close()


main()
