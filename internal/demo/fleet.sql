-- A small multi-tenant fleet: every table but organizations belongs to an
-- organization, and row-level security shows a session only the rows of the one
-- named by the setting app.current_org_id; none without it.

create table organizations (
    id   int primary key,
    name text not null unique,
    plan text not null default 'basic'
);

create table couriers (
    id              int generated always as identity primary key,
    organization_id int not null references organizations,
    name            text not null
);

create table vehicles (
    id              int generated always as identity primary key,
    organization_id int not null references organizations,
    courier_id      int not null references couriers,
    plate           text not null unique
);

create table deliveries (
    id              int generated always as identity primary key,
    organization_id int not null references organizations,
    vehicle_id      int not null references vehicles,
    status          text not null check (status in ('planned', 'under way', 'done')),
    address         text not null,
    planned_for     date not null
);

create index on couriers (organization_id);
create index on vehicles (organization_id, courier_id);
create index on deliveries (planned_for);
create index on deliveries (vehicle_id);

create sequence tracking_codes;

-- It looks like a read and is none.
create function next_tracking_code() returns text volatile language sql
    as $$ select 'D-' || to_char(nextval('tracking_codes'), 'FM000000') $$;

-- A setting that was used once and reset reads as '', not as NULL.
create function current_org() returns int stable language sql
    as $$ select nullif(current_setting('app.current_org_id', true), '')::int $$;

insert into organizations (id, name)
values (1, 'Alder Parcels'), (2, 'Birch Couriers'), (3, 'Cedar Freight'), (4, 'Dogwood Express');

-- The organizations differ in size: 40, 30, 20 and 10 couriers.
insert into couriers (organization_id, name)
select o.id, 'Courier ' || o.id || '-' || n
from organizations o, generate_series(1, 50 - 10 * o.id) n
order by o.id, n;

insert into vehicles (organization_id, courier_id, plate)
select organization_id, id, 'FL ' || to_char(1000 + id, 'FM0000')
from couriers
order by id;

-- $rows deliveries, handed to the vehicles in turn.
insert into deliveries (organization_id, vehicle_id, status, address, planned_for)
select v.organization_id, v.id,
       (array['planned', 'under way', 'done', 'done'])[1 + n % 4],
       n || ' Harbour Street',
       current_date - n % 30
from generate_series(1, $rows) n
join vehicles v on v.id = 1 + n % 100
order by n;

alter table couriers enable row level security;
alter table couriers force row level security;
alter table vehicles enable row level security;
alter table vehicles force row level security;
alter table deliveries enable row level security;
alter table deliveries force row level security;

create policy tenant on couriers using (organization_id = current_org());
create policy tenant on vehicles using (organization_id = current_org());
create policy tenant on deliveries using (organization_id = current_org());

grant select, insert, update, delete on couriers, vehicles, deliveries to fleet_app;
grant select, update on organizations to fleet_app;
grant usage on all sequences in schema public to fleet_app;

analyze;
