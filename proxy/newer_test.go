package proxy_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/config"
)

// TestNewerGrammar: what the parser does not know runs on the primary as on PostgreSQL, and
// ties the session to its connection only if something in it may leave what cannot be asked. An
// older server refuses it in its own words; make test plays it with PostgreSQL 18, too.
func TestNewerGrammar(t *testing.T) {
	t.Parallel()
	const setup = items + `create extension btree_gist; create table j (id int primary key, v int, n text);
		create function f_dynamic(q text) returns void language plpgsql as $$ begin execute q; end $$;
		create table audited (a int); create function f_audit() returns trigger language plpgsql as $$ begin perform set_config('app.a', 'trigger', false); return new; end $$;
		create trigger a before insert on audited for each row execute function f_audit();`
	look := "\nQ select current_setting('app.a', true), current_setting('work_mem')\n@b\nQ select current_setting('app.a', true) from items limit 1"
	var all []story
	for name, steps := range newerGrammar {
		all = append(all, story{name: name, steps: "Q " + strings.ReplaceAll(steps, "\n", "\nQ ") + look})
	}
	slices.SortFunc(all, func(a, b story) int { return strings.Compare(a.name, b.name) })
	stage{setup: setup}.tell(t, all...)
}

// newerGrammar are statements of PostgreSQL 17 and 18 that the parser refuses.
var newerGrammar = map[string]string{
	"json_table":          "select * from json_table('[{\"a\": 1}, {\"a\": 2}]'::jsonb, '$[*]' columns (a int path '$.a')) order by 1",
	"json_table, nested":  "select * from json_table('[{\"a\": [1, 2]}]'::jsonb, '$[*]' columns (n for ordinality, nested path '$.a[*]' columns (b int path '$'))) order by 2",
	"json_value":          "select json_value('{\"a\": 1}'::jsonb, '$.a' returning int default 0 on empty), json_exists('{}'::jsonb, '$.a'), json_query('[1]'::jsonb, '$' with wrapper)",
	"merge returning":     "insert into j values (1, 1)\nmerge into j using (values (1, 2), (2, 3)) s (id, v) on j.id = s.id when matched then update set v = s.v when not matched then insert values (s.id, s.v) returning merge_action(), j.id, j.v\ndelete from j",
	"merge, by source":    "insert into j values (1, 1)\nmerge into j using (values (2)) s (id) on j.id = s.id when not matched by source then delete",
	"returning old, new":  "insert into j values (1, 1) on conflict (id) do update set v = excluded.v returning with (old as o, new as n) o.v, n.v\nupdate j set v = 5 returning old.v, new.v\ndelete from j returning old.v",
	"virtual columns":     "create table vc (a int, b int generated always as (a * 2) virtual)\ninsert into vc values (4)\nselect b from vc\ndrop table vc",
	"temporal keys":       "create table tk (id int, during daterange, primary key (id, during without overlaps))\ninsert into tk values (1, '[2020-01-01,2021-01-01)')\nselect count(*) from tk\ndrop table tk",
	"not enforced":        "create table ne (a int, constraint c check (a > 0) not enforced)\nalter table ne add constraint d check (a > 1) not enforced\ninsert into ne values (-1)\ndrop table ne",
	"set expression":      "create table se (a int, b int generated always as (a + 1) stored)\nalter table se alter column b set expression as (a + 2)\ndrop table se",
	"copy on_error":       "copy items to stdout with (format csv, force_quote *)",
	"temporary":           "create temp table tv (a int, b int generated always as (a * 2) virtual)\ninsert into tv values (3)\nselect b from tv\ndrop table tv",
	"sets":                "select set_config('app.a', '7', false), a from json_table('[1]'::jsonb, '$[*]' columns (a int path '$'))",
	"sets in a function":  "select f_set('app.a', '8', false), a from json_table('[1]'::jsonb, '$[*]' columns (a int path '$'))",
	"sets dynamically":    "select f_dynamic('set work_mem = ''3MB'''), a from json_table('[1]'::jsonb, '$[*]' columns (a int path '$'))",
	"sets by a trigger":   "merge into audited using (values (1)) s (a) on false when not matched then insert values (s.a) returning a",
	"lock":                "select pg_advisory_lock(7), a from json_table('[1]'::jsonb, '$[*]' columns (a int path '$'))\nselect pg_advisory_unlock(7)",
	"in a string":         "set app.a = '1' ;; select a from json_table('[1]'::jsonb, '$[*]' columns (a int path '$')) ;; insert into w values (1)",
	"in a block":          "begin ;; set app.a = '2' ;; select a from json_table('[1]'::jsonb, '$[*]' columns (a int path '$')) ;; rollback",
	"no grammar":          "selec 1\nselect * from json_table(",
	"fails when it runs":  "select 1/a from json_table('[0]'::jsonb, '$[*]' columns (a int path '$'))",
	"of a table not seen": "select * from nowhere, json_table('[0]'::jsonb, '$[*]' columns (a int path '$'))",
}

