-- Every way known to us in which something reaches a statement without being named by it.
create schema app;
create schema other;
create sequence seq;
create table plain (id int primary key, name text default 'x');
create unlogged table quick (id int);
create table serials (id serial primary key, at timestamptz default now());
create table identities (id int generated always as identity);
create foreign data wrapper nowhere;
create server nowhere foreign data wrapper nowhere;
create foreign table elsewhere (id int) server nowhere;

-- functions: declared volatility
create function f_immutable(int) returns int immutable language sql as 'select $1 + 1';
create function f_stable() returns bigint stable language sql as 'select count(*) from plain';
create function f_volatile() returns int language sql as 'select 1';
create function f_overload(int) returns int immutable language sql as 'select 1';
create function f_overload(text) returns int volatile language sql as 'select 1';
create function app.f_twice() returns int stable language sql as 'select 1';
create function other.f_twice() returns int volatile language sql as 'select 1';
create function app.random() returns int stable language sql as 'select pg_catalog.txid_current()::int';
create procedure p_plain() language sql as 'insert into plain values (1)';
create procedure p_sets() language plpgsql as 'begin set app.x = 1; end';
-- a name of PostgreSQL's own in another schema
create function app.lower(text) returns text volatile language sql as 'select $1';

-- functions: what their source shows
create function g_set_config() returns text stable language sql as $$ select set_config('a.b', 'c', false) $$;
create function g_set() returns void language plpgsql as $$ begin set a.b = 'c'; end $$;
create function g_set_then() returns void language plpgsql as $$ begin if true then update plain set id = 1; set a.b = 'c'; end if; end $$;
create function g_update() returns void language plpgsql as $$ begin update plain set name = 'y' where id = 1; end $$;
create function g_upsert() returns void language sql as $$ insert into plain values (1) on conflict (id) do update set name = 'z' $$;
create function g_reset() returns void language plpgsql as $$ begin reset a.b; end $$;
create function g_role() returns void language plpgsql as $$ begin set local role postgres; end $$;
create function g_lock() returns void language plpgsql as $$ begin perform pg_advisory_lock(1); end $$;
create function g_xact_lock() returns void language plpgsql as $$ begin perform pg_advisory_xact_lock(1); end $$;
create function g_temp() returns void language plpgsql as $$ begin create temp table x (i int); end $$;
create function g_select_into_temp() returns void language sql as $$ create temporary table x as select 1 $$;
create function g_dynamic() returns void stable language plpgsql as $$ begin execute 'select 1'; end $$;
create function g_dynamic_unsafe() returns void stable language plpgsql as $$ begin execute 'select txid_current()'; end $$;
create function g_listen() returns void language plpgsql as $$ begin listen x; end $$;
create function g_currval() returns bigint language sql as $$ select currval('seq') $$;
create function g_nextval() returns bigint language sql as $$ select nextval('seq') $$;
create function g_calls() returns text stable language plpgsql as $$ begin return g_set_config(); end $$;
create function g_calls_calls() returns text stable language sql as $$ select g_calls() $$;
create function g_circle_a() returns int stable language plpgsql as $$ begin return g_circle_b(); end $$;
create function g_circle_b() returns int stable language plpgsql as $$ begin perform g_temp(); return g_circle_a(); end $$;
create function g_comment() returns int stable language plpgsql as $$ begin /* set a.b = 1; /* nested */ */ -- set_config(
  return 1; end $$;
create function g_string() returns text stable language plpgsql as $$ begin return 'set_config( ; set x'; end $$;
create function g_quoted() returns text stable language sql as $$ select "set_config"('a.b', 'c', true) $$;
create function g_backslash() returns text stable language sql as $$ select 'a\'::text || 'set' $$;
create function g_unicode() returns text stable language sql as $$ select U&"set\005Fconfig"('a.b', 'c', false) $$;
create function g_reads_locks() returns bigint stable language sql as $$ select count(*) from pg_locks $$;
create function g_reads_unlogged() returns bigint stable language plpgsql as $$ begin return (select count(*) from quick); end $$;
create function g_proconfig() returns int stable language sql set search_path = app as 'select 1';
create function g_body() returns text stable language sql return set_config('a.b', 'c', true);
create function g_body_good() returns bigint stable language sql begin atomic select count(*) from plain; end;
create function g_body_write() returns void language sql begin atomic insert into serials default values; end;
create function g_default(n bigint default nextval('seq')) returns bigint stable language sql as 'select n';
create function g_internal(text, text, bool) returns text immutable language internal as 'set_config_by_name';
create function g_internal_good(text) returns text immutable language internal as 'lower';
create function g_attribute(plain) returns text stable language sql as $$ select set_config('a.b', $1.name, false) $$;
create function g_calls_attribute() returns text stable language sql as $$ select p.g_attribute from plain p $$;
create function g_query_to_xml() returns xml stable language sql as $$ select query_to_xml('select 1', true, true, '') $$;
create function g_do() returns void language plpgsql as $$ begin do 'begin perform 1; end'; end $$;
create function g_hold() returns void language sql as $$ declare c cursor with hold for select 1 $$;
create aggregate a_good(int) (sfunc = int4pl, stype = int);
create function a_bad_step(int, int) returns int volatile language sql as $$ select length(set_config('a.b', $2::text, false)) $$;
create aggregate a_bad(int) (sfunc = a_bad_step, stype = int);

-- operators and types
create function op_bad(int, int) returns bool stable language sql as $$ select set_config('a.b', '', false) is null $$;
create operator === (leftarg = int, rightarg = int, function = op_bad);
create operator app.|=| (leftarg = int, rightarg = int, function = int4eq);
create function g_operator() returns bool stable language sql as $$ select 1 === 2 $$;
create domain d_good as int check (value > 0);
create domain d_bad as int check (value > 0 and nextval('seq') > 0);
create domain d_state as text check (set_config('a.b', value, false) is not null);
create domain d_on_bad as d_bad;
create type composite_good as (a int, b text);
create type composite_bad as (a int, b d_state[]);
create type mood as enum ('sad', 'ok');
create type range_bad as range (subtype = int);
create function g_domain(text) returns text stable language plpgsql as $$ declare v d_state; begin v := $1; return v; end $$;
create type source_type as (a int);
create function cast_bad(source_type) returns mood volatile language sql as $$ select 'ok'::mood $$;
create cast (source_type as mood) with function cast_bad(source_type);
create table with_state (id int, s d_state);

-- views
create view v_plain as select * from plain;
create view v_deep as select * from v_plain where id in (select id from v_plain);
create view v_nextval as select nextval('seq') as n;
create view v_over_nextval as select * from v_nextval;
create view v_random as select random() as r, clock_timestamp() as c;
create view v_unlogged as select * from quick;
create view v_foreign as select * from elsewhere;
create view v_lock as select pg_try_advisory_lock(1);
create view v_set_config as select id from plain where set_config('a.b', id::text, true) <> '';
create view v_user_function as select f_volatile();
create view v_aggregate as select a_bad(id) from plain;
create view v_operator as select 1 === 2 as x;
create view v_window as select sum(id) over (order by id) from plain;
create view v_stat as select * from pg_stat_activity;
create view v_domain as select name::d_state from plain;
create view v_sequence as select last_value from seq;
create view v_cte as with x as (select txid_current()) select * from x union all select 1;
create view v_lateral as select * from plain p, lateral (select pg_backend_pid() + p.id as b) l;
create materialized view m_plain as select * from v_nextval;
create view v_over_m as select * from m_plain;

create view v_tablesample as select * from plain tablesample bernoulli (10);
create view v_tablesample_bad as select * from plain tablesample bernoulli (pg_backend_pid());
create view v_array_coerce as select '{1}'::int[]::d_bad[] from plain;
create view v_io_coerce as select id::text::d_state from plain;
create view v_offset as select id from plain group by id having count(*) > 1 limit 3 offset pg_backend_pid();
create view v_from_function as select * from plain, g_set_config();
create view v_row_compare as select id from plain where (id, name) < (2, 'b');
create view v_ordered_set as select array_agg(id order by id desc), percentile_cont(0.5) within group (order by id) from plain;
create view v_writable as select * from plain;
create function t_instead() returns trigger language plpgsql as $$ begin perform pg_advisory_lock(1); return new; end $$;
create trigger t instead of insert on v_writable for each row execute function t_instead();

-- policies
create table policy_good (id int, org text);
alter table policy_good enable row level security;
create policy p on policy_good using (org = current_setting('app.org', true));
create table policy_bad (id int, org text);
alter table policy_bad enable row level security;
create policy p on policy_bad using (set_config('app.seen', org, false) is not null);
create table policy_sub (id int);
alter table policy_sub enable row level security;
create policy p on policy_sub using (id in (select id from quick));
create table policy_off (id int, org text);
create policy p on policy_off using (nextval('seq') > 0);
create table policy_check (id int);
alter table policy_check enable row level security;
create policy p on policy_check for insert with check (pg_try_advisory_lock(id));
create view v_policy as select * from policy_bad;

-- partitions and children
create function t_parted() returns trigger language plpgsql as $$ begin perform set_config('a.b', 'c', false); return new; end $$;
create table parted (id int) partition by range (id);
create table parted_1 partition of parted for values from (0) to (10);
create unlogged table parted_2 partition of parted for values from (10) to (20);
create table parted_ok (id int) partition by list (id);
create table parted_ok_1 partition of parted_ok for values in (1);
create table parted_trigger (id int) partition by list (id);
create table parted_trigger_1 partition of parted_trigger for values in (1);
create trigger t before insert on parted_trigger for each row execute function t_parted();
create table parent (id int);
create foreign table child () inherits (parent) server nowhere;

-- what writing runs
create function t_clean() returns trigger language plpgsql as $$ begin new.id := new.id + 1; return new; end $$;
create function t_bad() returns trigger language plpgsql as $$ begin perform set_config('a.b', 'c', false); return new; end $$;
create table trigger_clean (id int);
create trigger t before insert on trigger_clean for each row execute function t_clean();
create table trigger_bad (id int);
create trigger t before insert on trigger_bad for each row execute function t_bad();
create table trigger_off (id int);
create trigger t before insert on trigger_off for each row execute function t_bad();
alter table trigger_off disable trigger t;
create table trigger_when (id int);
create trigger t before insert on trigger_when for each row when (pg_try_advisory_lock(new.id)) execute function t_clean();
create table default_bad (id int, s text default set_config('a.b', 'c', false));
create table check_bad (id int check (pg_try_advisory_lock(id)));
create function i_bad(int) returns text immutable language plpgsql as $$ begin return set_config('a.b', 'c', false); end $$;
create table index_bad (id int);
create index on index_bad (i_bad(id));
create table generated_bad (id int, s text generated always as (i_bad(id)) stored);
create table rule_bad (id int);
create rule r as on insert to rule_bad do also select set_config('a.b', 'c', false);
create table rule_notify (id int);
create rule r as on insert to rule_notify do also insert into trigger_bad values (1);
create table fk_top (id int primary key);
create table fk_middle (id int primary key references fk_top on delete cascade);
create table fk_bottom (id int references fk_middle on delete set null);
create trigger t before update on fk_bottom for each row execute function t_bad();
create table fk_other (id int primary key);
create table fk_restrict (id int references fk_other);
create trigger t before update on fk_restrict for each row execute function t_bad();
create view v_over_trigger as select * from trigger_bad;
create function g_writes_trigger() returns void language sql as $$ insert into trigger_bad values (1) $$;
create function g_reads_trigger() returns bigint stable language sql as $$ select count(*) from trigger_bad $$;

-- what writing runs, seen in other corners of the catalog
create domain d_default as text default set_config('a.b', 'c', false);
create domain d_default_good as text default 'x';
create table domain_default (id int, s d_default);
create table domain_default_good (id int, s d_default_good);
create table composite_default (id int, c composite_bad);
create table array_default (id int, c d_state[]);
create table part_expr (id int) partition by range (i_bad(id));
create table part_expr_1 partition of part_expr for values from ('a') to ('b') partition by range (id);
create table part_expr_1_1 partition of part_expr_1 for values from (0) to (10);
create table part_expr_good (id int) partition by range (abs(id));
create table part_expr_good_1 partition of part_expr_good for values from (0) to (10);
create table stat_bad (id int, a int);
create statistics stat_expr on (i_bad(id)), a from stat_bad;
create table predicate_bad (id int);
create index on predicate_bad (id) where i_bad(id) = 'x';
create table settings_rule (name text, setting text);
create rule r as on update to settings_rule do also update pg_settings set setting = new.setting where name = new.name;
create view v_settings as select * from pg_settings;
create function sub_diff(text, text) returns float8 immutable language sql as $$ select length(set_config('a.b', $1, false))::float8 $$;
create type range_diff as range (subtype = text, subtype_diff = sub_diff);
create table range_diff_used (id int, r range_diff);
create function agg_final(text) returns text language sql as $$ select set_config('a.b', $1, false) $$;
create aggregate a_final(text) (sfunc = textcat, stype = text, finalfunc = agg_final, initcond = '');
create aggregate a_set_config(text, bool) (sfunc = set_config, stype = text, initcond = 'a.b');

-- functions: names that only PostgreSQL's lexer spells
create function h_escape() returns text language sql as $$ select set_config(E'a.\x62', 'c', false) $$;
create function h_unicode() returns text language sql as $$ select set_config(U&'a.\0062', 'c', false) $$;
create function h_uescape() returns text language plpgsql as $$ begin return set_config(U&'a.!0062' uescape '!', 'c', false); end $$;
create function h_parts() returns text language sql as $$ select set_config('a.'
  'b', 'c', false) $$;
create function h_dollar() returns text language sql as $x$ select set_config($$a.b$$, 'c', false) $x$;
create function h_range() returns void language plpgsql as $$ begin for i in 1..set_config('a.b', '3', false)::int loop null; end loop; end $$;
create function h_format() returns void language plpgsql as $$ begin execute format('set a.%I = %L', 'b', 'c'); end $$;
create function h_execute() returns void language plpgsql as $$ begin execute E'set a.\x62 = 1'; end $$;
create function h_do() returns void language plpgsql as $$ begin do E'begin perform set_config(''a.\x62'', ''c'', false); end'; end $$;
create function h_pg_settings() returns void language sql as $$ update pg_settings set setting = 'c' where name = 'work_mem' $$;
create function h_view_settings() returns void language sql as $$ update v_settings set setting = 'c' where name = 'work_mem' $$;
create function h_record_in() returns text language sql as $$ select record_in('(1,x)'::cstring, 'composite_bad'::regtype, -1)::text $$;
create function h_wrapper() returns text language sql as $$ select h_escape() $$;
create function h_clause() returns int stable language sql set app.x = 'y' as 'select 1';
create function h_type() returns void language plpgsql as $$ declare v with_state.s%type; begin v := 'x'; end $$;

-- one name in two schemas
create table app.shared (id int);
create unlogged table other.shared (id int);
create view other.plain as select pg_backend_pid() as id;
-- a session's own, which nobody else can reach
create temporary table passing (id int);
create temporary view passing_view as select * from passing;
