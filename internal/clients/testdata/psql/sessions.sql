-- Transactions, settings, prepared statements, cursors, COPY and reconnecting in psql.
\echo == transactions
create table t (a int primary key, b text);
begin;
insert into t values (1, 'one');
savepoint s;
insert into t values (1, 'again');
select 1;
rollback to s;
insert into t values (2, 'two');
commit;
select * from t order by a;
begin; begin; commit; commit; rollback;
begin transaction isolation level serializable, read only, deferrable;
show transaction_isolation;
insert into t values (3, 'three');
commit;
begin read only; select count(*) from t; commit;
begin isolation level repeatable read; select count(*) from t; insert into t values (3, 'three'); commit;
begin; select 1/0; commit;
begin; set transaction read only; select count(*) from t; end;
start transaction; abort;
begin; insert into t values (4, 'four'); commit and chain; insert into t values (5, 'five'); rollback and chain; select count(*) from t; commit;
savepoint outside;
set local work_mem = '1MB';
begin \; insert into t values (6, 'six') \; commit \; select count(*) from t;
insert into t values (7, 'seven') \; select 1/0;
select count(*) from t;
begin; insert into t values (60, 'sixty'); prepare transaction 'psql'; select count(*) from t; commit prepared 'psql';
prepare transaction 'outside';
\set AUTOCOMMIT off
insert into t values (8, 'eight');
rollback;
select count(*) from t;
insert into t values (9, 'nine');
commit;
\set AUTOCOMMIT on
\set ON_ERROR_ROLLBACK on
begin;
insert into t values (10, 'ten');
insert into t values (10, 'again');
selec 1;
insert into t values (11, 'eleven');
commit;
\set ON_ERROR_ROLLBACK off
select a from t order by a;

\echo == settings
set app.org = '42'; show app.org;
begin; set local app.org = '43'; show app.org; commit; show app.org;
begin; set app.org = '44'; rollback; show app.org;
begin; savepoint s; set app.org = '45'; rollback to s; show app.org; commit;
select set_config('app.org', '46', true); show app.org;
select set_config('app.org', '47', false); show app.org;
set search_path = pg_catalog, public; show search_path; reset search_path; show search_path;
set timezone = 'Asia/Tokyo'; select '2026-02-28 00:00+00'::timestamptz; set time zone default;
set datestyle = 'German'; select '2026-02-28'::date; reset datestyle;
set session characteristics as transaction read only; insert into t values (20, 'x'); set session characteristics as transaction read write;
set nothing = 1;
set work_mem = 'lots';
show nothing;
set role app_reader; select current_user, session_user; select * from t; reset role;
set client_encoding = 'LATIN1'; show client_encoding; reset client_encoding;
set names 'UTF8';
discard all; show app.org;

\echo == prepared
prepare p (int) as select * from t where a = $1;
execute p (1); execute p (2);
prepare p as select 1;
execute nothing;
deallocate p;
execute p (1);
prepare w (int, text) as insert into t values ($1, $2) returning *;
begin; execute w (30, 'thirty'); rollback;
execute w (30, 'thirty');
deallocate all;
execute w (31, 'x');

\echo == cursors
begin;
declare c cursor for select a from t order by a;
fetch 2 from c; fetch c; move 1 in c; fetch all c;
close c; fetch c;
rollback;
declare c cursor for select 1;
declare h cursor with hold for select a from t order by a;
fetch 2 from h;
select count(*) from t;
fetch 2 from h;
close h;
close h;

\echo == pins
create temp table tt as select generate_series(1, 3) a;
select sum(a) from tt;
create temp sequence ts; select nextval('ts'), currval('ts'), lastval();
select pg_advisory_lock(5); select pg_try_advisory_lock(5); select pg_advisory_unlock(5), pg_advisory_unlock(5), pg_advisory_unlock(5);
drop table tt;

\echo == copy
copy t from stdin;
100	hundred
101	\N
102	grün\ttab
\.
copy t (a, b) from stdin with (format csv, header);
a,b
103,"quoted, ""text"""
104,
\.
copy t from stdin;
105	x
bad	y
\.
copy t from stdin;
100	duplicate
\.
copy nowhere from stdin;
copy (select * from t where a >= 100 order by a) to stdout;
copy (select * from t where a >= 100 order by a) to stdout with (format csv, header, force_quote *);
\copy (select a from t order by a desc limit 3) to pstdout
\copy t (a) from program 'seq 200 205'
\copy (select g, repeat('x', 100) from generate_series(1, 100000) g) to program 'md5sum'
create table big (a int, b text);
\copy big from program 'seq 1 100000 | sed "s/$/\\tyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy/"'
select count(*), sum(a), sum(length(b)) from big;
\copy t from program 'echo 300; false'
select count(*) from t where a >= 200;

\echo == notices
set client_min_messages = debug1;
do $$ begin raise debug 'd'; raise log 'l'; raise info 'i'; raise notice 'n'; raise warning 'w' using hint = 'h'; end $$;
reset client_min_messages;
drop table if exists nowhere;
create table if not exists t (a int);

\echo == notifications
listen a;
notify a, 'one';
select 1;
unlisten *;

\echo == large objects
select lo_from_bytea(424242, '\x0102');
\lo_list
select lo_get(424242);
begin;
select loread(lo_open(424242, 262144), 10);
commit;
\lo_unlink 424242

\echo == reconnecting
set app.org = 'before';
\c
show app.org;
select a from t order by a limit 1;
\c "application_name=again options='-c work_mem=7MB -c app.org=from\\ options'"
show application_name; show work_mem; show app.org;
set statement_timeout = '100ms'; select pg_sleep(5); reset statement_timeout;
select 'usable';

\echo == larger
select g, md5(g::text) from generate_series(1, 10000) g;
select length(repeat('ü', 1000000)), md5(repeat('ü', 1000000));
\echo == end: all checks ran
-- The last line, because psql gives up here.
\c no_such_database
