"""A small application of SQLAlchemy. Each request is there twice: as it is often written, which
insight has something to say about, and cured. The only argument says which is sent: bad or cured.
Every request names itself in its statements as sqlcommenter does."""

import sys
import time
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event, func, orm

from checks import TARGET

CURED = {"bad": False, "cured": True}[sys.argv[1]]
ORG = 1
TIMES = 2
Base = orm.declarative_base()


class Vehicle(Base):
    __tablename__ = "vehicles"
    id = sa.Column(sa.Integer, primary_key=True)
    organization_id = sa.Column(sa.Integer, nullable=False)
    plate = sa.Column(sa.Text)
    courier = orm.relationship("Courier", back_populates="vehicle", uselist=False,
                               primaryjoin="and_(Vehicle.id == Courier.vehicle_id, Vehicle.organization_id == Courier.organization_id)")


class Courier(Base):
    __tablename__ = "couriers"
    id = sa.Column(sa.Integer, primary_key=True)
    organization_id = sa.Column(sa.Integer, nullable=False)
    vehicle_id = sa.Column(sa.ForeignKey("vehicles.id"))
    status = sa.Column(sa.Text)
    vehicle = orm.relationship("Vehicle", back_populates="courier", foreign_keys=[vehicle_id])


class Delivery(Base):
    __tablename__ = "deliveries"
    id = sa.Column(sa.Integer, primary_key=True)
    organization_id = sa.Column(sa.Integer, nullable=False)
    courier_id = sa.Column(sa.ForeignKey("couriers.id"))
    status = sa.Column(sa.Text)
    fee = sa.Column(sa.Numeric)


engine = sa.create_engine("postgresql+psycopg2://{user}@{host}:{port}/{dbname}?application_name=fleet/1.0".format(**TARGET), pool_size=1, max_overflow=0)
Session = orm.sessionmaker(engine)
route = None


@event.listens_for(engine, "before_cursor_execute", retval=True)
def name_the_route(conn, cursor, statement, parameters, context, executemany):
    if route:
        statement += f" /*route='{quote(route, safe='')}'*/".replace("%", "%%")
    return statement, parameters


ROUTES = []


def serves(path):
    def register(fn):
        ROUTES.append((path, fn))
        return fn
    return register


@serves("/vehicles")
def vehicles(s):
    query = sa.select(Vehicle).where(Vehicle.organization_id == ORG).order_by(Vehicle.id).limit(20)
    if CURED:
        query = query.options(orm.joinedload(Vehicle.courier))
    return [(v.plate, v.courier and v.courier.id) for v in s.scalars(query).unique()]


@serves("/couriers/vehicle")
def couriers_with_vehicles(s):
    query = sa.select(Courier).where(Courier.organization_id == ORG).order_by(Courier.id).limit(20)
    couriers = s.scalars(query).all()
    by_id = {}
    if CURED:
        of = [c.vehicle_id for c in couriers]
        by_id = {v.id: v for v in s.scalars(sa.select(Vehicle).where(Vehicle.organization_id == ORG, Vehicle.id.in_(of)))}
    one = lambda id: s.scalars(sa.select(Vehicle).where(Vehicle.organization_id == ORG, Vehicle.id == id)).one()
    return [(by_id.get(c.vehicle_id) or one(c.vehicle_id)).plate for c in couriers]


@serves("/settings")
def settings(s):
    read = lambda: s.execute(sa.text("select name from organizations where id = :id"), {"id": ORG}).scalar()
    kept = read()
    return [kept if CURED else read() for _ in range(6)]


@serves("/dashboard")
def dashboard(s):
    wanted = ("NEW", "ON_THE_WAY", "DONE", "LOST")
    if CURED:
        return s.execute(sa.select(*(func.count().filter(Delivery.status == w) for w in wanted)).where(Delivery.organization_id == ORG)).one()
    return [s.scalar(sa.select(func.count()).select_from(Delivery).where(Delivery.organization_id == ORG, Delivery.status == w)) for w in wanted]


@serves("/deliveries/page")
def page(s):
    of = (Delivery.organization_id == ORG, Delivery.status == "NEW")
    if CURED:
        return s.execute(sa.select(Delivery.id, func.count().over()).where(*of).order_by(Delivery.id).limit(10)).all()
    return s.execute(sa.select(Delivery.id).where(*of).order_by(Delivery.id).limit(10)).all(), s.scalar(sa.select(func.count()).select_from(Delivery).where(*of))


@serves("/deliveries/notify")
def notify(s):
    s.execute(sa.update(Delivery).where(Delivery.organization_id == ORG, Delivery.id == 1).values(status="DONE"))
    if CURED:
        s.commit()
    time.sleep(0.4)  # another service is called
    s.commit()


@serves("/deliveries/statistics")
def statistics(s):
    if CURED:
        return s.execute(sa.select(Delivery.status, func.sum(Delivery.fee)).where(Delivery.organization_id == ORG).group_by(Delivery.status)).all()
    sums = {}
    for d in s.scalars(sa.select(Delivery).where(Delivery.organization_id == ORG)).all():
        sums[d.status] = sums.get(d.status, 0) + d.fee
    return sums


@serves("/deliveries/archive")
def archive(s):
    query = sa.select(Delivery.id, Delivery.fee).where(Delivery.organization_id == ORG).order_by(Delivery.id).limit(10)
    if CURED:
        query = query.where(sa.tuple_(Delivery.id) > sa.tuple_(1500))
    else:
        query = query.offset(1500)
    return s.execute(query).all()


@serves("/couriers/report")
def report(s):
    if not CURED:
        s.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    return s.scalars(sa.select(Courier.id).where(Courier.organization_id == ORG, Courier.status == "ON_LEAVE").order_by(Courier.id).limit(20)).all()


@serves("/vehicles/search")
def search(s):
    query = sa.select(Vehicle.plate).where(Vehicle.plate.like("B%")).order_by(Vehicle.plate).limit(5)
    if CURED:
        query = query.where(Vehicle.organization_id == ORG)
    return s.scalars(query).all()


for path, handler in ROUTES:
    for _ in range(TIMES):
        route = path
        with Session() as s:
            handler(s)
        route = None
        time.sleep(0.06)  # what another user asks is another matter
engine.dispose()
print("all requests were sent")
