package catalog

import "strings"

// All that is asked of a database. Every query is one pass over a catalog, needs
// no privilege, names nothing through search_path, uses no backslash and
// answers the same on a standby.
//
// Dependencies come from the stored expression trees, not from pg_depend, which
// leaves out everything PostgreSQL was born with. refs turns a tree into the text
// "funcid 1371,relid 12073": each OID of a function that it calls (funcid;
// opfuncid by an operator; aggfnoid, winfnoid), relation that it reads (relid)
// and type that it casts to (resulttype, typid), and its kinds of command.
//
// OIDs below 16384 are those of objects made by initdb. Temporary objects are
// left out everywhere: other sessions come and go with theirs.

// maxTree bounds the trees and sources that are looked into, in bytes: whoever owns a table
// can make larger ones, and what reads the catalog serves everybody. Of a value of type text
// octet_length reads nothing but its header.
const maxTree = "2097152"

// refs is the SQL that finds the references in trees; of ones too large it is "large 1".
func refs(trees ...string) string {
	var texts, sizes []string
	for _, t := range trees {
		texts = append(texts, t+"::pg_catalog.text")
		sizes = append(sizes, large(t))
	}
	return `CASE WHEN ` + strings.Join(sizes, " OR ") + ` THEN 'large 1' ELSE (SELECT pg_catalog.string_agg(DISTINCT m[1] || ' ' || m[2], ',')
  FROM pg_catalog.regexp_matches(pg_catalog.concat(` + strings.Join(texts, ", ") + `),
    ':(funcid|opfuncid|aggfnoid|winfnoid|relid|resulttype|typid|commandType) ([0-9]+)', 'g') m WHERE m[2] <> '0') END`
}

// large is the SQL that tells whether a tree, or NULL, is too large.
func large(tree string) string {
	return "COALESCE(pg_catalog.octet_length(" + tree + "::pg_catalog.text) > " + maxTree + ", false)"
}

// notTemporary keeps a schema n's temporary objects out.
const notTemporary = `n.nspname !~ '^pg_(toast_)?temp_'`

// fingerprintQuery tells whether anything below can have changed, part by part: it hashes
// where and by which transaction each row was written. It reads no large value. Columns: the
// part's name, its fingerprint.
var fingerprintQuery = func() string {
	parts := []string{"SELECT 'base', pg_catalog.concat(pg_catalog.current_database(), ' ', pg_catalog.current_setting('server_version_num'))"}
	add := func(name, from, where string) { parts = append(parts, fingerprintOf(name, from, where)) }
	for _, name := range []string{
		"pg_aggregate", "pg_operator", "pg_cast", "pg_namespace", "pg_inherits", "pg_extension",
		"pg_trigger", "pg_policy", "pg_constraint", "pg_amproc", "pg_amop", "pg_range", "pg_partitioned_table",
		"pg_event_trigger", "pg_language", "pg_foreign_data_wrapper",
	} {
		add(name, "pg_catalog."+name+" x", "")
	}
	of := func(catalog, column string) string {
		return "pg_catalog." + catalog + " x JOIN pg_catalog.pg_class c ON c.oid = x." + column
	}
	const class = "x.relpersistence <> 't' AND x.relkind "
	add("relations", "pg_catalog.pg_class x", class+"IN ('r','p','v','m','f','S')")
	add("composites", "pg_catalog.pg_class x", class+"= 'c'")
	add("functions", "pg_catalog.pg_proc x", userRows)
	add("builtin_functions", "pg_catalog.pg_proc x", builtinRows)
	add("rules", of("pg_rewrite", "ev_class"), "c.relpersistence <> 't' AND "+userRows)
	add("builtin_rules", of("pg_rewrite", "ev_class"), builtinRows)
	add("defaults", of("pg_attrdef", "adrelid"), "c.relpersistence <> 't'")
	add("indexes", of("pg_index", "indexrelid"), "c.relpersistence <> 't' AND (x.indexprs IS NOT NULL OR x.indpred IS NOT NULL)")
	add("statistics", of("pg_statistic_ext", "stxrelid"), "c.relpersistence <> 't' AND x.stxexprs IS NOT NULL")
	add("types", "pg_catalog.pg_type x", "x.typtype <> 'c' AND x.typcategory <> 'A'")
	// A column may get another type without a change of its table's row.
	add("columns", of("pg_attribute", "attrelid"), "x.atttypid >= 16384 AND x.attnum > 0 AND c.relpersistence <> 't'")
	return strings.Join(parts, "\nUNION ALL ")
}()

