package catalog

// Queries about the shape of users' tables. Lists are names separated by newlines.

// userTable restricts a class c of a schema n to what Table describes.
const userTable = `c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND c.oid >= 16384
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND ` + notTemporary

// tablesFingerprintQuery tells whether columns or indexes can have changed; what
// else Tables are made of is part of fingerprintQuery.
var tablesFingerprintQuery = fingerprintOf("table_columns", "pg_catalog.pg_attribute x", "x.attrelid >= 16384 AND x.attnum > 0 AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = x.attrelid AND c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'f'))") + "\nUNION ALL " +
	fingerprintOf("table_indexes", "pg_catalog.pg_index x", "x.indexrelid >= 16384 AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = x.indexrelid AND c.relpersistence <> 't')")

// tablesQuery: oid, schema, name, kind, owner, row security, forced, definition of a view.
var tablesQuery = `
SELECT c.oid, n.nspname, c.relname, c.relkind, pg_catalog.pg_get_userbyid(c.relowner), c.relrowsecurity,
  c.relforcerowsecurity, CASE WHEN c.relkind = 'v' AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite x
    WHERE x.ev_class = c.oid AND x.ev_type = '1' AND ` + large("x.ev_action") + `) THEN pg_catalog.pg_get_viewdef(c.oid) END
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE ` + userTable + ` ORDER BY c.oid`

// tableColumnsQuery: relation, name, schema and name of the type ("[]" for arrays), not
// null, and a default that calls current_setting (2077 and 3294).
var tableColumnsQuery = `
SELECT a.attrelid, a.attname, tn.nspname,
  CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN pg_catalog.concat(e.typname, '[]') ELSE t.typname::pg_catalog.text END,
  a.attnotnull,
  CASE WHEN ` + large("d.adbin") + ` THEN NULL WHEN d.adbin::pg_catalog.text ~ ':funcid (2077|3294) ' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
  LEFT JOIN pg_catalog.pg_attrdef d ON a.atthasdef AND a.attgenerated = '' AND d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attnum > 0 AND NOT a.attisdropped AND ` + userTable + ` ORDER BY a.attrelid, a.attnum`

// tableIndexesQuery: relation, name, unique, primary, partial, key columns, the first of
// them (” for an expression), whether there are expressions or it is not valid.
const tableIndexesQuery = `
SELECT x.indrelid, i.relname, x.indisunique, x.indisprimary, x.indpred IS NOT NULL,
  (SELECT pg_catalog.string_agg(a.attname, E'\n' ORDER BY k.n)
     FROM pg_catalog.unnest(x.indkey::pg_catalog.int2[]) WITH ORDINALITY k(attnum, n)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
    WHERE k.n <= x.indnkeyatts),
  COALESCE((SELECT f.attname::pg_catalog.text FROM pg_catalog.pg_attribute f
     WHERE f.attrelid = x.indrelid AND f.attnum = x.indkey[0]), ''),
  x.indexprs IS NOT NULL OR NOT x.indisvalid
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE ` + userTable + ` ORDER BY x.indrelid, NOT x.indisprimary, i.relname`

// foreignKeysQuery: relation, its columns, schema and name of the other relation.
const foreignKeysQuery = `
SELECT x.conrelid,
  (SELECT pg_catalog.string_agg(a.attname, E'\n' ORDER BY k.n)
     FROM pg_catalog.unnest(x.conkey) WITH ORDINALITY k(attnum, n)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = x.conrelid AND a.attnum = k.attnum),
  fn.nspname, f.relname
  FROM pg_catalog.pg_constraint x
  JOIN pg_catalog.pg_class c ON c.oid = x.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class f ON f.oid = x.confrelid
  JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
 WHERE x.contype = 'f' AND ` + userTable + ` ORDER BY x.conrelid, x.conname`

// policyTextQuery: relation, name, command, permissive, roles (none is PUBLIC), USING, WITH CHECK.
const policyTextQuery = `
SELECT x.polrelid, x.polname, x.polcmd, x.polpermissive,
  (SELECT pg_catalog.string_agg(r.rolname, E'\n' ORDER BY r.rolname) FROM pg_catalog.pg_roles r WHERE r.oid = ANY (x.polroles)),
  pg_catalog.pg_get_expr(x.polqual, x.polrelid), pg_catalog.pg_get_expr(x.polwithcheck, x.polrelid)
  FROM pg_catalog.pg_policy x
  JOIN pg_catalog.pg_class c ON c.oid = x.polrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE ` + userTable + ` ORDER BY x.polrelid, x.polname`
