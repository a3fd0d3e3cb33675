package catalog

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
)

// Few is what a server connection says of a few relations that no snapshot knows: new ones,
// or temporary ones of its session. Only those are in it that run no code, or none but what a
// snapshot knows to leave nothing behind.
type Few struct {
	relations []fewRelation
	ruledOut  map[string]bool // names of relations that run code
	Lasting   bool            // some of them are not temporary: the next snapshot will know them
}

type fewRelation struct {
	schema, name string // without a schema it is known by its mere name
	temporary    bool
}

// QueryParam is Query for a query with one parameter, in text format.
type QueryParam func(ctx context.Context, sql, param string, row func(values [][]byte) error) error

// AskFew asks the session's own connection, outside a transaction, for relations of the given
// names in any schema. s tells of the functions behind them. Of equal names one that runs code
// rules out all.
func AskFew(ctx context.Context, q QueryParam, s *Snapshot, names []string) (*Few, error) {
	f := &Few{ruledOut: map[string]bool{}}
	err := q(ctx, fewQuery, array(names), func(v [][]byte) error {
		if len(v) != 5 {
			return errRow
		}
		r := row(v)
		if !r.flag(3) || !s.harmless(r.text(4)) {
			f.ruledOut[r.text(1)] = true
			return nil
		}
		f.relations = append(f.relations, fewRelation{schema: r.text(0), name: r.text(1), temporary: r.flag(2)})
		f.Lasting = f.Lasting || !r.flag(2)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: ask for relations: %w", err)
	}
	return f, nil
}

// Add adds tables of which it is known otherwise that they ran no code, if they are gone.
func (f *Few) Add(names []string) {
	for _, n := range names {
		if !f.Relation("", n).Known {
			f.relations = append(f.relations, fewRelation{name: n})
		}
	}
}

// Relation returns what is known of a relation, which is nothing or that it is harmless.
func (f *Few) Relation(schema, name string) Relation {
	for _, r := range f.relations {
		if r.name == name && !f.ruledOut[name] && (schema == "" || schema == r.schema || schema == "pg_temp" && r.temporary) {
			return Relation{Fact: Fact{Known: true, Clean: true, Why: "new"}, WriteClean: true}
		}
	}
	return Relation{}
}

// harmless reports whether functions, by schema and name separated by spaces and lines, leave
// nothing behind.
func (s *Snapshot) harmless(functions string) bool {
	for line := range strings.Lines(functions) {
		schema, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		f := s.Function(schema, name)
		if !f.Known || !f.Clean || f.Sets || f.Touches != (setting.Names{}) {
			return false
		}
	}
	return true
}

// array writes names as an array in text format.
func array(names []string) string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = `"` + quote.Replace(n) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}

// fewQuery: schema, name, whether it is temporary, whether it has no code but the functions
// in its defaults and checks, and those functions (” NULL for none). It runs under the
// session's search_path: nothing in it is found through that.
const fewQuery = `
SELECT n.nspname, c.relname, c.relpersistence OPERATOR(pg_catalog.=) 't',
  c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,m,S}'::pg_catalog."char"[])
  AND NOT (c.relhasrules OR c.relhassubclass OR c.relispartition OR c.relrowsecurity)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger x WHERE x.tgrelid OPERATOR(pg_catalog.=) c.oid AND NOT x.tgisinternal)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint x WHERE x.confrelid OPERATOR(pg_catalog.=) c.oid
    AND NOT (x.confdeltype OPERATOR(pg_catalog.=) ANY ('{a,r}'::pg_catalog."char"[]) AND x.confupdtype OPERATOR(pg_catalog.=) ANY ('{a,r}'::pg_catalog."char"[])))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute x JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) x.atttypid
    WHERE x.attrelid OPERATOR(pg_catalog.=) c.oid AND x.attnum OPERATOR(pg_catalog.>) 0 AND NOT x.attisdropped
      AND t.oid OPERATOR(pg_catalog.>=) 16384 AND t.typtype OPERATOR(pg_catalog.<>) 'e')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_partitioned_table x WHERE x.partrelid OPERATOR(pg_catalog.=) c.oid AND x.partexprs IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_statistic_ext x WHERE x.stxrelid OPERATOR(pg_catalog.=) c.oid AND x.stxexprs IS NOT NULL),
  (SELECT pg_catalog.string_agg(DISTINCT pg_catalog.concat(pn.nspname, ' ', p.proname), E'\n')
    FROM (SELECT x.adbin::pg_catalog.text FROM pg_catalog.pg_attrdef x WHERE x.adrelid OPERATOR(pg_catalog.=) c.oid
      UNION ALL SELECT x.conbin::pg_catalog.text FROM pg_catalog.pg_constraint x WHERE x.conrelid OPERATOR(pg_catalog.=) c.oid AND x.conbin IS NOT NULL
      UNION ALL SELECT pg_catalog.concat(x.indexprs::pg_catalog.text, x.indpred::pg_catalog.text) FROM pg_catalog.pg_index x WHERE x.indrelid OPERATOR(pg_catalog.=) c.oid) u(tree),
    LATERAL pg_catalog.regexp_matches(u.tree, ':(funcid|opfuncid|aggfnoid|winfnoid|resulttype|typid) ([0-9]+)', 'g') m
    LEFT JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) m[2]::pg_catalog.oid
    LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid OPERATOR(pg_catalog.=) p.pronamespace
   WHERE m[2]::pg_catalog.oid OPERATOR(pg_catalog.>=) 16384
      OR NOT (m[1] OPERATOR(pg_catalog.=) ANY ('{resulttype,typid}'::pg_catalog.text[])) AND m[2] OPERATOR(pg_catalog.<>) '0')
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE c.relname OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.name[])
   AND NOT (c.relkind OPERATOR(pg_catalog.=) ANY ('{i,I,t,c}'::pg_catalog."char"[]))
   AND NOT pg_catalog.pg_is_other_temp_schema(c.relnamespace)`
