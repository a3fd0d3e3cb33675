package catalog

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// read says that a query of this package reads a column.
const read = ""

// Reasons why columns with code need not be read.
const (
	internalOnly = "the function takes or returns a type of PostgreSQL's internals, so it is written in C or built in"
	superuser    = "only superusers make it, in C"
	noCode       = "it is data, and nothing runs it"
	constant     = "its expressions are constants"
	otherProcess = "it runs in processes that serve no client"
)

// codeColumns are the columns of the system catalogs in which code can stand: expression
// trees, functions, and SQL as text. A column that is new in a version must be read by a
// query of this package, or have a reason why not.
var codeColumns = map[string]string{
	// Expression trees.
	"pg_attrdef.adbin":                   read,
	"pg_class.relpartbound":              constant,
	"pg_constraint.conbin":               read,
	"pg_index.indexprs":                  read,
	"pg_index.indpred":                   read,
	"pg_partitioned_table.partexprs":     read,
	"pg_policy.polqual":                  read,
	"pg_policy.polwithcheck":             read,
	"pg_proc.proargdefaults":             read,
	"pg_proc.prosqlbody":                 read,
	"pg_publication_rel.prqual":          otherProcess,
	"pg_rewrite.ev_action":               read,
	"pg_rewrite.ev_qual":                 read,
	"pg_statistic_ext.stxexprs":          read,
	"pg_trigger.tgqual":                  read,
	"pg_type.typdefaultbin":              read,
	"pg_aggregate.agginitval":            noCode,
	"pg_aggregate.aggminitval":           noCode,
	"pg_type.typdefault":                 "the same as typdefaultbin, or a value of a base type",
	"pg_db_role_setting.setconfig":       read,
	"pg_proc.proconfig":                  read,
	"pg_proc.prosrc":                     read,
	"pg_proc.probin":                     superuser,
	"pg_proc.proargnames":                noCode,
	"pg_event_trigger.evttags":           "which commands it runs for does not matter: it is taken to run for all",
	"pg_class.reloptions":                noCode,
	"pg_attribute.attoptions":            noCode,
	"pg_attribute.attfdwoptions":         noCode,
	"pg_tablespace.spcoptions":           noCode,
	"pg_foreign_table.ftoptions":         noCode,
	"pg_user_mapping.umoptions":          noCode,
	"pg_foreign_server.srvoptions":       noCode,
	"pg_foreign_server.srvtype":          noCode,
	"pg_foreign_server.srvversion":       noCode,
	"pg_foreign_data_wrapper.fdwoptions": noCode,

	// Functions.
	"pg_aggregate.aggfnoid":                read,
	"pg_aggregate.aggtransfn":              read,
	"pg_aggregate.aggfinalfn":              read,
	"pg_aggregate.aggcombinefn":            read,
	"pg_aggregate.aggserialfn":             read,
	"pg_aggregate.aggdeserialfn":           read,
	"pg_aggregate.aggmtransfn":             read,
	"pg_aggregate.aggminvtransfn":          read,
	"pg_aggregate.aggmfinalfn":             read,
	"pg_am.amhandler":                      internalOnly,
	"pg_amproc.amproc":                     read,
	"pg_cast.castfunc":                     read,
	"pg_conversion.conproc":                internalOnly,
	"pg_event_trigger.evtfoid":             read,
	"pg_foreign_data_wrapper.fdwhandler":   internalOnly,
	"pg_foreign_data_wrapper.fdwvalidator": read,
	"pg_language.laninline":                internalOnly,
	"pg_language.lanplcallfoid":            internalOnly,
	"pg_language.lanvalidator":             read,
	"pg_operator.oprcode":                  read,
	"pg_operator.oprjoin":                  internalOnly,
	"pg_operator.oprrest":                  internalOnly,
	"pg_proc.prosupport":                   internalOnly,
	"pg_range.rngcanonical":                read,
	"pg_range.rngsubdiff":                  read,
	"pg_transform.trffromsql":              internalOnly,
	"pg_transform.trftosql":                internalOnly,
	"pg_trigger.tgfoid":                    read,
	"pg_ts_parser.prsend":                  internalOnly,
	"pg_ts_parser.prsheadline":             internalOnly,
	"pg_ts_parser.prslextype":              internalOnly,
	"pg_ts_parser.prsstart":                internalOnly,
	"pg_ts_parser.prstoken":                internalOnly,
	"pg_ts_template.tmplinit":              internalOnly,
	"pg_ts_template.tmpllexize":            internalOnly,
	"pg_type.typanalyze":                   internalOnly,
	"pg_type.typinput":                     read,
	"pg_type.typmodin":                     read,
	"pg_type.typmodout":                    superuser,
	"pg_type.typoutput":                    superuser,
	"pg_type.typreceive":                   internalOnly,
	"pg_type.typsend":                      superuser,
	"pg_type.typsubscript":                 internalOnly,

	// Other text.
	"pg_collation.colliculocale":      noCode,
	"pg_collation.collcollate":        noCode,
	"pg_collation.collctype":          noCode,
	"pg_collation.colllocale":         noCode,
	"pg_collation.collicurules":       noCode,
	"pg_collation.collversion":        noCode,
	"pg_database.datcollate":          noCode,
	"pg_database.datctype":            noCode,
	"pg_database.daticulocale":        noCode,
	"pg_database.datlocale":           noCode,
	"pg_database.daticurules":         noCode,
	"pg_database.datcollversion":      noCode,
	"pg_authid.rolpassword":           noCode,
	"pg_description.description":      noCode,
	"pg_shdescription.description":    noCode,
	"pg_extension.extversion":         noCode,
	"pg_extension.extcondition":       "of pg_dump only",
	"pg_parameter_acl.parname":        noCode,
	"pg_replication_origin.roname":    noCode,
	"pg_seclabel.label":               noCode,
	"pg_seclabel.provider":            noCode,
	"pg_shseclabel.label":             noCode,
	"pg_shseclabel.provider":          noCode,
	"pg_subscription.subconninfo":     otherProcess,
	"pg_subscription.subpublications": otherProcess,
	"pg_subscription.subsynccommit":   otherProcess,
	"pg_subscription.suborigin":       otherProcess,
	"pg_ts_dict.dictinitoption":       noCode,
}

