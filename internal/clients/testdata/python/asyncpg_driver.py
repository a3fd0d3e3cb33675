"""asyncpg: connections, the runner for coroutines and the text of its errors."""

import asyncio

import asyncpg

from checks import TARGET, begin, say, selected, start

FIELDS = ("severity", "sqlstate", "message", "detail", "hint", "position", "internal_position", "internal_query", "context",
          "schema_name", "table_name", "column_name", "data_type_name", "constraint_name")


async def connect(**options):
    target = {**TARGET, "timeout": 20, **options}
    target["database"] = target.pop("dbname")
    return await asyncpg.connect(**target)


def describe(err):
    if not isinstance(err, asyncpg.PostgresError):
        return f"{type(err).__name__}: {err}"
    if not getattr(err, "severity", None):
        return f"{type(err).__name__}: {err}"
    fields = ((f, getattr(err, f, None)) for f in FIELDS)
    return f"{type(err).__name__}: " + "; ".join(f"{f}={v!r}" for f, v in fields if v is not None)


async def attempt(name, awaitable):
    """Say the value an awaitable gives, or its error."""
    try:
        say(name, tuples(await awaitable))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError, OSError) as err:
        say(name, describe(err))


def tuples(value):
    if isinstance(value, asyncpg.Record):
        return tuple(value)
    if isinstance(value, list):
        return [tuples(v) for v in value]
    return value


async def _run():
    for fn in selected():
        begin(fn.__name__)
        conn = None
        try:
            conn = await connect()
            await fn(conn)
        except Exception as err:  # noqa: BLE001 - any failure is an observation
            say("unexpected", describe(err))
        finally:
            if conn is not None:
                await conn.close()
    begin("program")
    say("end", "all checks ran")


def main():
    start()
    asyncio.run(_run())
