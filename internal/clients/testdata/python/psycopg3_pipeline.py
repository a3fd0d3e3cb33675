"""psycopg 3: pipelines, with the driver's interface and with libpq's own calls."""

import psycopg
from psycopg import pq

from checks import check, main, say
from psycopg3_driver import attempt, auto, connect, describe, one, result, rows


def drain(pg, count):
    """The next count results, with a None wherever libpq ends one command's results."""
    out = []
    for _ in range(count):
        out.append(result(pg.get_result()))
    return out


@check
def pipeline(conn):
    conn.autocommit = True
    conn.execute("create table pl (a int primary key, b text)")
    with conn.pipeline():
        cursors = [conn.execute("insert into pl values (%s, %s) returning a", (i, f"v{i}")) for i in range(50)]
        reads = [conn.execute("select b from pl where a = %s", (i,)) for i in range(50)]
    say("inserted", [c.fetchone()[0] for c in cursors])
    say("read", [c.fetchone() for c in reads])
    with conn.pipeline() as p:
        first = conn.execute("select 1")
        p.sync()
        second = conn.execute("select %s", (2,))
        say("synced", [first.fetchall(), second.fetchall()])
    say("status", conn.info.transaction_status.name)


@check
def pipeline_error(conn):
    conn.autocommit = True
    conn.execute("create table pe (a int primary key)")

    def broken():
        with conn.pipeline():
            conn.execute("insert into pe values (1)")
            conn.execute("insert into pe values (2)")
            conn.execute("insert into pe values (1)")
            conn.execute("insert into pe values (3)")

    attempt("error in the middle", broken)
    say("implicit transaction", rows(conn, "select a from pe order by a"))

    def first_of_all():
        with conn.pipeline():
            conn.execute("select 1/0")

    attempt("error alone", first_of_all)
    say("usable", one(conn, "select 1"))


@check
def pipeline_transactions(conn):
    conn.execute("create table pt (a int primary key)")
    conn.commit()
    with conn.pipeline():
        with conn.transaction():
            conn.execute("insert into pt values (1)")
            with conn.transaction():
                conn.execute("insert into pt values (2)")
        conn.execute("select count(*) from pt")
    conn.commit()
    say("rows", rows(conn, "select a from pt order by a"))

    def failing():
        with conn.pipeline():
            with conn.transaction():
                conn.execute("insert into pt values (3)")
                conn.execute("insert into pt values (1)")

    attempt("failing", failing)
    conn.rollback()
    with conn.pipeline():
        conn.execute("select set_config('app.p', 'in pipeline', false)")
        cur = conn.execute("select current_setting('app.p')")
        conn.execute("savepoint s")
        conn.execute("insert into pt values (4)")
        conn.execute("rollback to s")
        last = conn.execute("select count(*) from pt")
    say("setting", [cur.fetchone(), last.fetchone()])
    conn.rollback()
    say("after rollback", rows(conn, "select current_setting('app.p', true), count(*) from pt"))
    with conn.pipeline():
        cur = conn.cursor()
        cur.executemany("insert into pt values (%s)", [(i,) for i in range(100, 600)])
    conn.commit()
    say("executemany", one(conn, "select count(*) from pt"))


@check
def libpq_extended(conn):
    pg = conn.pgconn
    say("prepare", result(pg.prepare(b"s1", b"select $1::int + $2", [23, 23])))
    say("duplicate", result(pg.prepare(b"s1", b"select 2")))
    say("described", describe_prepared(pg, b"s1"))
    say("executed", [result(pg.exec_prepared(b"s1", [b"%d" % i, b"1"])) for i in range(8)])
    say("binary", result(pg.exec_prepared(b"s1", [b"\0\0\0\5", b"\0\0\0\6"], [1, 1], 1)))
    say("too few", result(pg.exec_prepared(b"s1", [b"1"])))
    say("bad text", result(pg.exec_prepared(b"s1", [b"x", b"1"])))
    say("bad binary", result(pg.exec_prepared(b"s1", [b"\0", b"\0\0\0\6"], [1, 1], 0)))
    say("unknown", result(pg.exec_prepared(b"nothing", [])))
    say("describe unknown", result(pg.describe_prepared(b"nothing")))
    say("describe unknown portal", result(pg.describe_portal(b"nothing")))
    say("prepare with error", result(pg.prepare(b"s2", b"selec 1")))
    say("several statements", result(pg.prepare(b"s2", b"select 1; select 2")))
    say("undetermined", result(pg.prepare(b"s3", b"select $1")))
    say("its type", describe_prepared(pg, b"s3"))
    say("empty", [result(pg.prepare(b"e", b"")), describe_prepared(pg, b"e"), result(pg.exec_prepared(b"e", []))])
    say("unnamed", [result(pg.prepare(b"", b"select 7")), result(pg.exec_prepared(b"", [])), result(pg.exec_prepared(b"", []))])
    say("simple query forgets the unnamed", [result(pg.exec_(b"select 8")), result(pg.exec_prepared(b"", []))])
    say("deallocate", [result(pg.exec_(b"deallocate s1")), result(pg.exec_prepared(b"s1", [b"1", b"2"]))])
    say("by sql", [result(pg.exec_(b"prepare q(int) as select $1 * 3")), result(pg.exec_prepared(b"q", [b"5"])),
                   result(pg.prepare(b"p", b"select $1::int * 4")), result(pg.exec_(b"execute p(5)"))])
    say("quoted name", [result(pg.prepare('Ün "q" name'.encode(), b"select 9")), result(pg.exec_(b'execute "\xc3\x9cn ""q"" name"')),
                        result(pg.exec_(b'deallocate "\xc3\x9cn ""q"" name"'))])
    say("portal", [result(pg.exec_(b"begin")), result(pg.exec_(b"declare c cursor for select 1 as a, 'x'::text as b")),
                   describe_portal(pg, b"c"), result(pg.exec_(b"rollback"))])
    say("begin by parse", [result(pg.exec_params(b"begin", [])), result(pg.exec_params(b"select $1::int", [b"1"])),
                           result(pg.exec_params(b"commit", []))])


