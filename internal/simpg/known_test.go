package simpg

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/tenant"
)

var update = flag.Bool("update", false, "write catalog.txt anew")

// supported are the types that functions and operators may have to be part of the model.
func supported() string {
	var oids []string
	for _, oid := range slices.Sorted(maps.Keys(types)) {
		oids = append(oids, fmt.Sprint(oid))
	}
	return strings.Join(append(oids, "0", "2276", "2277", "2283", "2205", "2281", "2275"), ",")
}

// TestCatalogIsPostgreSQLs: what the model says PostgreSQL was born with is what it says itself.
func TestCatalogIsPostgreSQLs(t *testing.T) {
	c := pgtest.Shared(t)
	conn, err := pgx.Connect(t.Context(), c.Primary.ConnString(c.Database(t), pgtest.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	column := func(sql string) map[string]bool {
		rows, err := conn.Query(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		set := map[string]bool{}
		for _, s := range list {
			set[s] = true
		}
		return set
	}
	var names []string
	for name := range builtins {
		names = append(names, "'"+name+"'")
	}
	of := func(list string) string { return "(" + list + ")" }
	types, operators := of(supported()), `('=','<>','<','<=','>','>=','+','-','*','/','%','||','~~','!~~')`
	keepTypes := column("select oid::text from pg_type where oid in " + types)
	keepOperators := column("select oprcode::oid::text from pg_operator where oprname in " + operators + " and oprleft in " + types + " and oprright in " + types)
	keepCasts := column("select castfunc::text from pg_cast where castsource in " + types + " and casttarget in " + types)
	aggregates := column("select oid::text from pg_proc where prokind = 'a' and proname in ('count','sum','min','max','string_agg','array_agg','bool_and','bool_or','every') and proargtypes[0] is null or prokind = 'a' and proname in ('count','sum','min','max','string_agg','array_agg','bool_and','bool_or','every') and proargtypes[0] in " + types)
	behind := column("select unnest(array[aggtransfn::oid, aggfinalfn::oid, aggcombinefn::oid, aggserialfn::oid, aggdeserialfn::oid])::text from pg_aggregate where aggfnoid::oid::text = any ('{" + strings.Join(slices.Collect(maps.Keys(aggregates)), ",") + "}')")
	keepFunctions := column("select p.oid::text from pg_proc p where proname in (" + strings.Join(names, ",") + `,'generate_series','unnest','pg_listening_channels','pg_show_all_settings','pg_lock_status','pg_cursor','pg_prepared_statement','pg_stat_get_activity','enum_in')
 or oid in (select unnest(array[typinput::oid, typmodin::oid]) from pg_type where oid in ` + types + ")")
	for _, set := range []map[string]bool{keepOperators, keepCasts, aggregates, behind} {
		maps.Copy(keepFunctions, set)
	}
	views := map[string]bool{"pg_authid": true, "pg_db_role_setting": true}
	for name := range catalogTables {
		views[name] = true
	}
	relations := map[string]bool{}
	keep := map[string]func(v []string) bool{
		"functions":  func(v []string) bool { return keepFunctions[v[0]] },
		"aggregates": func(v []string) bool { return aggregates[v[0]] && keepFunctions[v[1]] },
		"operators":  func(v []string) bool { return keepOperators[v[2]] && strings.Contains(operators, "'"+v[1]+"'") },
		"casts":      func(v []string) bool { return keepCasts[v[1]] && keepTypes[v[0]] },
		"types":      func(v []string) bool { return keepTypes[v[0]] },
		"relations": func(v []string) bool {
			relations[v[0]] = v[1] == "pg_catalog" && views[v[2]]
			return relations[v[0]]
		},
		"rules": func(v []string) bool { return relations[v[0]] },
	}
	var out strings.Builder
	_, err = catalog.Load(t.Context(), func(ctx context.Context, sql string, row func([][]byte) error) error {
		k := known(sql)
		if k == nil {
			t.Errorf("nobody knows %s", sql)
			return nil
		}
		rows, err := conn.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			raw := rows.RawValues()
			if err := row(raw); err != nil {
				return err
			}
			line := []string{k.name}
			for _, v := range raw {
				if v == nil {
					line = append(line, `\N`)
				} else {
					line = append(line, string(v))
				}
			}
			if f := keep[k.name]; f != nil && f(line[1:]) {
				fmt.Fprintln(&out, strings.Join(line, "\t"))
			}
		}
		return rows.Err()
	}, catalog.LoadOptions{Tables: true})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("catalog.txt", []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if version := conn.PgConn().ParameterStatus("server_version"); out.String() != bornText && strings.HasPrefix(version, "15.") {
		t.Error("catalog.txt is not what PostgreSQL says: go test ./internal/simpg -run TestCatalogIsPostgreSQLs -update")
	}
}

// ask runs one query as the service does and hands over its rows.
func (c *client) ask(_ context.Context, sql string, row func([][]byte) error) error {
	c.front.Send(&pgproto3.Query{String: sql})
	c.flush()
	for {
		m, err := c.front.Receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			if err := row(m.Values); err != nil {
				return err
			}
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("%s: %s", m.Code, m.Message)
		case *pgproto3.ReadyForQuery:
			return nil
		}
	}
}

// catalogSchema is a schema with something of everything the catalog's reader looks at.
const catalogSchema = `create table items (id serial primary key, tenant text not null default current_setting('app.tenant', true), v text unique);
create table plain (a int); create view seen as select * from items where v is not null; create view sets as select set_config('app.a', 'x', false) as x;
alter table items enable row level security; alter table items force row level security;
create policy own on items using (tenant = current_setting('app.tenant', true));
create function f_sets(v text) returns text language plpgsql as $$ begin return set_config('app.a', v, false); end $$;
create function f_reads() returns bigint language sql stable as $$ select count(*) from items $$;
create function trf() returns trigger language plpgsql as $$ begin perform set_config('app.b', new.v, false); return new; end $$;
create trigger t before insert on plain for each row execute function trf();
create sequence numbers; create type mood as enum ('sad', 'ok');`

// TestCatalogLoads: what the service makes of the model's catalog is what it makes of
// PostgreSQL's.
func TestCatalogLoads(t *testing.T) {
	real := pgtest.Shared(t)
	db := real.Database(t)
	if err := real.Primary.Exec(t.Context(), db, catalogSchema); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), real.Primary.ConnString(db, pgtest.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	fromReal := func(ctx context.Context, sql string, row func([][]byte) error) error {
		rows, err := conn.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := row(rows.RawValues()); err != nil {
				return err
			}
		}
		return rows.Err()
	}
	c, err := New(Options{Setup: catalogSchema})
	if err != nil {
		t.Fatal(err)
	}
	k := dial(t, c.Primary(), nil)
	want, err := catalog.Load(t.Context(), fromReal, catalog.LoadOptions{Tables: true})
	if err != nil {
		t.Fatal(err)
	}
	got, err := catalog.Load(t.Context(), k.ask, catalog.LoadOptions{Tables: true})
	if err != nil {
		t.Fatal(err)
	}
	compare := func(what string, w, g any) {
		t.Helper()
		if a, b := fmt.Sprintf("%+v", w), fmt.Sprintf("%+v", g); a != b {
			t.Errorf("%s\nPostgreSQL: %s\nthe model:  %s", what, a, b)
		}
	}
	functions := []string{"f_sets", "f_reads", "trf", "generate_series"}
	for name := range builtins {
		functions = append(functions, name)
	}
	slices.Sort(functions)
	for _, f := range functions {
		compare("function "+f, want.Function("", f), got.Function("", f))
	}
	for _, r := range []string{"items", "plain", "seen", "sets", "numbers", "pg_settings", "pg_class", "pg_locks", "pg_stat_activity", "pg_roles", "pg_shadow", "pg_cursors", "pg_prepared_statements"} {
		compare("relation "+r, want.Relation("", r), got.Relation("", r))
	}
	for _, o := range []string{"=", "<", "||", "+"} {
		compare("operator "+o, want.Operator("", o), got.Operator("", o))
	}
	for _, y := range []string{"text", "int4", "mood", "numeric"} {
		compare("type "+y, want.Type("", y), got.Type("", y))
	}
	compare("DDL", want.DDL(), got.DDL())
	for _, ask := range []catalog.Query{fromReal, k.ask} {
		if names, err := catalog.SettingsOfPolicies(t.Context(), ask); err != nil || fmt.Sprint(names) != "[app.tenant]" {
			t.Errorf("settings of policies: %v, %v", names, err)
		}
		if _, err := tenant.LoadRoles(t.Context(), ask); err != nil {
			t.Error(err)
		}
	}
}