// columnsWithCode finds every column of a system catalog that may hold code: those of
// type pg_node_tree or of text, and those that name a function.
const columnsWithCode = `
SELECT c.relname || '.' || a.attname
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
 WHERE c.relkind = 'r' AND c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND a.attnum > 0 AND NOT a.attisdropped
   AND a.atttypid IN ('pg_catalog.pg_node_tree'::pg_catalog.regtype, 'pg_catalog.text'::pg_catalog.regtype,
     'pg_catalog._text'::pg_catalog.regtype, 'pg_catalog.regproc'::pg_catalog.regtype,
     'pg_catalog.regprocedure'::pg_catalog.regtype)
UNION
SELECT pg_catalog.split_part(k.fktable::pg_catalog.text, '.', 1) || '.' || f.name
  FROM pg_catalog.pg_get_catalog_foreign_keys() k, pg_catalog.unnest(k.fkcols) f(name)
 WHERE k.pktable = 'pg_catalog.pg_proc'::pg_catalog.regclass ORDER BY 1`

// queryWords are the words of all the SQL of this package.
func queryWords() []string {
	all := strings.Join([]string{
		functionsQuery(userRows), aggregatesQuery, operatorsQuery, typesQuery, castsQuery, relationsQuery, columnsQuery, rulesQuery(userRows),
		defaultsQuery, constraintsQuery, computedQuery, policiesQuery, triggersQuery, childrenQuery, implicitQuery, ddlQuery,
		settingsQuery,
	}, "\n")
	return strings.FieldsFunc(all, func(r rune) bool { return !isWord(byte(min(r, 0x7f))) })
}

// TestEveryColumnWithCode: code that the graph does not know of could set what it likes.
func TestEveryColumnWithCode(t *testing.T) {
	c := pgtest.Shared(t)
	q := connect(t, c.Primary, c.Database(t), pgtest.Superuser)
	all := queryWords()
	found := map[string]bool{}
	err := q(t.Context(), columnsWithCode, func(values [][]byte) error {
		column := string(values[0])
		found[column] = true
		why, ok := codeColumns[column]
		_, name, _ := strings.Cut(column, ".")
		switch {
		case !ok:
			t.Errorf("%s may hold code: read it, or say why not", column)
		case why == read && !slices.Contains(all, name):
			t.Errorf("%s is said to be read, and no query does", column)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 80 {
		t.Errorf("only %d columns found", len(found))
	}
}
