"""psycopg2: startup, settings and transactions."""

from checks import check, main, say
from psycopg2_driver import attempt, auto, connect, describe, one, rows, run

REPORTED = (
    "server_version", "server_encoding", "client_encoding", "is_superuser", "session_authorization",
    "DateStyle", "IntervalStyle", "TimeZone", "integer_datetimes", "standard_conforming_strings",
    "application_name", "default_transaction_read_only", "in_hot_standby",
)


@check
def startup(conn):
    say("version", conn.server_version)
    say("protocol", conn.protocol_version)
    for name in REPORTED:
        say(name, conn.get_parameter_status(name))
    say("identity", rows(conn, "select current_user, session_user, current_schema"))
    say("recovery", one(conn, "select pg_is_in_recovery()"))


@check
def startup_parameters(conn):
    other = auto(
        application_name="fleet app/1.0 (ünïcode)",
        client_encoding="LATIN1",
        options=r'-c search_path="a\ b",public -c DateStyle=German,DMY -c TimeZone=Asia/Tokyo'
                r" --work_mem=5MB -c app.tenant=7\\8 -c statement_timeout=54321",
    )
    for name in REPORTED:
        say(name, other.get_parameter_status(name))
    for name in ("application_name", "client_encoding", "search_path", "DateStyle", "TimeZone",
                 "work_mem", "app.tenant", "statement_timeout"):
        say("show " + name, one(other, f"show {name}"))
    say("date", rows(other, "select '2026-02-03'::date::text, '2026-02-03 04:05+00'::timestamptz::text"))
    run(other, "set work_mem = '9MB'", "reset work_mem")
    say("work_mem after reset", one(other, "show work_mem"))
    run(other, "set work_mem = '9MB'", "set app.tenant = 'x'", "reset all")
    say("after reset all", [one(other, f"show {n}") for n in ("work_mem", "app.tenant", "search_path", "application_name", "DateStyle")])
    run(other, "set work_mem = '9MB'", "set app.tenant = 'x'", "discard all")
    say("work_mem after discard", one(other, "show work_mem"))
    say("app.tenant after discard", one(other, "show app.tenant"))
    other.close()


@check
def startup_refused(conn):
    attempt("database", lambda: connect(dbname="no_such_database"))
    attempt("option name", lambda: connect(options="-c no_such_setting=1"))
    attempt("option value", lambda: connect(options="-c work_mem=lots"))
    attempt("option for superusers", lambda: connect(options="-c log_min_messages=debug1"))
    attempt("encoding", lambda: connect(client_encoding="KLINGON"))
    attempt("time zone", lambda: connect(options="-c TimeZone=Nowhere/Atall"))
    attempt("read-only option", lambda: connect(options="-c server_version=1"))


@check
def settings(conn):
    conn.autocommit = True
    say("never set", rows(conn, "select current_setting('app.never', true)"))
    attempt("unknown", lambda: one(conn, "show app.never"))
    run(conn, "set app.org = 'a'"), say("set", one(conn, "show app.org"))
    run(conn, "set local app.org = 'b'"), say("local outside", one(conn, "show app.org"))
    say("notice", conn.notices[-1:])
    run(conn, "begin", "set local app.org = 'c'")
    say("local inside", one(conn, "select current_setting('app.org')"))
    run(conn, "commit"), say("local after commit", one(conn, "show app.org"))
    run(conn, "begin", "set app.org = 'd'", "rollback")
    say("after rollback", one(conn, "show app.org"))
    run(conn, "begin", "savepoint s", "set app.org = 'e'", "rollback to s", "commit")
    say("after rollback to", one(conn, "show app.org"))
    say("set_config", rows(conn, "select set_config('app.org', %s, false)", ("f' \\ ü",)))
    say("after set_config", one(conn, "show app.org"))
    say("set_config local", rows(conn, "select set_config('app.org', 'g', true)"))
    say("after set_config local", one(conn, "show app.org"))
    attempt("failing batch", lambda: run(conn, "set app.org = 'h'; select 1/0"))
    say("after failing batch", one(conn, "show app.org"))
    run(conn, "reset app.org"), say("reset", one(conn, "show app.org"))
    run(conn, "set search_path = pg_catalog, \"odd, Name\""), say("search_path", one(conn, "show search_path"))
    run(conn, "reset all"), say("reset all", one(conn, "show search_path"))
    attempt("bad value", lambda: run(conn, "set work_mem = 'lots'"))
    attempt("bad name", lambda: run(conn, "set no_such_setting = 1"))


