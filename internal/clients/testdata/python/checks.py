"""What the Python programs share: a list of checks, each on a connection of its own.

A program prints one line for every fact it observes, "check.name: value", and
nothing that differs by nature between two servers (process ids, ports, times).
Two runs against equal servers print equal text.
"""

import datetime
import decimal
import faulthandler
import hashlib
import logging
import os
import signal
import sys
import threading

CHECKS = []

# Where every program connects; libpq's names, which all drivers here can take.
TARGET = {
    "host": os.environ["PGHOST"],
    "port": int(os.environ["PGPORT"]),
    "user": os.environ["PGUSER"],
    "dbname": os.environ["PGDATABASE"],
}

_current = threading.local()


def check(fn):
    """Register fn to be run on a fresh connection."""
    CHECKS.append(fn)
    return fn


def begin(name):
    """Set the prefix of the lines that follow."""
    _current.name = name


def prefix():
    return getattr(_current, "name", "program")


def plain(value):
    """A stable, readable text for a value of any driver."""
    if isinstance(value, (memoryview, bytearray)):
        value = bytes(value)
    if isinstance(value, (bytes, str)) and len(value) > 1000:
        raw = value.encode() if isinstance(value, str) else value
        return f"{type(value).__name__}[{len(value)}] md5 {hashlib.md5(raw).hexdigest()}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {plain(v)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(plain(v) for v in value) + "]"
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return f"{value.days}d {value.seconds}s {value.microseconds}us"
    if isinstance(value, decimal.Decimal):
        return f"Decimal({value})"
    return repr(value)


def say(name, value):
    """Print one line of the transcript."""
    sys.stdout.write(f"{prefix()}.{name}: {plain(value)}\n")
    sys.stdout.flush()


def digest(rows):
    """The number of rows and a hash over all their values."""
    h = hashlib.md5()
    n = 0
    for row in rows:
        n += 1
        h.update(repr(tuple(row)).encode())
    return f"{n} rows md5 {h.hexdigest()}"


def program_arguments():
    """The names of the checks to run; none means all."""
    return set(sys.argv[1:])


def start():
    """Print every thread's stack when the runner loses patience, and no driver's warnings:
    they depend on how fast answers come.
    """
    logging.disable()
    faulthandler.register(signal.SIGQUIT, all_threads=True, chain=True)


def selected():
    wanted = program_arguments()
    return [fn for fn in CHECKS if not wanted or fn.__name__ in wanted]


def main(connect, describe):
    """Run all checks in their order.

    describe turns a driver's exception into text. A check that fails in an
    unforeseen way says so in the transcript, and the next one still runs.
    """
    start()
    for fn in selected():
        begin(fn.__name__)
        conn = None
        try:
            conn = connect()
            fn(conn)
        except Exception as err:  # noqa: BLE001 - any failure is an observation
            say("unexpected", describe(err))
        finally:
            if conn is not None:
                conn.close()
    begin("program")
    say("end", "all checks ran")
