package simpg

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// catalogTable is a system catalog or view that statements may read: those of its columns
// that tests need.
type catalogTable struct {
	fields []field
	rows   func(se *session, st *state, each func(r ...datum))
}

// fieldsOf are columns, by names, each with the number that it has in PostgreSQL where
// that is not the place here, and types.
func fieldsOf(namesAndTypes ...any) (fields []field) {
	for i := 0; i < len(namesAndTypes); i += 2 {
		name, at, ok := strings.Cut(namesAndTypes[i].(string), " ")
		n := int64(i/2 + 1)
		if ok {
			n, _ = strconv.ParseInt(at, 10, 16)
		}
		fields = append(fields, field{name: name, typ: namesAndTypes[i+1].(uint32), num: int16(n)})
	}
	return fields
}

var catalogTables map[string]catalogTable

func init() { // they refer to what refers to them
	catalogTables = map[string]catalogTable{
		"pg_settings":            {fieldsOf("name", typText, "setting", typText, "context 7", typText, "source 9", typText, "boot_val 13", typText, "reset_val 14", typText), settingsRows},
		"pg_class":               {fieldsOf("oid", typOID, "relname", typName, "relnamespace", typOID, "relkind 17", typChar, "relpersistence 16", typChar), classRows},
		"pg_proc":                {fieldsOf("oid", typOID, "proname", typName, "pronamespace", typOID), procRows},
		"pg_type":                {fieldsOf("oid", typOID, "typname", typName, "typnamespace", typOID), typeRows},
		"pg_locks":               {fieldsOf("locktype", typText, "pid 12", typInt4, "granted 14", typBool), lockRows},
		"pg_cursors":             {fieldsOf("name", typText, "statement", typText, "is_holdable", typBool), cursorRows},
		"pg_prepared_statements": {fieldsOf("name", typText, "statement", typText, "from_sql 5", typBool), preparedRows},
		"pg_stat_activity": {fieldsOf("pid", typInt4, "datname", typName, "usename", typName, "application_name", typText, "state", typText,
			"backend_start", typTimestamp, "backend_type", typText), activityRows},
		"pg_roles":     {fieldsOf("oid", typOID, "rolname", typName, "rolsuper", typBool, "rolcanlogin", typBool, "rolbypassrls", typBool), roleRows},
		"pg_shadow":    {fieldsOf("usename", typName, "passwd", typText, "valuntil", typTimestamp), shadowRows},
		"pg_database":  {fieldsOf("oid", typOID, "datname", typName), databaseRows},
		"pg_depend":    {fieldsOf("classid", typOID, "objid", typOID, "objsubid", typInt4, "refclassid", typOID, "refobjid", typOID, "refobjsubid", typInt4, "deptype", typChar), dependRows},
		"pg_namespace": {fieldsOf("oid", typOID, "nspname", typName), namespaceRows},
	}
}

// catalog is a system catalog as a source; nil is that there is none of the name.
func (a *analysis) catalog(v *pg.RangeVar) *source {
	t, ok := catalogTables[v.Relname]
	if !ok || v.Schemaname != "" && v.Schemaname != "pg_catalog" {
		return nil
	}
	se := a.se
	s := &source{run: func(e *env, each func([]datum) bool) {
		var rows [][]datum
		t.rows(se, e.st, func(r ...datum) { rows = append(rows, r) })
		for _, r := range rows {
			if !each(r) {
				return
			}
		}
	}}
	fields := slices.Clone(t.fields)
	for i := range fields {
		fields[i].table = relationOID(v.Relname)
	}
	s.name(fields, v.Alias, v.Relname)
	return s
}

// relationOID is the OID of a relation that PostgreSQL was born with.
func relationOID(name string) uint32 {
	for _, r := range born()["relations"] {
		if r[2] == name {
			n, _ := strconv.ParseUint(r[0].(string), 10, 32)
			return uint32(n)
		}
	}
	return 0
}

// bareSettings are the rows of pg_settings where nobody has set anything.
var bareSettings = func() (rows [][]datum) {
	for _, low := range slices.Sorted(maps.Keys(gucs)) {
		if g := gucs[low]; !slices.Contains([]string{"role", "session_authorization", "is_superuser"}, low) { // GUC_NO_SHOW_ALL
			rows = append(rows, []datum{g.name, g.plain(g.boot), g.context, "default", g.boot, g.boot})
		}
	}
	return rows
}()

func settingsRows(se *session, _ *state, each func(r ...datum)) {
	for _, row := range bareSettings {
		low := strings.ToLower(row[0].(string))
		g, boot := gucs[low], row[4].(string)
		if low == "client_encoding" {
			boot = "SQL_ASCII"
		}
		source, reset := "default", boot
		if v, ok := se.set.conf[low]; ok {
			source, reset = "configuration file", g.plain(v)
		}
		if v, ok := se.set.began[low]; ok {
			source, reset = cmp.Or(se.set.source[low], "client"), g.plain(v)
		}
		if _, ok := se.set.now[low]; ok {
			source = "session"
		}
		if shown := se.shown(low); source != "default" || shown != g.boot || boot != g.boot {
			row = []datum{g.name, g.plain(shown), g.context, source, boot, reset}
		}
		each(row...)
	}
}