def describe_prepared(pg, name):
    res = pg.describe_prepared(name)
    return [result(res), [res.param_type(i) for i in range(res.nparams)], [(res.fname(i), res.ftype(i)) for i in range(res.nfields)]]


def describe_portal(pg, name):
    res = pg.describe_portal(name)
    return [result(res), [(res.fname(i), res.ftype(i)) for i in range(res.nfields)]]


@check
def libpq_pipeline(conn):
    pg = conn.pgconn
    pg.exec_(b"create table lp (a int primary key)")
    pg.enter_pipeline_mode()
    pg.send_prepare(b"ins", b"insert into lp values ($1) returning a")
    pg.send_query_prepared(b"ins", [b"1"])
    pg.send_query_prepared(b"ins", [b"2"])
    pg.send_describe_prepared(b"ins")
    pg.pipeline_sync()
    say("prepare and use", drain(pg, 9))
    pg.send_query_prepared(b"ins", [b"3"])
    pg.send_query_prepared(b"ins", [b"1"])
    pg.send_query_prepared(b"ins", [b"4"])
    pg.pipeline_sync()
    pg.send_query_prepared(b"ins", [b"5"])
    pg.pipeline_sync()
    say("error, then another unit", drain(pg, 10))
    pg.send_query_params(b"select count(*) from lp", [])
    pg.send_flush_request()
    pg.flush()
    say("flushed before sync", drain(pg, 2))
    pg.send_query_params(b"insert into lp values (6)", [])
    pg.send_flush_request()
    pg.flush()
    say("write flushed", drain(pg, 2))
    pg.send_query_params(b"select max(a) from lp", [])
    pg.pipeline_sync()
    say("then synced", drain(pg, 3))
    pg.pipeline_sync()
    pg.pipeline_sync()
    say("empty units", drain(pg, 2))
    pg.send_prepare(b"dup", b"select 1")
    pg.send_prepare(b"dup", b"select 2")
    pg.send_query_prepared(b"dup", [])
    pg.pipeline_sync()
    say("duplicate in one unit", drain(pg, 7))
    pg.send_query_prepared(b"dup", [])
    pg.pipeline_sync()
    say("kept from the failed unit", drain(pg, 3))
    pg.send_query_params(b"begin", [])
    pg.send_query_params(b"insert into lp values (7)", [])
    pg.pipeline_sync()
    pg.send_query_params(b"select count(*) from lp", [])
    pg.send_query_params(b"rollback", [])
    pg.pipeline_sync()
    say("transaction over units", drain(pg, 10))
    pg.send_query_params(b"begin", [])
    pg.send_query_params(b"select 1/0", [])
    pg.send_query_params(b"rollback", [])
    pg.pipeline_sync()
    pg.send_query_params(b"rollback", [])
    pg.pipeline_sync()
    say("failed transaction", drain(pg, 10))
    pg.exit_pipeline_mode()
    say("rows", result(pg.exec_(b"select a from lp order by a")))


@check
def libpq_long_pipeline(conn):
    """More than the socket buffers hold, in both directions."""
    conn.autocommit = True
    conn.execute("create table lo (a int, b text)")
    with conn.pipeline():
        for i in range(4000):
            conn.execute("insert into lo values (%s, %s)", (i, "x" * 500))
        cursors = [conn.execute("select b || repeat('y', 5000) from lo where a = %s", (i,)) for i in range(0, 4000, 10)]
    say("results", [len(cursors), sum(len(c.fetchone()[0]) for c in cursors)])


main(connect, describe)
