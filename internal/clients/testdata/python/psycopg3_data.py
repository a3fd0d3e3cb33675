"""psycopg 3: the extended protocol as an application uses it."""

import contextlib
import datetime
import decimal
import ipaddress
import threading
import time
import uuid

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from checks import check, digest, main, say
from psycopg3_driver import attempt, auto, connect, describe, one, rows

VALUES = (
    7, -2**31, 2**63 - 1, decimal.Decimal("1234567890.000123"), 1.5, float("inf"), True, None, "it's \\ ü 漢 🚚", "",
    b"\x00\xff", b"", [1, 2, None], ["a", 'b "c"', "d,e"], datetime.date(2026, 2, 28), datetime.time(1, 2, 3, 4),
    datetime.datetime(2026, 2, 28, 1, 2, 3, 456), datetime.datetime(2026, 2, 28, 1, 2, 3, tzinfo=datetime.timezone.utc),
    datetime.timedelta(days=3, seconds=4, microseconds=5), uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    Jsonb({"a": [1, None, "ü"]}), ipaddress.ip_network("10.1.0.0/16"),
)


@check
def types(conn):
    conn.autocommit = True
    for binary in (False, True):
        for value in VALUES:
            cur = conn.cursor(binary=binary)
            mark = "%b" if binary else "%s"
            try:
                cur.execute(f"select {mark}", (value,))
                say(f"binary {binary} {type(value).__name__}", [cur.fetchone()[0], cur.description[0].type_code])
            except psycopg.Error as err:
                say(f"binary {binary} {type(value).__name__}", describe(err))
    cur = conn.cursor(binary=True)
    cur.execute("select 1::int2, 'ab'::char(4), '{{1,2},{3,4}}'::int[], int4range(1, 5), row(1, 'a'), 'x'::name, 1.10::numeric, "
                "'2026-02-28 01:02:03+02'::timestamptz, '1 day 2:03'::interval, null::uuid, '\\xdead'::bytea, 5::oid, 't'::bool")
    say("binary row", cur.fetchone())
    say("description", [(c.name, c.type_code, c.internal_size, c.precision, c.scale) for c in cur.description])
    say("dict", conn.cursor(row_factory=dict_row).execute("select 1 as a, %s as b", ("x",)).fetchone())


@check
def enums_and_composites(conn):
    conn.autocommit = True
    conn.execute("create type mood as enum ('sad', 'ok', 'happy')")
    conn.execute("create type spot as (x int, name text)")
    info = psycopg.types.composite.CompositeInfo.fetch(conn, "spot")
    psycopg.types.composite.register_composite(info, conn)
    say("composite", rows(conn, "select row(1, 'a,\"b')::spot, array[row(2, null)::spot]"))
    enum = psycopg.types.enum.EnumInfo.fetch(conn, "mood")
    say("enum", [enum.name, list(enum.labels)])
    conn.execute("create table feels (m mood, s spot)")
    conn.execute("insert into feels values (%s, %s)", ("ok", info.python_type(3, "c")))
    say("row", rows(conn, "select * from feels where m > %s", ("sad",)))
    attempt("bad label", lambda: rows(conn, "insert into feels (m) values (%s)", ("angry",)))


@check
def statement_strings(conn):
    conn.autocommit = True
    cur = conn.execute("select 1; select 2, 'b'; create table ms (a int); insert into ms values (1), (2)")
    results = []
    while True:
        results.append([cur.statusmessage, cur.rowcount, cur.fetchall() if cur.description else None])
        if not cur.nextset():
            break
    say("all results", results)
    attempt("several with parameters", lambda: rows(conn, "select %s; select 2", (1,)))
    for text in ("", ";", "-- comment", "/* c */ ;"):
        attempt(f"empty {text!r}", lambda: rows(conn, text))
        attempt(f"empty prepared {text!r}", lambda: rows(conn, text, (), prepare=True))
    attempt("error in the middle", lambda: rows(conn, "insert into ms values (3); select 1/0"))
    say("undone", one(conn, "select count(*) from ms"))
    say("composed", rows(conn, sql.SQL("select {} from {} where a = %s").format(sql.Identifier("a"), sql.Identifier("ms")), (2,)))
    cur = psycopg.ClientCursor(conn)
    say("client cursor", cur.execute("select %s, %s; select %s", (1, "it's", [1, 2])).fetchall())