// TestNewerGrammarPins: only what nobody sees through keeps its connection, even if an older
// server refuses it: an error may come from within. What is refused makes no temporary table.
func TestNewerGrammarPins(t *testing.T) {
	database := newDatabase(t, items+`create function f_dynamic(q text) returns void language plpgsql as $$ begin execute q; end $$;`)
	s := start(t, eventual)
	c := trace(t, s, database)
	major, _ := strconv.Atoi(shared(t).Primary.Version)
	for _, step := range []struct {
		sql string
		pin bool
	}{
		{"select * from items, json_table('[1]'::jsonb, '$[*]' columns (a int path '$'))", false},
		{"update items set v = 'y' where id = 1 returning old.v, new.v", false},
		{"create table vc (a int, b int generated always as (a * 2) virtual)", false},
		{"insert into vc values (1) returning old.a, new.a", false},
		{"alter table vc add constraint d check (a > 1) not enforced", false},
		{"create temp table tv (a int, b int generated always as (a * 2) virtual)", true},
		{"drop table tv", false},
		{"select f_dynamic('select 1'), a from json_table('[1]'::jsonb, '$[*]' columns (a int path '$'))", true},
	} {
		if got := c.told(step.sql); len(got) != 1 || !strings.HasPrefix(got[0], "primary") {
			t.Errorf("%s: %v", step.sql, got)
		}
		if strings.HasPrefix(step.sql, "drop") {
			c.told("select count(*) from items") // behind which it is asked what is left
		}
		if where := c.told("select count(*) from items"); slices.Equal(where, []string{"primary pinned"}) != (step.pin && (major >= 18 || !strings.HasPrefix(step.sql, "create"))) {
			t.Errorf("%s: then %v", step.sql, where)
		}
	}
}

// TestNewerGrammarIsAudited: a tenant table that a statement names without its column lacks
// its filter, one named with it is unparsed, and both are refused unless a rule says otherwise.
func TestNewerGrammarIsAudited(t *testing.T) {
	database := newDatabase(t, tenantTables+"; create view seen as select id, state from bare; create view free as select id from countries")
	const table = "json_table('[1]'::jsonb, '$[*]' columns (a int path '$'))"
	for _, c := range []struct {
		sql, refused string // by mode reject
	}{
		{"select * from bare, " + table, "does not filter"},
		{"select * from seen, " + table, "does not filter"},
		{"select * from bare, " + table + " where tenant_id = 1", "is not known"},
		{"update bare set state = 'x' where tenant_id = 1 returning with (old as o) o.state", ""},
		{"select * from " + table, ""},
		{"select * from free, " + table, ""},
		{"select * from bare, " + table + " /* pgweir:cross-tenant reason=report */", ""},
		{`select * from U&"b\0061re", ` + table, "does not filter"},
	} {
		for _, allowed := range []bool{false, true} {
			a := startAudit(t, mode("reject"), func(cfg *config.Config) {
				if allowed {
					cfg.Tenant.Audit.Rules = []config.AuditRule{{Mode: "log", Kind: "unparsed"}}
				}
			})
			want := c.refused
			if allowed && want == "is not known" {
				want = ""
			}
			if strings.HasPrefix(c.sql, "update") {
				want = map[bool]string{false: "is not known", true: ""}[allowed]
			}
			_, err := a.connect(t, database).Exec(t.Context(), c.sql)
			got := ""
			if err != nil && strings.Contains(err.Error(), "42501") {
				got = err.Error()
			}
			if (want == "") != (got == "") || !strings.Contains(got, want) {
				t.Errorf("%s (allowed: %t): %v, want %q", c.sql, allowed, err, want)
			}
		}
	}
}
