"""SQLAlchemy with psycopg2 and with asyncpg: pools, ORM sessions, reflection, tenant settings."""

import asyncio
import datetime
import threading
import time

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from checks import TARGET, begin, check, digest, plain, say, selected, start

URL = "{user}@{host}:{port}/{dbname}".format(**TARGET)
Base = orm.declarative_base()


class Org(Base):
    __tablename__ = "orgs"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(40), unique=True, nullable=False)
    couriers = orm.relationship("Courier", back_populates="org", cascade="all, delete-orphan", order_by="Courier.id")


class Courier(Base):
    __tablename__ = "couriers"
    id = sa.Column(sa.BigInteger, primary_key=True)
    organization_id = sa.Column(sa.ForeignKey("orgs.id"), nullable=False, index=True)
    name = sa.Column(sa.Text)
    state = sa.Column(sa.Enum("free", "busy", name="courier_state"), server_default="free")
    tags = sa.Column(pg.ARRAY(sa.Text), server_default="{}")
    extra = sa.Column(pg.JSONB)
    hired = sa.Column(sa.DateTime(timezone=True))
    version = sa.Column(sa.Integer, nullable=False)
    org = orm.relationship("Org", back_populates="couriers")
    __mapper_args__ = {"version_id_col": version}


def engine(**options):
    return sa.create_engine(f"postgresql+psycopg2://{URL}", **options)


def describe(err):
    orig = getattr(err, "orig", None)
    return f"{type(err).__name__}: {getattr(orig, 'pgcode', None)} {str(orig or err).strip()}"


def attempt(name, fn):
    try:
        say(name, fn())
    except sa.exc.SQLAlchemyError as err:
        say(name, describe(err))


@check
def schema():
    e = engine()
    Base.metadata.create_all(e)
    Base.metadata.create_all(e)
    inspector = sa.inspect(e)
    say("tables", sorted(inspector.get_table_names()))
    say("columns", [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns("couriers")])
    say("keys", [inspector.get_pk_constraint("couriers"), inspector.get_foreign_keys("couriers"), inspector.get_unique_constraints("orgs"),
                 inspector.get_indexes("couriers"), inspector.get_enums()])
    meta = sa.MetaData()
    meta.reflect(e)
    say("reflected", sorted(meta.tables))
    e.dispose()


@check
def sessions():
    e = engine(pool_pre_ping=True, pool_size=3)
    when = datetime.datetime(2026, 2, 28, tzinfo=datetime.timezone.utc)
    with orm.Session(e) as s:
        for o in range(3):
            org = Org(name=f"Org {o} ü")
            org.couriers = [Courier(name=f"courier {o}.{c}", tags=["a", str(c)], extra={"n": c}, hired=when) for c in range(4)]
            s.add(org)
        s.commit()
        say("ids", [o.id for o in s.query(Org).order_by(Org.id)])
    with orm.Session(e) as s:
        org = s.query(Org).filter_by(name="Org 1 ü").one()
        say("lazy", [(c.name, c.state, c.tags, c.extra) for c in org.couriers])
        c = org.couriers[0]
        c.state = "busy"
        s.flush()
        say("own flush", s.query(Courier).filter_by(state="busy").count())
        s.rollback()
        say("rolled back", s.query(Courier).filter_by(state="busy").count())
        c.state = "busy"
        s.commit()
        say("after commit", [c.state, c.version])
    with orm.Session(e) as s:
        orgs = s.query(Org).options(orm.selectinload(Org.couriers)).order_by(Org.id).all()
        say("selectin", [len(o.couriers) for o in orgs])
        say("joined", s.query(Courier.name, Org.name).join(Org).order_by(Courier.id).limit(2).all())
        say("aggregate", s.query(Org.name, sa.func.count(Courier.id)).join(Courier).group_by(Org.name).order_by(Org.name).all())
        s.delete(orgs[0])
        s.commit()
        say("deleted", s.query(Courier).count())
        nested = s.begin_nested()
        s.add(Org(name="Org 1 ü"))
        attempt("duplicate", s.flush)
        nested.rollback()
        say("after savepoint", s.query(Org).count())
        s.commit()
    with orm.Session(e) as a, orm.Session(e) as b:
        ca, cb = (s.query(Courier).order_by(Courier.id).first() for s in (a, b))
        ca.name = cb.name = "changed"
        a.commit()
        attempt("stale version", b.commit)
        b.rollback()
        say("locked", a.query(Courier).with_for_update(skip_locked=True).order_by(Courier.id).first().name)
    e.dispose()


