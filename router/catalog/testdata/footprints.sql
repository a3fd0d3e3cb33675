-- What using each object reads and writes; footprints.txt is what is found.
create table plain(i int primary key, v int default random());
create table "Quoted"(i int);
create schema s1; create schema s2;
create table s1.twin(i int); create table s2.twin(i int);
create table s1.parent(i int); create table child(j int) inherits (s1.parent); create table grandchild() inherits (child);
create table second_parent(k int); create table both_children() inherits (s1.parent, second_parent);
create table part(i int) partition by range (i);
do $$ begin for n in 1..60 loop execute format('create table part_%s partition of part for values from (%s) to (%s)', n, n, n + 1); end loop; end $$;

create view one as select * from plain;
create view two as select p.* from one p join "Quoted" using (i);
create view of_stats as select * from pg_stat_user_tables;
create materialized view mat as select * from plain;
create table many_1(i int);
do $$ declare names text = 'many_1'; begin
  for n in 2..40 loop execute format('create table many_%s(i int)', n); names = names || ', many_' || n; end loop;
  execute 'create view many as select 1 from ' || names; end $$;

create table audit(i int); create table audit_of_audit(i int);
create function audits() returns trigger language plpgsql as 'begin insert into audit values (new.i); return new; end';
create function audits2() returns trigger language plpgsql as 'begin insert into public.audit_of_audit select new.i; return null; end';
create table audited(i int);
create trigger a before insert on audited for each row execute function audits();
create trigger a after insert on audit for each row execute function audits2();
create table dynamically_audited(i int);
create function audits3() returns trigger language plpgsql as $$ begin execute format('insert into %I values (1)', tg_argv[0]); return new; end $$;
create trigger a after insert on dynamically_audited for each row execute function audits3('plain');
create table builtin_trigger(i int);
create trigger t before update on builtin_trigger for each row execute function suppress_redundant_updates_trigger();

create table referenced(i int primary key, j int unique);
create table restricts(i int references referenced on delete restrict);
create table cascades(i int primary key references referenced on delete cascade);
create table cascades_on(i int references cascades on update set null);

create table ruled(i int); create table rule_log(i int);
create rule r as on insert to ruled do also insert into rule_log values (new.i);
create view instead as select 1 as i;
create rule r as on insert to instead do instead insert into plain values (new.i);
create view instead2 as select 1 as i;
create trigger t instead of insert on instead2 for each row execute function audits();

create function reads_plain() returns bigint stable language sql as 'select count(*) from plain';
create function atomic() returns bigint stable begin atomic select count(*) from "Quoted"; end;
create function atomic_writes() returns void begin atomic insert into plain values (1); end;
create function calls() returns bigint stable language plpgsql as 'begin return reads_plain() + 1; end';
create function lies() returns bigint immutable language sql as 'select count(*) from audit';
create function dynamic() returns bigint stable language plpgsql as $$ declare n bigint; begin execute 'select count(*) from ' || 'plain' into n; return n; end $$;
create function pure(x int) returns int immutable language sql as 'select x + 1';
create function pure(x text) returns bigint stable language sql as 'select count(*) from rule_log';
create function cleans() returns void language sql as 'truncate plain cascade';
create function sleeps() returns void language sql as 'select pg_sleep(1)';
create function xml() returns xml stable language sql as $$ select query_to_xml('select 1', true, true, '') $$;
create function with_default(n bigint default reads_plain()) returns bigint immutable language sql as 'select n';
create function large(x oid) returns int language sql as 'select lo_unlink(x)';
create sequence seq;
create function numbered() returns bigint language sql as $$ select nextval('seq') $$;

create table computed(i int, n bigint generated always as (pure(1)) stored);
create table checked(i bigint check (i > calls()));
create table indexed(i int); create index on indexed (pure(i));
create table guarded(i int); alter table guarded enable row level security;
create policy p on guarded using (exists (select from rule_log where rule_log.i = guarded.i));
create domain positive as int check (value > pure(0));
create table typed(p positive);
create function op(int, int) returns boolean stable language sql as 'select exists (select from mat where i = $1)';
create operator ~~~~ (leftarg = int, rightarg = int, function = op);
create function agg_step(int, int) returns int immutable language sql as 'select $1 + (select count(*)::int from ruled)';
create aggregate agg(int) (sfunc = agg_step, stype = int);
