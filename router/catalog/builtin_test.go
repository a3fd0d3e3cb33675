package catalog

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// TestBuiltinText holds builtin.txt to the server at hand: it must know all of its
// objects, and know nothing better than they are.
func TestBuiltinText(t *testing.T) {
	c := pgtest.Shared(t)
	s := load(t, connect(t, c.Primary, c.Database(t), pgtest.Superuser), LoadOptions{anyVersion: true})
	want, err := parseBuiltin(builtinText)
	if err != nil {
		t.Fatal(err)
	}
	for kind, table := range s.tables() {
		for _, e := range table.entries {
			if table.schemas[e.schema] == "public" {
				continue
			}
			want[kind] = append(want[kind], named{table.schemas[e.schema], table.name(e), table.facts[e.fact]})
		}
	}
	joined := &Snapshot{}
	for kind, table := range joined.tables() {
		*table = newNameTable(slices.Clone(want[kind]))
	}
	text := formatBuiltin(joined)
	if *update {
		if err := os.WriteFile("builtin.txt", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if text != builtinText {
		t.Error("builtin.txt does not hold all of this server; run with -update and look at the difference")
	}
}

func TestBuiltin(t *testing.T) {
	s := Builtin()
	if s.Loaded() || s.Functions() < 2500 || s.Relations() < 200 {
		t.Fatalf("loaded %v, %d functions, %d relations", s.Loaded(), s.Functions(), s.Relations())
	}
	good := Fact{Known: true, Replica: true, Clean: true}
	for _, name := range []string{
		"now", "lower", "count", "sum", "json_agg", "coalesce_is_no_function", "random", "uuidv7", "current_setting", "age",
		"to_tsvector", "generate_series", "row_number", "pg_sleep", "array_shuffle", "lo_get", "pg_get_viewdef",
	} {
		if got := s.Function("", name); got != good && name != "coalesce_is_no_function" || got.Known && name == "coalesce_is_no_function" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for name, why := range map[string]string{
		"nextval": "sequence", "txid_current": "transaction ids", "pg_current_xact_id": "transaction ids",
		"pg_backend_pid": "tells which server or connection it is", "pg_stat_get_numscans": "statistics or state of one server",
		"pg_read_file": "files of one server", "query_to_xml": "runs what the statement does not show",
		"pg_advisory_xact_lock": "lock", "pg_notify": "notifies", "pg_stat_reset_slru": "acts on one server",
	} {
		if got := s.Function("pg_catalog", name); got.Replica || got.Why != why {
			t.Errorf("%s: %+v, want %q", name, got, why)
		}
	}
	for name, clean := range map[string]bool{
		"set_config": false, "setseed": false, "pg_advisory_lock": false, "pg_advisory_unlock_all": false, "currval": false,
		"lastval": false, "nextval": true, "setval": true, "pg_advisory_xact_lock": true, "pg_notify": true,
		"ts_stat": false, "table_to_xml": false, "pg_backup_start": false, "lo_create": true,
	} {
		if got := s.Function("", name); got.Clean != clean {
			t.Errorf("%s: %+v, want clean %v", name, got, clean)
		}
	}
	for _, name := range []string{"=", "+", "||", "->>", "@>", "~~"} {
		if got := s.Operator("", name); got != good {
			t.Errorf("operator %s: %+v", name, got)
		}
	}
	for _, name := range []string{"int4", "text", "jsonb", "_int4", "regclass", "timestamptz", "numeric"} {
		if got := s.Type("", name); got != good {
			t.Errorf("type %s: %+v", name, got)
		}
	}
	testSystemRelations(t, s)
}

func testSystemRelations(t *testing.T, s *Snapshot) {
	for _, name := range []string{
		"pg_class", "pg_attribute", "pg_tables", "pg_indexes", "pg_views", "pg_roles", "pg_stats", "pg_timezone_names",
	} {
		if got := s.Relation("", name); !got.Known || !got.Replica || !got.Clean {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, e := range s.relations.entries {
		if schema, name := s.relations.schemas[e.schema], s.relations.name(e); schema == "information_schema" {
			if got := s.Relation(schema, name); !got.Replica || !got.Clean {
				t.Errorf("information_schema.%s: %+v", name, got)
			}
		}
	}
	for _, name := range []string{
		"pg_stat_activity", "pg_stat_user_tables", "pg_locks", "pg_settings", "pg_prepared_xacts", "pg_cursors",
		"pg_prepared_statements", "pg_replication_slots", "pg_stat_replication", "pg_sequences", "pg_file_settings",
	} {
		if got := s.Relation("pg_catalog", name); !got.Known || got.Replica || got.Why == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// formatBuiltin is the inverse of parseBuiltin.
func formatBuiltin(s *Snapshot) string {
	var b strings.Builder
	b.WriteString("# Generated; see builtin.go. kind (f o t r), flags (r replica, c clean, w write clean), schema, name, why.\n")
	tables := s.tables()
	for _, kind := range []string{"f", "o", "t", "r"} {
		t := tables[kind]
		for _, e := range t.entries {
			r := t.facts[e.fact]
			line := fmt.Sprintf("%s %s %s %s %s", kind, flags(r), t.schemas[e.schema], t.name(e), r.Why)
			b.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	return b.String()
}

func flags(r Relation) string {
	b := []byte("---")
	for i, set := range []bool{r.Replica, r.Clean, r.WriteClean} {
		if set {
			b[i] = "rcw"[i]
		}
	}
	return string(b)
}