@check
def core():
    e = engine()
    with e.begin() as c:
        c.execute(sa.text("create table kv (k int primary key, v text)"))
        c.execute(sa.text("insert into kv values (:k, :v)"), [{"k": i, "v": f"v{i}"} for i in range(1000)])
    t = sa.Table("kv", sa.MetaData(), autoload_with=e)
    with e.begin() as c:
        insert = pg.insert(t).values([{"k": 1, "v": "new"}, {"k": 5000, "v": "n"}])
        say("upsert", c.execute(insert.on_conflict_do_update(index_elements=["k"], set_={"v": insert.excluded.v}).returning(t.c.k)).fetchall())
        say("in", c.execute(sa.select(t).where(t.c.k.in_([1, 2, 5000])).order_by(t.c.k)).fetchall())
    with e.connect() as c:
        say("stream", digest(tuple(r) for r in c.execution_options(stream_results=True, max_row_buffer=50).execute(sa.select(t).order_by(t.c.k))))
    with e.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        say("autocommit", [c.execute(sa.text("show transaction_isolation")).scalar(), c.execute(t.insert().values(k=6000, v="a")).rowcount,
                           c.execute(sa.select(sa.func.max(t.c.k))).scalar()])
    for level in ("REPEATABLE READ", "SERIALIZABLE", "READ COMMITTED"):
        with e.connect().execution_options(isolation_level=level) as c:
            say(level, c.execute(sa.text("show transaction_isolation")).scalar())
    with e.connect().execution_options(postgresql_readonly=True, postgresql_deferrable=True, isolation_level="SERIALIZABLE") as c:
        say("readonly", c.execute(sa.text("show transaction_read_only")).scalar())
        attempt("write", lambda: c.execute(t.delete()).rowcount)
    with e.connect() as c:
        say("reset", [c.execute(sa.text(f"show {n}")).scalar() for n in ("transaction_isolation", "transaction_read_only")])
        attempt("zero", lambda: c.execute(sa.text("select 1/0")).scalar())
        attempt("aborted", lambda: c.execute(sa.text("select 1")).scalar())
        c.connection.rollback()
        say("after rollback", c.execute(sa.text("select 1")).scalar())
    with e.connect() as c:
        two = c.begin_twophase("sqlalchemy")
        c.execute(t.insert().values(k=7000, v="two"))
        two.prepare()
        two.commit()
        say("two-phase", c.execute(sa.select(t.c.v).where(t.c.k == 7000)).scalar())
    e.dispose()


@check
def pool_and_settings():
    """The tenant of a request is set when its transaction begins."""
    e = engine(pool_size=4, max_overflow=2, pool_pre_ping=True, connect_args={"application_name": "orm", "options": "-c statement_timeout=15000"})
    factory = orm.sessionmaker(e)
    tenant = threading.local()

    @event.listens_for(e, "begin")
    def set_tenant(conn):
        conn.exec_driver_sql("select set_config('app.current_org_id', %s, true)", (str(getattr(tenant, "id", "")),))

    wrong = []

    def request(n):
        tenant.id = n
        for i in range(25):
            with factory() as s:
                seen = s.execute(sa.text("select current_setting('app.current_org_id')")).scalar()
                if i % 2:
                    s.execute(sa.text("update kv set v = :v where k = :k"), {"k": 10 + n, "v": f"{n}.{i}"})
                    s.commit()
                    seen2 = s.execute(sa.text("select current_setting('app.current_org_id') || ' ' || v from kv where k = :k"), {"k": 10 + n}).scalar()
                    if seen2 != f"{n} {n}.{i}":
                        wrong.append(seen2)
                if seen != str(n):
                    wrong.append(seen)

    threads = [threading.Thread(target=request, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    say("wrong", wrong)
    with e.connect() as c:
        say("options", [c.execute(sa.text(f"show {n}")).scalar() for n in ("application_name", "statement_timeout", "app.current_org_id")])
    e.dispose()


@check
def broken_connections():
    e = engine(pool_size=1, max_overflow=0, pool_pre_ping=True)
    with e.connect() as c:
        try:
            say("terminated", c.execute(sa.text("select pg_terminate_backend(pg_backend_pid())")).scalar())
        except sa.exc.DBAPIError as err:
            say("disconnected", err.connection_invalidated)
        say("invalidated", c.invalidated)
    with e.connect() as c:
        say("replaced", c.execute(sa.text("select 1")).scalar())
        raw = c.connection.dbapi_connection
    raw.close()
    attempt("pre-ping", lambda: e.connect().execute(sa.text("select 2")).scalar())
    e.dispose()


@check
def null_pool():
    e = engine(poolclass=NullPool)
    say("connections", [e.connect().execute(sa.text(f"select {i}")).scalar() for i in range(30)])


async def asynchronous():
    e = create_async_engine(f"postgresql+asyncpg://{URL}", pool_size=3, pool_pre_ping=True)
    async with AsyncSession(e) as s:
        s.add(Org(name="async org", couriers=[Courier(name="a"), Courier(name="b")]))
        await s.commit()
        found = (await s.execute(sa.select(Org).options(orm.selectinload(Org.couriers)).where(Org.name == "async org"))).scalar_one()
        say("async session", [c.name for c in found.couriers])
        s.add(Org(name="async org"))
        try:
            await s.commit()
        except sa.exc.IntegrityError as err:
            say("duplicate", f"{type(err).__name__} {err.orig.pgcode}")
        await s.rollback()
        say("count", (await s.execute(sa.select(sa.func.count(Org.id)))).scalar())

    async def request(n):
        async with AsyncSession(e) as s:
            for i in range(10):
                await s.execute(sa.text("select set_config('app.current_org_id', :v, true)"), {"v": str(n)})
                seen = (await s.execute(sa.text("select current_setting('app.current_org_id')"))).scalar()
                await s.commit()
                if seen != str(n):
                    return f"{n} saw {seen}"
        return n

    say("requests", await asyncio.gather(*(request(n) for n in range(8))))
    async with e.connect() as c:
        rows = []
        async for r in await c.stream(sa.text("select g from generate_series(1, 500) g")):
            rows.append(tuple(r))
        say("stream", digest(rows))
    await e.dispose()


@check
def with_asyncpg():
    asyncio.run(asynchronous())


def main():
    start()
    for fn in selected():
        begin(fn.__name__)
        started = time.monotonic()
        try:
            fn()
        except Exception as err:  # noqa: BLE001 - any failure is an observation
            say("unexpected", describe(err))
        if time.monotonic() - started > 60:
            say("slow", plain(fn.__name__))
    begin("program")
    say("end", "all checks ran")


main()