@check
def settings_from_expressions(conn):
    conn.autocommit = True
    run(conn, "select set_config('app.n', (40 + 2)::text, false)")
    say("expression", one(conn, "show app.n"))
    run(conn, "do $$ begin perform set_config('app.n', 'from do', false); end $$")
    say("do block", one(conn, "show app.n"))
    run(conn, "create function set_n(v text) returns void language plpgsql as "
              "$$ begin execute format('set app.n = %L', v); end $$")
    run(conn, "select set_n('from function')"), say("function", one(conn, "show app.n"))
    run(conn, "select set_config(n, v, false) from (values ('app.p', 'p1'), ('app.q', 'q1')) t(n, v)")
    say("several rows", rows(conn, "select current_setting('app.p'), current_setting('app.q')"))
    run(conn, "update pg_settings set setting = '123' where name = 'statement_timeout'")
    say("update pg_settings", one(conn, "show statement_timeout"))


@check
def parameter_status(conn):
    def status():
        return [conn.get_parameter_status(n) for n in ("application_name", "TimeZone", "DateStyle", "client_encoding")]

    conn.autocommit = True
    run(conn, "set application_name = 'one'", "set timezone = 'Europe/Berlin'"), say("set", status())
    run(conn, "begin", "set datestyle = 'SQL, DMY'"), say("inside", status())
    run(conn, "rollback"), say("rolled back", status())
    run(conn, "begin", "set local timezone = 'UTC'"), say("local", status())
    run(conn, "commit"), say("after local", status())
    conn.set_client_encoding("LATIN1"), say("encoding", status())
    say("latin1", one(conn, "select 'grün' || chr(233)"))
    run(conn, "reset all"), say("reset all", status())
    run(conn, "set application_name = 'two'", "discard all"), say("discard all", status())
    run(conn, "set role app_reader"), say("role", [conn.get_parameter_status("is_superuser"), one(conn, "select current_user")])


@check
def roles(conn):
    run(conn, "create table guarded (a int)", "insert into guarded values (1)")
    conn.commit()
    conn.autocommit = True
    run(conn, "set role app_reader")
    say("role", rows(conn, "select current_user, session_user"))
    attempt("denied", lambda: rows(conn, "select * from guarded"))
    run(conn, "reset all"), say("reset all keeps the role", one(conn, "select current_user"))
    run(conn, "reset role"), say("reset", rows(conn, "select * from guarded"))
    run(conn, "begin", "set local role app_reader")
    say("local", one(conn, "select current_user"))
    run(conn, "rollback"), say("after local", one(conn, "select current_user"))
    attempt("no such role", lambda: run(conn, "set role nobody_here"))
    run(conn, "set role app_reader", "discard all"), say("after discard", one(conn, "select current_user"))


@check
def transactions(conn):
    say("idle", conn.get_transaction_status())
    run(conn, "create table t (a int primary key, b text)")
    say("in transaction", conn.get_transaction_status())
    conn.rollback()
    say("rolled back", one(conn, "select to_regclass('t')"))
    conn.commit()
    run(conn, "create table t (a int primary key, b text)", "insert into t values (1, 'one')")
    conn.commit()
    attempt("error inside", lambda: run(conn, "insert into t values (1, 'again')"))
    say("status", conn.get_transaction_status())
    attempt("aborted", lambda: run(conn, "select 1"))
    attempt("aborted again", lambda: run(conn, "select * from nowhere"))
    conn.rollback()
    say("usable", rows(conn, "select * from t"))
    run(conn, "savepoint a", "insert into t values (2, 'two')", "savepoint b", "insert into t values (3, 'three')")
    attempt("error in savepoint", lambda: run(conn, "insert into t values (3, 'again')"))
    say("rollback to", run(conn, "rollback to savepoint b"))
    say("release", run(conn, "release savepoint a"))
    attempt("released", lambda: run(conn, "rollback to savepoint a"))
    say("commit of a failed one", run(conn, "commit"))
    say("kept", rows(conn, "select * from t order by a"))
    conn.commit()
    run(conn, "savepoint c", "insert into t values (5, 'five')", "rollback to c", "insert into t values (4, 'four')")
    conn.commit()
    say("kept", rows(conn, "select * from t order by a"))
    conn.rollback()


@check
def transaction_warnings(conn):
    conn.autocommit = True
    for sql in ("begin", "begin", "commit", "commit", "rollback", "start transaction", "abort", "end"):
        say(sql, [run(conn, sql), conn.notices[-1:], conn.get_transaction_status()])
        del conn.notices[:]
    attempt("savepoint outside", lambda: run(conn, "savepoint s"))
    attempt("rollback to outside", lambda: run(conn, "rollback to s"))
    say("chain", [run(conn, "begin isolation level repeatable read", "select 1", "commit and chain"),
                  one(conn, "show transaction_isolation"), run(conn, "rollback and chain"), run(conn, "commit")])
    attempt("chain outside", lambda: run(conn, "commit and chain"))