@check
def prepared(conn):
    conn.autocommit = True
    conn.execute("create table pr (a int, b text)")
    conn.execute("insert into pr select g, 'v' || g from generate_series(1, 50) g")
    for text, args in (("select b from pr where a = %s", lambda i: (i,)), ("update pr set b = b || %s where a = %s", lambda i: ("!", i)),
                       ("insert into pr values (%s, %s) returning a", lambda i: (100 + i, "n"))):
        say(text, [rows(conn, text, args(i)) for i in range(1, 15)])
    say("forced", [one(conn, "select %s::int + 1", (i,), prepare=True) for i in range(5)])
    say("never", [one(conn, "select %s::int + 2", (i,), prepare=False) for i in range(8)])
    conn.prepare_threshold = 0
    conn.prepared_max = 10
    say("evicted", [one(conn, f"select %s::int + {i % 30}", (i,)) for i in range(60)])
    conn.autocommit = False
    for i in range(12):
        say(f"transaction {i}", rows(conn, "select b from pr where a = %s", (i + 1,)))
        conn.commit() if i % 3 else conn.rollback()
    conn.execute("deallocate all")
    attempt("after deallocate all", lambda: [rows(conn, "select b from pr where a = %s", (i,)) for i in range(1, 4)])
    conn.rollback()
    conn.autocommit = True
    conn.execute("discard all")
    attempt("after discard all", lambda: [rows(conn, "select %s::int * 3", (i,)) for i in range(1, 4)])
    for n in range(20):
        with auto(prepare_threshold=0) as c:
            say(f"connection {n}", [rows(c, "select b from pr where a = %s", (i,)) for i in range(n, n + 3)])


@check
def prepared_and_ddl(conn):
    conn.autocommit = True
    conn.prepare_threshold = 0
    conn.execute("create table dd (a int)")
    conn.execute("insert into dd values (1)")
    text = "select * from dd where a = %s"
    say("before", [rows(conn, text, (1,)) for _ in range(3)])
    conn.execute("alter table dd add b int default 5")
    attempt("column added", lambda: rows(conn, text, (1,)))
    attempt("again", lambda: rows(conn, text, (1,)))
    conn.execute("alter table dd add c text")
    attempt("in a transaction", lambda: [conn.execute("begin").statusmessage, rows(conn, text, (1,))])
    conn.execute("rollback")
    stable = "select a from dd where a = %s"
    say("stable", rows(conn, stable, (1,)))
    conn.execute("alter table dd alter a type bigint")
    attempt("type changed", lambda: rows(conn, stable, (1,)))
    conn.execute("drop table dd")
    attempt("dropped", lambda: rows(conn, stable, (1,)))
    conn.execute("create table dd (a int)")
    attempt("made anew", lambda: rows(conn, stable, (1,)))


@check
def executemany(conn):
    conn.execute("create table em (a int primary key, b text)")
    cur = conn.cursor()
    cur.executemany("insert into em values (%s, %s)", [(i, f"v{i}") for i in range(3000)])
    say("count", [cur.rowcount, one(conn, "select count(*) from em")])
    cur.executemany("insert into em values (%s, %s) returning a", [(i, "r") for i in range(3000, 3010)], returning=True)
    got = [cur.fetchone()[0]]
    while cur.nextset():
        got.append(cur.fetchone()[0])
    say("returning", got)
    conn.commit()
    attempt("error in the middle", lambda: cur.executemany("insert into em values (%s, %s)", [(4000, ""), (4001, ""), (1, ""), (4002, "")]))
    conn.rollback()
    say("after", one(conn, "select count(*) from em"))


@check
def copy(conn):
    conn.execute("create table cp (a int primary key, b text, c timestamptz)")
    conn.commit()
    when = datetime.datetime(2026, 2, 28, tzinfo=datetime.timezone.utc)
    cur = conn.cursor()
    for binary in (False, True):
        base = 100000 if binary else 0
        with cur.copy("copy cp from stdin" + (" with (format binary)" if binary else "")) as cp:
            if binary:
                cp.set_types(["int4", "text", "timestamptz"])
            for i in range(2000):
                cp.write_row((base + i, f"grün\t{i}" if i % 7 else None, when))
        say(f"in binary={binary}", [cur.statusmessage, cur.rowcount])
        with cur.copy("copy (select * from cp order by a) to stdout" + (" with (format binary)" if binary else "")) as cp:
            if binary:
                cp.set_types(["int4", "text", "timestamptz"])
            say(f"out binary={binary}", digest(cp.rows()))
    conn.commit()

    def fails(data, error=None):
        with cur.copy("copy cp from stdin") as cp:
            for block in data:
                cp.write(block)
            if error:
                raise error
        return cur.statusmessage

    attempt("bad row", lambda: fails(["200000\tx\t\\N\n", "bad\tx\t\\N\n"]))
    conn.rollback()
    attempt("duplicate", lambda: fails(["1\tx\t\\N\n"]))
    conn.rollback()
    try:
        fails(["200000\tx\t\\N\n"], ValueError("the client gave up"))
    except (ValueError, psycopg.Error) as err:
        say("client gives up", describe(err))
    say("status", conn.info.transaction_status.name)
    conn.rollback()
    attempt("syntax", lambda: fails_with(cur, "copy cp from stdin (format nonsense)"))
    conn.rollback()
    attempt("not a copy", lambda: fails_with(cur, "select 1"))
    conn.rollback()
    say("unharmed", one(conn, "select count(*) from cp"))
    conn.commit()
    conn.autocommit = True
    with cur.copy("copy cp (a, b) from stdin") as cp:
        for i in range(1000):
            cp.write("".join(f"{1000000 + i * 100 + j}\t{'x' * 100}\n" for j in range(100)))
    say("10 MB", [cur.statusmessage, one(conn, "select sum(length(b)) from cp")])
    other = auto()
    with contextlib.suppress(psycopg.Error), other.cursor().copy("copy cp to stdout") as cp:
        say("stopped early", len(next(iter(cp))) > 0)
    other.close()
    say("usable", one(conn, "select 1"))
    with cur.copy("copy (select g from generate_series(1, %s) g) to stdout", (5,)) as cp:
        say("with parameters", list(cp.rows()))


