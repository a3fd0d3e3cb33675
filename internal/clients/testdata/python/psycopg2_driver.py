"""psycopg2: connections and the text of its errors."""

import psycopg2

from checks import TARGET, say

FIELDS = (
    "severity", "severity_nonlocalized", "sqlstate", "message_primary", "message_detail",
    "message_hint", "statement_position", "internal_position", "internal_query", "context",
    "schema_name", "table_name", "column_name", "datatype_name", "constraint_name",
)


def connect(**options):
    return psycopg2.connect(**{**TARGET, **options})


def auto(**options):
    conn = connect(**options)
    conn.autocommit = True
    return conn


def describe(err):
    """All error fields a server sent, or the driver's own words."""
    diag = getattr(err, "diag", None)
    if diag is None or diag.sqlstate is None:
        # The address a driver puts before the server's words differs by nature.
        text = str(err).strip().rpartition(" failed: ")[2]
        return f"{type(err).__name__}: {text}"
    fields = ((f, getattr(diag, f)) for f in FIELDS)
    return f"{type(err).__name__}: " + "; ".join(f"{f}={v!r}" for f, v in fields if v is not None)


def attempt(name, fn):
    """Say fn's value, or its error."""
    try:
        say(name, fn())
    except psycopg2.Error as err:
        say(name, describe(err))


def rows(conn, sql, args=None):
    with conn.cursor() as cur:
        cur.execute(sql, args)
        return cur.fetchall() if cur.description else cur.statusmessage


def one(conn, sql, args=None):
    return rows(conn, sql, args)[0][0]


def run(conn, *statements):
    """Execute statements and return the last command tag."""
    with conn.cursor() as cur:
        for sql in statements:
            cur.execute(sql)
        return cur.statusmessage