@check
def two_phase(conn):
    run(conn, "create table tp (a int)")
    conn.commit()
    xid = conn.xid(1, "psycopg2", "branch")
    conn.tpc_begin(xid)
    run(conn, "insert into tp values (1)")
    conn.tpc_prepare()
    other = auto()
    say("prepared", rows(other, "select gid, owner from pg_prepared_xacts where database = current_database()"))
    say("unseen", one(other, "select count(*) from tp"))
    other.close()
    conn.tpc_commit()
    say("committed", one(conn, "select count(*) from tp"))
    conn.rollback()
    conn.autocommit = True
    run(conn, "begin", "insert into tp values (2)", "prepare transaction 'psycopg2 by hand'")
    say("status", conn.get_transaction_status())
    attempt("in a block", lambda: run(conn, "begin", "rollback prepared 'psycopg2 by hand'"))
    run(conn, "rollback")
    other = auto()
    say("rolled back elsewhere", run(other, "rollback prepared 'psycopg2 by hand'"))
    other.close()
    attempt("unknown", lambda: run(conn, "commit prepared 'psycopg2 by hand'"))
    say("count", one(conn, "select count(*) from tp"))


@check
def characteristics(conn):
    run(conn, "create table c (a int)")
    conn.commit()
    show = "select current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('transaction_deferrable')"
    for level in ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"):
        for readonly in (False, True):
            conn.set_session(isolation_level=level, readonly=readonly, deferrable=readonly)
            say(f"{level} {readonly}", rows(conn, show))
            attempt("write", lambda: run(conn, "insert into c values (1)"))
            conn.rollback()
    conn.set_session(isolation_level="DEFAULT", readonly="DEFAULT", deferrable="DEFAULT")
    say("default", rows(conn, show))
    run(conn, "set transaction read only")
    attempt("set transaction", lambda: run(conn, "insert into c values (1)"))
    conn.rollback()
    attempt("too late", lambda: run(conn, "select 1", "set transaction isolation level serializable"))
    conn.rollback()
    conn.autocommit = True
    run(conn, "set session characteristics as transaction isolation level repeatable read, read only")
    say("session characteristics", rows(conn, show))
    attempt("write", lambda: run(conn, "insert into c values (1)"))
    run(conn, "begin read write"), say("read write", run(conn, "insert into c values (1)"))
    run(conn, "commit"), say("count", one(conn, "select count(*) from c"))
    run(conn, "set default_transaction_read_only = off", "set default_transaction_isolation = serializable")
    say("serializable", [rows(conn, show), run(conn, "insert into c values (2)")])


@check
def one_transaction_one_world(conn):
    run(conn, "create table w (a int)", "insert into w values (1)")
    conn.commit()
    say("now before", bool(rows(conn, "select now()")))
    first = one(conn, "select now()")
    count = one(conn, "select count(*) from w")
    run(conn, "insert into w values (2)")
    say("now is stable over a first write", one(conn, "select now()") == first)
    say("sees its write", one(conn, "select count(*) from w") - count)
    say("xid is stable", one(conn, "select txid_current()") == one(conn, "select txid_current()"))
    conn.commit()
    conn.set_session(isolation_level="REPEATABLE READ")
    before = one(conn, "select count(*) from w")
    other = auto()
    run(other, "insert into w values (3)")
    other.close()
    say("snapshot holds", one(conn, "select count(*) from w") == before)
    attempt("update of what it does not see", lambda: run(conn, "update w set a = a + 10 where a < 3"))
    conn.commit()
    say("rows", rows(conn, "select a from w order by a"))


@check
def serialization_failure(conn):
    run(conn, "create table s (a int primary key, b int)", "insert into s values (1, 0)")
    conn.commit()
    other = connect()
    conn.set_session(isolation_level="REPEATABLE READ")
    other.set_session(isolation_level="REPEATABLE READ")
    say("reads", [one(conn, "select b from s"), one(other, "select b from s")])
    run(conn, "update s set b = b + 1")
    conn.commit()
    attempt("concurrent update", lambda: run(other, "update s set b = b + 1"))
    other.rollback()
    say("after", one(other, "select b from s"))
    other.close()


@check
def own_writes(conn):
    conn.autocommit = True
    run(conn, "create table o (a int)")
    wrong = []
    for i in range(200):
        run(conn, f"insert into o values ({i})")
        seen = one(conn, "select max(a) from o")
        if seen != i:
            wrong.append((i, seen))
    say("stale reads", wrong)
    conn.autocommit = False
    for i in range(200, 250):
        run(conn, f"insert into o values ({i})")
        conn.commit()
        seen = one(conn, "select max(a) from o")
        conn.commit()
        if seen != i:
            wrong.append((i, seen))
    say("stale reads with transactions", wrong)


main(connect, describe)