def fails_with(cur, text):
    with cur.copy(text) as cp:
        cp.write("x")


@check
def cursors(conn):
    conn.execute("create table cu (a int)")
    conn.execute("insert into cu select generate_series(1, 3000)")
    conn.commit()
    with conn.cursor("named") as cur:
        cur.itersize = 70
        say("iterated", digest(cur.execute("select a from cu where a > %s order by a", (10,))))
    with conn.cursor("scroll", scrollable=True, binary=True) as cur:
        cur.execute("select a from cu order by a")
        got = [cur.fetchmany(2)]
        cur.scroll(100), got.append(cur.fetchone())
        cur.scroll(-50), got.append(cur.fetchone())
        cur.scroll(2999, mode="absolute"), got.append(cur.fetchall())
        say("scrolled", got)
    attempt("backward", lambda: backward(conn))
    conn.rollback()
    cur = conn.cursor("held", withhold=True)
    cur.execute("select a from cu order by a")
    conn.commit()
    say("held", [cur.fetchmany(3), cur.fetchone()])
    cur.close()
    conn.autocommit = True
    say("stream", digest(conn.cursor().stream("select a, %s::text from cu order by a", ("x",))))
    attempt("stream error", lambda: digest(conn.cursor().stream("select 1 / (a - 2000) from cu order by a")))
    say("stream stopped", next(iter(conn.cursor().stream("select a from cu order by a"))))
    attempt("usable", lambda: one(conn, "select 1"))


def backward(conn):
    with conn.cursor("forward", scrollable=False) as cur:
        cur.execute("select a from cu order by a")
        cur.fetchmany(5)
        cur.scroll(-3)


@check
def transactions(conn):
    conn.autocommit = True
    conn.execute("create table tx (a int primary key)")

    def nested():
        with conn.transaction():
            conn.execute("insert into tx values (1)")
            try:
                with conn.transaction():
                    conn.execute("insert into tx values (2)")
                    conn.execute("insert into tx values (1)")
            except psycopg.errors.UniqueViolation as err:
                say("inner", describe(err))
            with conn.transaction("named"):
                conn.execute("insert into tx values (3)")
            with conn.transaction(force_rollback=True):
                conn.execute("insert into tx values (4)")
        return rows(conn, "select a from tx order by a")

    attempt("nested", nested)
    show = "select current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('transaction_deferrable')"
    for level in psycopg.IsolationLevel:
        conn.isolation_level, conn.read_only, conn.deferrable = level, level % 2 == 0, True
        with conn.transaction():
            say(level.name, rows(conn, show))
        attempt(f"write {level.name}", lambda: in_transaction(conn, f"insert into tx values ({10 + level})"))
    conn.isolation_level = conn.read_only = conn.deferrable = None
    say("kept", rows(conn, "select a from tx order by a"))
    conn.autocommit = False
    attempt("error", lambda: rows(conn, "select 1/0"))
    say("status", conn.info.transaction_status.name)
    attempt("aborted", lambda: rows(conn, "select %s", (1,)))
    conn.commit()
    say("after commit", [conn.info.transaction_status.name, one(conn, "select %s::int", (2,))])
    conn.rollback()
    conn.autocommit = True
    notices = []
    conn.add_notice_handler(lambda d: notices.append((d.severity, d.sqlstate, d.message_primary)))
    for text in ("begin", "begin", "commit", "commit", "rollback"):
        conn.execute(text)
    conn.execute("do $$ begin raise notice 'ü %', 1 using hint = 'h', detail = 'd', errcode = 'XX999'; end $$")
    say("notices", notices)
    attempt("extended begin", lambda: [rows(conn, "begin", (), prepare=True), rows(conn, "insert into tx values (%s)", (90,)),
                                       rows(conn, "savepoint s", (), prepare=True), rows(conn, "insert into tx values (%s)", (91,)),
                                       rows(conn, "rollback to s", (), prepare=True), rows(conn, "commit", (), prepare=True),
                                       rows(conn, "select a from tx where a >= 90", (), prepare=True)])


