package catalog

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// samples are arguments for types that have one which most functions accept.
const samples = `(VALUES ('int2','1'), ('int4','1'), ('int8','1'), ('float4','1'), ('float8','1'), ('numeric','1'),
 ('bool','true'), ('text','''a'''), ('varchar','''a'''), ('bpchar','''a'''), ('name','''a'''), ('bytea','''a'''),
 ('date','''2024-02-29'''), ('time','''12:00'''), ('timetz','''12:00+00'''), ('timestamp','''2024-02-29'''),
 ('timestamptz','''2024-02-29'''), ('interval','''1 ms'''), ('json','''{}'''), ('jsonb','''{}'''), ('uuid','''00000000-0000-4000-8000-000000000000'''),
 ('oid','1259'), ('regclass','''pg_class'''), ('regtype','''int4'''), ('regproc','''now'''), ('regrole','''postgres'''),
 ('regnamespace','''public'''), ('inet','''10.0.0.1'''), ('cidr','''10.0.0.0/8'''), ('macaddr','''08:00:2b:01:02:03'''),
 ('point','''(1,1)'''), ('box','''(1,1),(0,0)'''), ('circle','''<(1,1),1>'''), ('tsvector','''a'''), ('tsquery','''a'''),
 ('xml','''<a/>'''), ('char','''a'''), ('bit','B''1'''), ('varbit','B''1'''), ('money','1'), ('pg_lsn','''0/1'''),
 ('xid','''1'''), ('xid8','''1'''), ('tid','''(0,1)'''), ('int4range','''[1,2)'''), ('numrange','''[1,2)'''), ('tstzrange','''empty'''),
 ('_int4','''{1}'''), ('_text','''{a}'''), ('anyelement','1'), ('anyarray','ARRAY[1]'), ('any','1'), ('anycompatible','1'),
 ('anycompatiblearray','ARRAY[1]'), ('jsonpath','''$'''), ('cid','''1'''), ('regconfig','''simple''')) s(typ, arg)`

// callsQuery makes a call of every built-in function all of whose arguments have a sample.
const callsQuery = `
SELECT p.proname, pg_catalog.format('SELECT count(x) FROM (SELECT pg_catalog.%I(%s) OFFSET 0) AS q(x)', p.proname,
  COALESCE((SELECT string_agg(CASE WHEN t.typname LIKE 'any%' THEN s.arg ELSE s.arg || '::pg_catalog.' || quote_ident(t.typname) END, ', ' ORDER BY a.n)
    FROM unnest(p.proargtypes) WITH ORDINALITY a(typ, n) JOIN pg_type t ON t.oid = a.typ JOIN ` + samples + ` ON s.typ = t.typname), ''))
  FROM pg_proc p
 WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0 AND NOT p.proretset
   AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) a(typ) JOIN pg_type t ON t.oid = a.typ
     WHERE NOT EXISTS (SELECT FROM ` + samples + ` WHERE s.typ = t.typname))
 ORDER BY 1, 2`

// refusals is what a standby says to what it cannot run.
func refused(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return strings.Contains(text, "25006") || strings.Contains(text, "recovery") || strings.Contains(text, "XX000") &&
		strings.Contains(text, "standby")
}

// TestStandbyAgrees runs on a standby every built-in function that the facts allow
// there and that can be called with plain arguments: none may be refused for the
// standby's sake. And it runs the state list: each is proof that the list is needed.
func TestStandbyAgrees(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	ctx := t.Context()
	q := connect(t, c.Replicas[0], db, pgtest.Superuser)
	s := load(t, q, LoadOptions{})
	calls := map[string]string{} // SQL to function
	if err := q(ctx, callsQuery, func(v [][]byte) error {
		calls[string(v[1])] = string(v[0])
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, c.Replicas[0].ConnString(db, pgtest.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(ctx, "set statement_timeout = '10s'"); err != nil {
		t.Fatal(err)
	}
	ran, good, refusals := 0, map[string]bool{}, 0
	for sql, name := range calls {
		fact := s.Function("pg_catalog", name)
		if !fact.Replica && !standbyRefuses[name] {
			continue // it may do anything: end the server, say
		}
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		switch {
		case fact.Replica && refused(err):
			t.Errorf("%s: the standby refuses it: %v", sql, err)
		case !fact.Replica && !refused(err):
			t.Errorf("%s: the standby should refuse it: %v", sql, err)
		case !fact.Replica:
			refusals++
		}
		ran++
		if err == nil {
			good[name] = true
		}
	}
	if ran < 1500 || len(good) < 1000 || refusals < 3 {
		t.Errorf("%d functions ran, %d names well, %d were refused: too few to prove anything", ran, len(good), refusals)
	}
	testHarmless(t, conn, s)
}

// standbyRefuses are functions known to be refused, to show that the test sees it.
var standbyRefuses = map[string]bool{
	"txid_current": true, "pg_current_xact_id": true, "lo_create": true, "pg_notify": true,
}

// testHarmless runs every volatile function on the harmless list that SQL can call.
func testHarmless(t *testing.T, conn *pgx.Conn, s *Snapshot) {
	t.Helper()
	arguments := map[string]string{
		"pg_sleep": "0", "pg_sleep_for": "'0 s'", "pg_sleep_until": "now()", "array_shuffle": "array[1,2]",
		"array_sample": "array[1,2], 1", "amvalidate": "(select min(oid) from pg_opclass)", "pg_partition_ancestors": "'pg_class'",
		"pg_partition_tree": "'pg_class'", "lo_get": "0",
	}
	for name, reason := range known.harmless[""].exact {
		if reason == "support function" || !s.Function("pg_catalog", name).Known {
			continue // or of a newer PostgreSQL
		}
		_, err := conn.Exec(t.Context(), fmt.Sprintf("select * from pg_catalog.%s(%s)", name, arguments[name]))
		if err != nil && (name != "lo_get" || !strings.Contains(err.Error(), "42704")) { // no such large object
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestViewsOnStandby reads every system relation that the facts allow there.
func TestViewsOnStandby(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	q := connect(t, c.Replicas[0], db, pgtest.Superuser)
	s := load(t, q, LoadOptions{})
	for _, e := range s.relations.entries {
		schema, name := s.relations.schemas[e.schema], s.relations.name(e)
		if !s.Relation(schema, name).Replica {
			continue
		}
		if err := c.Replicas[0].Exec(t.Context(), db, fmt.Sprintf("select * from %q.%q limit 5", schema, name)); err != nil {
			t.Errorf("%s.%s: %v", schema, name, err)
		}
	}
}
