-- Statements of all kinds, the extended protocol's \bind and \gdesc, and the ways psql has to run them.
\echo == results
select 1 as one, 'grün 漢 🚚' as text, null as nothing, '' as empty, '\x00ff'::bytea as bytes, array[1, 2, null] as list;
values (1, 'a'), (2, null);
select 1; select 2; select 3;
select 1 \; select 2 \; select 3;
;
-- only a comment
/* another */ ;
create table items (id serial primary key, name text not null, price numeric(8,2) check (price >= 0), at timestamptz default '2026-02-28 00:00+00');
insert into items (name, price) select 'item ' || g, g * 1.25 from generate_series(1, 20) g;
table items limit 3;
update items set price = price * 2 where id <= 5 returning id, price;
delete from items where id > 18;
with moved as (delete from items where id = 18 returning *) select id, name from moved;
merge into items i using (values (1, 'merged'), (99, 'new')) v(id, name) on i.id = v.id
  when matched then update set name = v.name when not matched then insert (id, name, price) values (v.id, v.name, 1);
select * from items where id in (1, 99) order by id;
explain (costs off) select * from items where id = 3;
do $$ begin raise notice 'in a block: %', (select count(*) from items); end $$;
create function twice(n int) returns int language sql immutable as 'select n * 2';
create view cheap as select id, name from items where price < 5;
create index items_name on items (name);
select twice(21), (select count(*) from cheap);
create table copies as select * from cheap;
select * into more_copies from cheap;
truncate copies;
comment on table items is 'things';
analyze items;
vacuum items;
alter table items add column tag text default 't';
select id, tag from items order by id limit 2;
show server_version_num;
listen channel; notify channel, 'payload'; unlisten channel;
lock table items;
checkpoint;
call nothing();

\echo == ways of psql
select format('select %s as n%s', g, g) from generate_series(1, 3) g \gexec
select format('create table gexec_%s (a int)', g) from generate_series(1, 2) g \gexec
select 41 + 1 as answer, 'x y' as words \gset
\echo :answer :'words' :"words"
select :answer + 1 as next, :'words' as quoted;
select id, name, price, at, null::uuid as u from items \gdesc
selec nothing \gdesc
select a, b, a * b as product from generate_series(1, 3) a, generate_series(1, 3) b order by 1, 2 \crosstabview a b product
select :VERSION_NUM >= 160000 as has_bind \gset
\if :has_bind
\ir bind.psql
\endif
\x on
select * from items where id = 2;
\x off
\t on
\a
select id, name from items where id < 4 order by id;
\a
\t off
\pset null '(null)'
select null;

\echo == catalogs
\d items
\dt
\df twice
\dv+ cheap
\sf twice
\dn
\dT+ nothing
\di+ items_name
\dg app
\encoding
\set FETCH_COUNT 3
select id from items order by id;
select 1 / (id - 10) from items order by id;
\unset FETCH_COUNT

\echo == errors
\errverbose
selec 1;
\errverbose
select nowhere from items;
insert into items (id, name) values (1, 'again');
\errverbose
insert into items (name, price) values ('x', -1);
insert into items (name) values (null);
select 1/0;
\errverbose
select * from nowhere;
select 'grün', nofunc(1);
\set VERBOSITY sqlstate
select * from nowhere;
\set VERBOSITY terse
select * from nowhere;
\set VERBOSITY default
\set SHOW_CONTEXT always
do $$ begin raise exception 'made up' using errcode = 'XX123', detail = 'd', hint = 'h'; end $$;
\echo :SQLSTATE :LAST_ERROR_MESSAGE :ROW_COUNT :ERROR
select 1 \; select 1/0 \; select 3;
select 'after';
\echo == end: all checks ran