// builtinRows and userRows divide the objects x made by initdb from those of users: the former hardly
// ever change.
const (
	builtinRows = "x.oid < 16384"
	userRows    = "x.oid >= 16384"
)

func fingerprintOf(name, from, where string) string {
	if where != "" {
		where = " WHERE " + where
	}
	return `SELECT '` + name + `', pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.bit_xor(pg_catalog.hashtextextended(
  pg_catalog.concat(x.ctid, x.xmin, x.cmin), 0))) FROM ` + from + where
}

// settingsQuery: role (” is all), whether for this database only, name=value; and,
// with a NULL role, settings of the server, known only while nothing nearer to
// the session hides them.
const settingsQuery = `
SELECT COALESCE(r.rolname, ''), s.setdatabase <> 0, c.config
  FROM pg_catalog.pg_db_role_setting s
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole,
  pg_catalog.unnest(s.setconfig) c(config)
 WHERE (s.setrole = 0 OR r.oid IS NOT NULL)
   AND (s.setdatabase = 0 OR s.setdatabase =
        (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
UNION ALL
SELECT NULL, false, name || '=' || reset_val
  FROM pg_catalog.pg_settings
 WHERE name IN ('default_transaction_isolation', 'default_transaction_read_only', 'search_path', 'standard_conforming_strings',
  'idle_session_timeout', 'idle_in_transaction_session_timeout')
   AND source IN ('default', 'environment variable', 'configuration file', 'command line')`

// functionsQuery: oid, schema, name, volatility (what may open a cursor is volatile), kind, language, extension, source
// (LANGUAGE sql and plpgsql), references of a parsed body, of default arguments,
// the built-in functions that a LANGUAGE internal function of a user is, and the names
// in its own SET clause. Of PostgreSQL's own or of users.
func functionsQuery(of string) string {
	return `
SELECT x.oid, n.nspname, x.proname,
  CASE WHEN 'pg_catalog.refcursor'::pg_catalog.regtype::pg_catalog.oid IN (SELECT x.prorettype UNION ALL SELECT pg_catalog.unnest(x.proargtypes::pg_catalog.oid[] || x.proallargtypes))
    THEN 'v' ELSE x.provolatile END, x.prokind, l.lanname, e.extname,
  CASE WHEN x.oid >= 16384 AND x.prosqlbody IS NULL AND l.lanname IN ('sql', 'plpgsql') THEN
    CASE WHEN pg_catalog.octet_length(x.prosrc) > ` + maxTree + ` THEN 'EXECUTE too large' ELSE x.prosrc END END,
  CASE WHEN x.oid >= 16384 AND x.prosqlbody IS NOT NULL THEN ` + refs("x.prosqlbody") + ` END,
  CASE WHEN x.oid >= 16384 AND x.proargdefaults IS NOT NULL THEN ` + refs("x.proargdefaults") + ` END,
  CASE WHEN x.oid >= 16384 AND l.lanname = 'internal' THEN
    (SELECT pg_catalog.string_agg('funcid ' || b.oid, ',') FROM pg_catalog.pg_proc b
      WHERE b.oid < 16384 AND b.prolang = x.prolang AND b.prosrc = x.prosrc) END,
  (SELECT pg_catalog.string_agg(pg_catalog.split_part(c, '=', 1), ',') FROM pg_catalog.unnest(x.proconfig) c)
  FROM pg_catalog.pg_proc x
  JOIN pg_catalog.pg_namespace n ON n.oid = x.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = x.prolang
  LEFT JOIN pg_catalog.pg_depend d ON x.oid >= 16384 AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    AND d.objid = x.oid AND d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
  LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
 WHERE ` + of + ` AND ` + notTemporary + `
 ORDER BY x.oid`
}

