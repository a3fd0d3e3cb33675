"""psycopg2: what ties a session to its server, what ends it early, and what it leaves behind."""

import select
import threading
import time

import psycopg2

from checks import check, main, say
from psycopg2_driver import attempt, auto, connect, describe, one, rows, run


@check
def temporary_tables(conn):
    conn.autocommit = True
    run(conn, "create table shade (a text)", "insert into shade values ('permanent')")
    run(conn, "create temp table scratch (a int)", "insert into scratch values (1), (2)")
    say("rows", rows(conn, "select * from scratch order by a"))
    run(conn, "create temp table shade (a text)", "insert into shade values ('temporary')")
    say("shadowed", rows(conn, "select * from shade"))
    run(conn, "drop table pg_temp.shade"), say("after drop", rows(conn, "select * from shade"))
    run(conn, "begin", "create temp table brief on commit drop as select 1 a")
    say("brief", rows(conn, "select * from brief"))
    run(conn, "commit")
    attempt("gone", lambda: rows(conn, "select * from brief"))
    run(conn, "select 5 as a into temp into_table"), say("into", rows(conn, "select * from into_table"))
    run(conn, "create temp view tv as select a * 2 from scratch"), say("view", rows(conn, "select * from tv order by 1"))
    other = auto()
    attempt("other session", lambda: rows(other, "select * from scratch"))
    other.close()
    run(conn, "discard temp")
    attempt("discarded", lambda: rows(conn, "select * from scratch"))


@check
def advisory_locks(conn):
    conn.autocommit = True
    other = auto()
    run(conn, "select pg_advisory_lock(11)")
    say("held elsewhere", one(other, "select pg_try_advisory_lock(11)"))
    say("again", one(conn, "select pg_try_advisory_lock(11)"))
    say("unlock", [one(conn, "select pg_advisory_unlock(11)") for _ in range(3)])
    say("notice", conn.notices[-1:])
    say("free", one(other, "select pg_try_advisory_lock(11)"))
    run(other, "select pg_advisory_unlock_all()")
    run(conn, "begin", "select pg_advisory_xact_lock(12)")
    say("in transaction", one(other, "select pg_try_advisory_xact_lock(12)"))
    run(conn, "commit"), say("after commit", one(other, "select pg_try_advisory_xact_lock(12)"))
    run(other, "select pg_advisory_lock_shared(13)")
    say("shared", [one(conn, "select pg_try_advisory_lock(13)"), one(conn, "select pg_try_advisory_lock_shared(13)")])
    other.close()
    deadline = time.monotonic() + 10
    while not one(conn, "select pg_try_advisory_lock(13) and pg_advisory_unlock_shared(13)") and time.monotonic() < deadline:
        time.sleep(0.01)
    say("released by closing", time.monotonic() < deadline)


@check
def sequences(conn):
    conn.autocommit = True
    run(conn, "create sequence seq", "create table ids (id serial, a text)")
    attempt("currval before", lambda: one(conn, "select currval('seq')"))
    attempt("lastval before", lambda: one(conn, "select lastval()"))
    say("nextval", [one(conn, "select nextval('seq')") for _ in range(3)])
    say("currval", [one(conn, "select currval('seq')"), one(conn, "select lastval()")])
    run(conn, "insert into ids (a) values ('x'), ('y')")
    say("insert", [one(conn, "select lastval()"), one(conn, "select currval('ids_id_seq')")])
    say("setval", [one(conn, "select setval('seq', 100)"), one(conn, "select currval('seq')"), one(conn, "select nextval('seq')")])
    say("last_value", rows(conn, "select last_value, is_called from seq"))
    other = auto()
    attempt("other session", lambda: one(other, "select currval('seq')"))
    say("other nextval", one(other, "select nextval('seq')"))
    other.close()
    say("unchanged", one(conn, "select currval('seq')"))
    run(conn, "discard sequences")
    attempt("discarded", lambda: one(conn, "select currval('seq')"))


def notifications(conn, count, seconds=10):
    deadline = time.monotonic() + seconds
    conn.poll()
    while len(conn.notifies) < count and time.monotonic() < deadline:
        select.select([conn], [], [], 0.1)
        conn.poll()
    got = [(n.channel, n.payload) for n in conn.notifies]
    del conn.notifies[:]
    return got


