package tenant

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// columnType writes a type as catalog.Column does: without pg_catalog and modifiers,
// arrays with "[]".
func columnType(t *pg.TypeName) string {
	schema, name := qualified(texts(t.GetNames()))
	if schema != "" && schema != "pg_catalog" {
		name = schema + "." + name
	}
	if len(t.GetArrayBounds()) > 0 {
		name += "[]"
	}
	return name
}

// outputName is the name PostgreSQL gives a column of a query's output, as far as
// it matters here: expressions other than columns and casts have none.
func outputName(t *pg.ResTarget) string {
	if t.GetName() != "" {
		return t.GetName()
	}
	return exprName(t.GetVal())
}

func exprName(n *pg.Node) string {
	switch e := n.GetNode().(type) {
	case *pg.Node_ColumnRef:
		fields := e.ColumnRef.GetFields()
		return fields[len(fields)-1].GetString_().GetSval()
	case *pg.Node_TypeCast:
		return exprName(e.TypeCast.GetArg())
	case *pg.Node_FuncCall:
		names := texts(e.FuncCall.GetFuncname())
		return names[len(names)-1]
	case *pg.Node_AIndirection:
		for i := len(e.AIndirection.GetIndirection()) - 1; i >= 0; i-- {
			if s := e.AIndirection.GetIndirection()[i].GetString_(); s != nil {
				return s.GetSval()
			}
		}
	case *pg.Node_CollateClause:
		return exprName(e.CollateClause.GetArg())
	case *pg.Node_CoalesceExpr:
		return "coalesce"
	case *pg.Node_CaseExpr:
		return "case"
	}
	return "?column?"
}

// dotted is a name with its schema, if it has one.
func dotted(schema, name string) string {
	if schema == "" {
		return name
	}
	return schema + "." + name
}

// quoteIdent writes an identifier so that PostgreSQL reads it back.
func quoteIdent(s string) string {
	plain := s != "" && (s[0] < '0' || s[0] > '9')
	for i := 0; i < len(s) && plain; i++ {
		c := s[i]
		plain = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_'
	}
	if plain {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}