// aggregatesQuery: aggregate, and every function behind it.
const aggregatesQuery = `
SELECT a.aggfnoid::pg_catalog.oid, f.oid
  FROM pg_catalog.pg_aggregate a, LATERAL (VALUES (a.aggtransfn::pg_catalog.oid), (a.aggfinalfn::pg_catalog.oid),
    (a.aggcombinefn::pg_catalog.oid), (a.aggserialfn::pg_catalog.oid), (a.aggdeserialfn::pg_catalog.oid),
    (a.aggmtransfn::pg_catalog.oid), (a.aggminvtransfn::pg_catalog.oid), (a.aggmfinalfn::pg_catalog.oid)) f(oid)
 WHERE f.oid <> 0`

// operatorsQuery: schema, name, function.
const operatorsQuery = `
SELECT n.nspname, o.oprname, o.oprcode::pg_catalog.oid
  FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
 WHERE ` + notTemporary + ` ORDER BY o.oid`

// typesQuery: oid, schema, name, input and modifier functions, base, element and
// range's own parts, references of a domain's default. Row types of tables, and arrays of
// them, are left out: columnsQuery brings those that matter.
var typesQuery = `
SELECT t.oid, n.nspname, t.typname, t.typinput::pg_catalog.oid, t.typmodin::pg_catalog.oid,
  t.typbasetype, CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END,
  COALESCE(r.rngsubtype, 0), COALESCE(r.rngcanonical::pg_catalog.oid, 0), COALESCE(r.rngsubdiff::pg_catalog.oid, 0),
  CASE WHEN t.typdefaultbin IS NOT NULL THEN ` + refs("t.typdefaultbin") + ` END
  FROM pg_catalog.pg_type t
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
  LEFT JOIN pg_catalog.pg_type te ON te.oid = t.typelem AND t.typcategory = 'A'
  LEFT JOIN pg_catalog.pg_class ce ON ce.oid = te.typrelid
  LEFT JOIN pg_catalog.pg_range r ON t.oid IN (r.rngtypid, r.rngmultitypid)
 WHERE (t.oid < 16384 OR ((c.oid IS NULL OR c.relkind = 'c') AND (ce.oid IS NULL OR ce.relkind = 'c')))
   AND ` + notTemporary + ` ORDER BY t.oid`

// castsQuery: target type, function, context.
const castsQuery = `
SELECT casttarget, castfunc, castcontext FROM pg_catalog.pg_cast WHERE castfunc <> 0 ORDER BY oid`

// relationsQuery: oid, schema, name, kind, persistence, row security.
const relationsQuery = `
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relrowsecurity
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
   AND ` + notTemporary + ` ORDER BY c.oid`

// columnsQuery: the row type of a relation or composite type, its schema and name,
// the relation, and the type of one of its columns, where that is a user's and may run code.
const columnsQuery = `
SELECT DISTINCT c.reltype, n.nspname, c.relname, c.oid, a.atttypid
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 WHERE t.oid >= 16384 AND t.typtype <> 'e' AND NOT a.attisdropped AND a.attnum > 0
   AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't' ORDER BY 1, 5`

// rulesQuery: relation, event ('1' is a view's definition), references. Of
// PostgreSQL's own views or of users.
func rulesQuery(of string) string {
	return `
SELECT x.ev_class, x.ev_type, ` + refs("x.ev_action", "x.ev_qual") + `
  FROM pg_catalog.pg_rewrite x JOIN pg_catalog.pg_class c ON c.oid = x.ev_class
 WHERE c.relpersistence <> 't' AND (x.ev_enabled <> 'D' OR x.ev_type = '1') AND ` + of + ` ORDER BY x.oid`
}

// defaultsQuery: relation, whether it runs on reading too (a virtual generated
// column), references. Most defaults are constants: the LIKE skips them cheaply.
var defaultsQuery = `
SELECT x.adrelid, a.attgenerated = 'v', ` + refs("x.adbin") + `
  FROM pg_catalog.pg_attrdef x
  JOIN pg_catalog.pg_class c ON c.oid = x.adrelid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = x.adrelid AND a.attnum = x.adnum
 WHERE c.relpersistence <> 't'
   AND CASE WHEN ` + large("x.adbin") + ` THEN true ELSE x.adbin::pg_catalog.text ~ ':(funcid|opfuncid|resulttype) ' END ORDER BY x.oid`