@check
def listen_and_notify(conn):
    conn.autocommit = True
    other = connect()
    run(conn, "listen a", 'listen "B c"')
    run(conn, "notify a, 'to myself'"), say("own", notifications(conn, 1))
    run(other, "notify a, 'one'", "select pg_notify('B c', 'two')", "notify unheard")
    say("before commit", notifications(conn, 1, 0.3))
    other.commit()
    say("other", notifications(conn, 2))
    run(other, "notify a, 'never'")
    other.rollback()
    run(conn, "unlisten a")
    run(other, "notify a, 'lost'", 'notify "B c", \'heard\'')
    other.commit()
    say("after unlisten", notifications(conn, 1))
    say("channels", rows(conn, "select pg_listening_channels()"))
    run(conn, "begin", "listen d", "rollback"), say("rolled back", rows(conn, "select pg_listening_channels()"))
    run(conn, "unlisten *"), say("none", rows(conn, "select pg_listening_channels()"))
    other.close()


@check
def cancel(conn):
    conn.autocommit = True
    results = []

    def sleeper():
        try:
            run(conn, "select pg_sleep(30)")
            results.append("slept")
        except psycopg2.Error as err:
            results.append(describe(err))

    for attempt_number in range(3):
        thread = threading.Thread(target=sleeper)
        started = time.monotonic()
        thread.start()
        while thread.is_alive() and time.monotonic() < started + 20:
            thread.join(0.5)
            if thread.is_alive():
                conn.cancel()
        thread.join()
        say(f"cancelled {attempt_number}", [results.pop(), time.monotonic() - started < 20])
        say("usable", one(conn, "select 42"))
    conn.cancel()
    say("cancel when idle", one(conn, "select 43"))


@check
def timeouts(conn):
    conn.autocommit = True
    run(conn, "set statement_timeout = '100ms'")
    attempt("statement", lambda: run(conn, "select pg_sleep(10)"))
    run(conn, "reset statement_timeout")
    say("usable", one(conn, "select 1"))
    run(conn, "begin", "set local statement_timeout = '100ms'")
    attempt("local", lambda: run(conn, "select pg_sleep(10)"))
    run(conn, "rollback"), say("after local", one(conn, "select pg_sleep(0.15)"))
    run(conn, "create table locked (a int)")
    other = connect()
    run(other, "lock table locked")
    run(conn, "set lock_timeout = '50ms'")
    attempt("lock", lambda: rows(conn, "select * from locked for update"))
    attempt("nowait", lambda: run(conn, "begin", "lock table locked nowait"))
    run(conn, "rollback")
    other.close()


def ends(conn, sql):
    """Whether a statement meets the end of its connection. The words for it depend on
    whether the driver sees the message or the closed socket first.
    """
    try:
        run(conn, sql)
        return "it succeeded"
    except (psycopg2.OperationalError, psycopg2.InternalError):
        return f"closed: {conn.closed != 0}"


@check
def idle_in_transaction(conn):
    run(conn, "create table idle (a int)")
    conn.commit()
    say("empty", one(conn, "select count(*) from idle"))
    conn.rollback()
    run(conn, "set idle_in_transaction_session_timeout = '200ms'", "insert into idle values (1)")
    time.sleep(0.8)
    say("timed out", ends(conn, "select 1"))
    say("rolled back", one(auto(), "select count(*) from idle"))


@check
def terminate(conn):
    say("self", ends(conn, "select pg_terminate_backend(pg_backend_pid())"))


@check
def reset(conn):
    conn.autocommit = True
    run(conn, "set app.org = 'x'", "set work_mem = '9MB'", "prepare p as select 1", "listen chan",
        "create temp table tt (a int)", "select pg_advisory_lock(21)", "create sequence rs", "select nextval('rs')",
        "declare held cursor with hold for select 1")
    conn.reset()
    conn.autocommit = True
    say("after reset()", rows(conn, "select current_setting('app.org', true), current_setting('work_mem')"))
    run(conn, "discard all")
    say("settings", rows(conn, "select current_setting('app.org', true), current_setting('work_mem')"))
    attempt("prepared", lambda: run(conn, "execute p"))
    say("listening", rows(conn, "select pg_listening_channels()"))
    attempt("temp", lambda: run(conn, "select * from tt"))
    attempt("cursor", lambda: run(conn, "fetch held"))
    say("lock", one(auto(), "select pg_try_advisory_lock(21)"))
    attempt("sequence", lambda: one(conn, "select currval('rs')"))
    attempt("discard inside", lambda: run(conn, "begin", "discard all"))
    run(conn, "rollback")
    say("discard plans", run(conn, "discard plans"))


@check
def leaves_no_trace(conn):
    """What one session set must not be met by the next."""
    for round_number in range(10):
        c = auto()
        say(f"round {round_number}", rows(c, "select current_setting('app.trace', true), current_setting('work_mem'), "
                                             "current_setting('search_path'), current_user"))
        attempt("statement", lambda: run(c, "execute trace"))
        run(c, "set app.trace = 'left'", "set work_mem = '8MB'", "set search_path = nowhere", "prepare trace as select 1",
            "set role app_reader")
        if round_number % 2:
            run(c, "begin", "select 1")
        c.close()


main(connect, describe)