// namespace is the OID of a schema.
func namespace(d *database, name string) datum {
	switch name {
	case "pg_catalog":
		return int64(11)
	case "public":
		return int64(2200)
	}
	var pid int64
	for _, c := range name[min(len(name), len("pg_temp_")):] {
		pid = pid*10 + int64(c-'0')
	}
	if len(name) > 8 && name[:8] == "pg_temp_" {
		return pid
	}
	return int64(30000 + slices.Index(slices.Sorted(maps.Keys(d.schemas)), name))
}

func classRows(se *session, st *state, each func(r ...datum)) {
	d := st.databases[se.database]
	for _, k := range slices.Sorted(maps.Keys(d.relations)) {
		r := d.relations[k]
		persistence := "p"
		if len(r.schema) > 8 && r.schema[:8] == "pg_temp_" {
			persistence = "t"
		}
		each(int64(r.oid), r.name, namespace(d, r.schema), string(rune(r.kind)), persistence)
	}
}

func procRows(se *session, st *state, each func(r ...datum)) {
	d := st.databases[se.database]
	for _, k := range slices.Sorted(maps.Keys(d.functions)) {
		f := d.functions[k]
		each(int64(f.oid), f.name, namespace(d, f.schema))
	}
}

func typeRows(se *session, st *state, each func(r ...datum)) {
	for _, oid := range slices.Sorted(maps.Keys(types)) {
		each(int64(oid), infoOf(oid).name, int64(11))
	}
	d := st.databases[se.database]
	for _, name := range slices.Sorted(maps.Keys(d.types)) {
		each(int64(d.types[name]), name, int64(2200))
	}
}

func lockRows(se *session, _ *state, each func(r ...datum)) {
	for _, o := range se.server.sessions {
		for _, l := range se.server.advisory {
			if l.holders[o] != nil {
				each("advisory", int64(o.pid), true)
			}
		}
	}
}

func cursorRows(se *session, _ *state, each func(r ...datum)) {
	for _, name := range slices.Sorted(maps.Keys(se.names.portals)) {
		if p := se.names.portals[name]; name != "" || p.cursor {
			each(name, p.text, p.hold)
		}
	}
}

func preparedRows(se *session, _ *state, each func(r ...datum)) {
	for _, name := range slices.Sorted(maps.Keys(se.names.statements)) {
		if p := se.names.statements[name]; name != "" {
			each(name, p.text, p.bySQL)
		}
	}
}

func activityRows(se *session, _ *state, each func(r ...datum)) {
	for _, o := range se.server.sessions {
		state := "idle"
		switch {
		case o.busy:
			state = "active"
		case o.tx.block == 'T':
			state = "idle in transaction"
		case o.tx.block == 'E':
			state = "idle in transaction (aborted)"
		}
		each(int64(o.pid), o.database, o.user, o.set.is("application_name"), state, o.began, "client backend")
	}
}

func roleRows(_ *session, st *state, each func(r ...datum)) {
	for _, name := range slices.Sorted(maps.Keys(st.roles)) {
		r := st.roles[name]
		each(int64(r.oid), name, r.super, r.login, r.bypassRLS)
	}
}

func databaseRows(_ *session, st *state, each func(r ...datum)) {
	for _, name := range slices.Sorted(maps.Keys(st.databases)) {
		each(int64(st.databases[name].oid), name)
	}
}

func namespaceRows(se *session, st *state, each func(r ...datum)) {
	d := st.databases[se.database]
	for _, name := range slices.Sorted(maps.Keys(d.schemas)) {
		each(namespace(d, name), name)
	}
}

// dependRows are what depends on schemas.
func dependRows(se *session, st *state, each func(r ...datum)) {
	d := st.databases[se.database]
	on := func(catalog string, oid uint32, schema string) {
		each(int64(relationOID(catalog)), int64(oid), int64(0), int64(relationOID("pg_namespace")), namespace(d, schema), int64(0), "n")
	}
	for _, k := range slices.Sorted(maps.Keys(d.relations)) {
		on("pg_class", d.relations[k].oid, d.relations[k].schema)
	}
	for _, k := range slices.Sorted(maps.Keys(d.functions)) {
		on("pg_proc", d.functions[k].oid, d.functions[k].schema)
	}
}

func shadowRows(se *session, st *state, each func(r ...datum)) {
	if !se.super() {
		raise("42501", "permission denied for view pg_shadow")
	}
	for _, name := range slices.Sorted(maps.Keys(st.roles)) {
		if r := st.roles[name]; r.login {
			var secret datum
			if r.secret != "" {
				secret = r.secret
			}
			each(name, secret, nil)
		}
	}
}
