package router

import (
	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/router/shape"
	"github.com/pgweir/pgweir/router/tenant"
)

// counting is an analysis whose statement is counted.
type counting struct{ *analysis }

// statement is what statistics count the text as: one statement of a database. A text of
// several is counted as a whole, and nothing is said of its shape.
func (c counting) statement(tree *pg.ParseResult, plan *Plan) *insight.Statement {
	g := c.counts
	var of insight.Shape
	if stmts := tree.GetStmts(); len(stmts) == 1 {
		if s := stmts[0].GetStmt().GetSelectStmt(); s != nil {
			of = shape.Of(s, g.knownTables())
			if at, param := shape.Offset(s); at >= 0 {
				plan.literals.offset.place = c.place(at)
			} else {
				plan.literals.offset.param = param
			}
			of.Unfiltered = plan.Tenant != nil && plan.Tenant.Verdict == tenant.Missing
		}
	}
	return g.insight.Statement(g.database, grammar.Fingerprint(c.text), grammar.Shape(c.text), of)
}

func (g *generation) knownTables() (known shape.Known) {
	if s, ok := g.facts.(tenant.Schema); ok {
		known.Tables = s.Tables
	}
	if g.tenant != nil {
		known.Tenants = g.tenant.Columns
	}
	return known
}

// skips is where a text says how many rows it skips.
type skips struct {
	place *place
	param int // 1 is $1
}

// Offset is the number of rows that text, which is p's or differs from it in literals only,
// skips by OFFSET with a literal: 0 if it has none, or if it is not known because nothing is
// counted. param is the parameter that says it, 0 for none.
func (p *Plan) Offset(text []byte) (rows int64, param int) {
	at := &p.literals.offset
	if at.place == nil {
		return 0, at.param
	}
	v, _ := at.place.read(text)
	return shape.Rows(v), 0
}
