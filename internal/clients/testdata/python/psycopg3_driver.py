"""psycopg 3: connections and the text of its errors."""

import psycopg
from psycopg import pq

from checks import TARGET, say

FIELDS = (
    "severity", "sqlstate", "message_primary", "message_detail", "message_hint", "statement_position",
    "internal_position", "internal_query", "context", "schema_name", "table_name", "column_name",
    "datatype_name", "constraint_name",
)


def connect(**options):
    return psycopg.connect(**{**TARGET, **options})


def auto(**options):
    return connect(autocommit=True, **options)


def describe(err):
    """All error fields a server sent, or the driver's own words."""
    diag = getattr(err, "diag", None)
    if diag is None or diag.sqlstate is None:
        return f"{type(err).__name__}: " + str(err).strip().rpartition(" failed: ")[2]
    fields = ((f, getattr(diag, f)) for f in FIELDS)
    return f"{type(err).__name__}: " + "; ".join(f"{f}={v!r}" for f, v in fields if v is not None)


def attempt(name, fn):
    """Say fn's value, or its error."""
    try:
        say(name, fn())
    except psycopg.Error as err:
        say(name, describe(err))


def rows(conn, sql, args=None, **options):
    cur = conn.execute(sql, args, **options)
    return cur.fetchall() if cur.description else cur.statusmessage


def one(conn, sql, args=None, **options):
    return rows(conn, sql, args, **options)[0][0]


def result(res):
    """A libpq result in one value."""
    if res is None:
        return None
    status = pq.ExecStatus(res.status).name
    if res.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.NONFATAL_ERROR):
        sqlstate = (res.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        return [status, sqlstate, res.error_message.decode().strip()]
    values = [[res.get_value(r, c) for c in range(res.nfields)] for r in range(min(res.ntuples, 5))]
    return [status, (res.command_status or b"").decode(), res.ntuples, values]