def in_transaction(conn, text):
    with conn.transaction():
        return rows(conn, text)


@check
def settings(conn):
    conn.autocommit = True
    say("set_config", one(conn, "select set_config('app.org', %s, false)", ("ü'",)))
    say("read", one(conn, "select current_setting(%s)", ("app.org",)))
    with conn.transaction():
        say("local", [one(conn, "select set_config(%s, %s, true)", ("app.org", "inner")), one(conn, "show app.org")])
    say("after", one(conn, "show app.org"))
    attempt("set with parameter", lambda: rows(conn, "set app.org = %s", ("x",)))
    say("prepared set", [rows(conn, "set app.org = 'prepared'", (), prepare=True), rows(conn, "show app.org", (), prepare=True)])
    say("many", [one(conn, "select set_config('app.many', %s, false)", (str(i),), prepare=True) + one(conn, "show app.many") for i in range(12)])
    conn.execute("set timezone = 'Asia/Tokyo'")
    say("zone", [conn.info.timezone.key, one(conn, "select '2026-02-28 00:00+00'::timestamptz")])
    conn.execute("set client_encoding = 'latin1'")
    say("encoding", [conn.info.encoding, one(conn, "select %s", ("grün",))])
    say("parameter status", [conn.info.parameter_status(n) for n in ("TimeZone", "client_encoding", "application_name", "server_version")])


@check
def listen_and_notify(conn):
    conn.autocommit = True
    got = []
    conn.add_notify_handler(lambda n: got.append((n.channel, n.payload)))
    conn.execute("listen fleet")
    with auto() as other:
        for i in range(3):
            other.execute("select pg_notify('fleet', %s)", (f"n{i}",))
    deadline = time.monotonic() + 10
    while len(got) < 3 and time.monotonic() < deadline:
        conn.execute("select 1")
    say("handler", got)
    with auto() as other:
        other.execute("notify fleet, 'waited for'")
    for n in conn.notifies():
        say("generator", [n.channel, n.payload])
        break
    conn.execute("unlisten fleet")


@check
def cancel(conn):
    conn.autocommit = True
    for text, args in (("select pg_sleep(30)", None), ("select pg_sleep(%s)", (30,)), ("select count(*) from generate_series(1, 10000000000)", None)):
        found = []

        def work():
            try:
                found.append(rows(conn, text, args, prepare=args is not None))
            except psycopg.Error as err:
                found.append(describe(err))

        thread = threading.Thread(target=work)
        started = time.monotonic()
        thread.start()
        while thread.is_alive() and time.monotonic() < started + 20:
            thread.join(0.5)
            if thread.is_alive():
                conn.cancel()
        thread.join()
        say(text, [found, time.monotonic() - started < 20, one(conn, "select 1")])


@check
def sizes(conn):
    conn.autocommit = True
    say("large parameter", rows(conn, "select length(%s), md5(%s)", ("x" * (1 << 20), b"y" * (3 << 20))))
    say("large echo", one(conn, "select %s", ("é" * (1 << 20),)))
    say("large bytes", conn.cursor(binary=True).execute("select %b", (bytes(range(256)) * 8192,)).fetchone()[0])
    n = 5000
    say("parameters", rows(conn, f"select sum(x) from unnest(array[{','.join(['%s::int'] * n)}]) x", tuple(range(n))))
    attempt("65535 parameters", lambda: rows(conn, "select array_length(array[" + ",".join(["%s"] * 65535) + "]::int[], 1)", (1,) * 65535))
    attempt("65536 parameters", lambda: rows(conn, "select array[" + ",".join(["%s"] * 65536) + "]::int[]", (1,) * 65536))
    say("rows", digest(rows(conn, "select g, md5(g::text), null::int from generate_series(1, %s) g", (10000,))))
    say("wide", rows(conn, "select " + ", ".join(f"%s::int as c{i}" for i in range(500)), tuple(range(500))))
    say("binary rows", digest(conn.cursor(binary=True).execute("select g, g::float8, g::numeric from generate_series(1, 10000) g")))


@check
def reconnecting(conn):
    for i in range(30):
        with auto(application_name=f"app {i % 3}", prepare_threshold=0) as c:
            c.execute("select set_config('app.round', %s, false)", (str(i),))
            with c.transaction():
                a = one(c, "select current_setting('app.round') || %s", ("!",))
            say(str(i), [a, one(c, "show application_name"), one(c, "select current_setting('app.other', true)")])


main(connect, describe)