// constraintsQuery: kind, relation, domain, referenced relation, whether a change
// of the referenced row changes this relation, references.
var constraintsQuery = `
SELECT x.contype, x.conrelid, x.contypid, x.confrelid,
  x.contype = 'f' AND (x.confdeltype NOT IN ('a', 'r') OR x.confupdtype NOT IN ('a', 'r')),
  CASE WHEN x.contype = 'c' THEN ` + refs("x.conbin") + ` END
  FROM pg_catalog.pg_constraint x LEFT JOIN pg_catalog.pg_class c ON c.oid = x.conrelid
 WHERE x.contype IN ('c', 'f') AND COALESCE(c.relpersistence <> 't', true) ORDER BY x.oid`

// computedQuery: relation, references of what is computed of its rows: index expressions
// and predicates, the keys by which it or what it is a partition of is partitioned, and
// the expressions of extended statistics.
var computedQuery = `
SELECT x.indrelid, ` + refs("x.indexprs", "x.indpred") + `
  FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
 WHERE c.relpersistence <> 't' AND (x.indexprs IS NOT NULL OR x.indpred IS NOT NULL)
UNION ALL
SELECT t.relid::pg_catalog.oid, ` + refs("x.partexprs") + `
  FROM pg_catalog.pg_partitioned_table x JOIN pg_catalog.pg_class c ON c.oid = x.partrelid,
  LATERAL pg_catalog.pg_partition_tree(x.partrelid) t
 WHERE c.relpersistence <> 't' AND x.partexprs IS NOT NULL
UNION ALL
SELECT x.stxrelid, ` + refs("x.stxexprs") + `
  FROM pg_catalog.pg_statistic_ext x JOIN pg_catalog.pg_class c ON c.oid = x.stxrelid
 WHERE c.relpersistence <> 't' AND x.stxexprs IS NOT NULL ORDER BY 1, 2`

// ddlQuery: the functions that commands which change the catalog run: event triggers (but
// for those that run at login) and validators.
const hooks, ddlQuery = "event triggers", `
SELECT evtfoid FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D' AND evtevent <> 'login'
UNION SELECT fdwvalidator FROM pg_catalog.pg_foreign_data_wrapper WHERE fdwvalidator <> 0
UNION SELECT lanvalidator FROM pg_catalog.pg_language WHERE lanvalidator >= 16384 ORDER BY 1`

// policiesQuery: relation, references of USING, references of WITH CHECK.
var policiesQuery = `
SELECT x.polrelid, ` + refs("x.polqual") + `, ` + refs("x.polwithcheck") + `
  FROM pg_catalog.pg_policy x JOIN pg_catalog.pg_class c ON c.oid = x.polrelid
 WHERE c.relrowsecurity AND c.relpersistence <> 't' ORDER BY x.oid`

// triggersQuery: relation, function, references of WHEN. Built-in functions, such as
// those of foreign keys, are clean and left out.
var triggersQuery = `
SELECT x.tgrelid, x.tgfoid, ` + refs("x.tgqual") + `
  FROM pg_catalog.pg_trigger x JOIN pg_catalog.pg_class c ON c.oid = x.tgrelid
 WHERE c.relpersistence <> 't' AND (x.tgfoid >= 16384 OR x.tgqual IS NOT NULL)
   AND x.tgenabled <> 'D' ORDER BY x.oid`

// childrenQuery: parent, child; partitions too.
const childrenQuery = `
SELECT i.inhparent, i.inhrelid FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
 WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' ORDER BY 2, 1`

// implicitQuery: users' functions of operator classes, which run for ORDER BY,
// DISTINCT, GROUP BY and index scans without being named, and of implicit casts.
const implicitQuery = `
SELECT DISTINCT u.f FROM (
  SELECT amproc::pg_catalog.oid FROM pg_catalog.pg_amproc
  UNION ALL SELECT o.oprcode::pg_catalog.oid FROM pg_catalog.pg_amop a
    JOIN pg_catalog.pg_operator o ON o.oid = a.amopopr
  UNION ALL SELECT castfunc FROM pg_catalog.pg_cast WHERE castcontext IN ('i', 'a')) u(f)
  JOIN pg_catalog.pg_proc p ON p.oid = u.f
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 WHERE u.f >= 16384 AND l.lanname NOT IN ('c', 'internal') ORDER BY 1`
