package router

import pg "github.com/pganalyze/pg_query_go/v5"

// PostgreSQL's parser, as a library, turns its tree into bytes by recursion
// without a limit: `SELECT 1+1+1…` of 400 KB overflows the C stack and ends the
// process. tooDeep finds such texts before the parser sees them.

const (
	// shallowBytes is a size below which no text can be too deep: a level takes
	// at least two bytes, and 20000 levels are safe on a stack of 8 MB.
	shallowBytes = 8 << 10
	// maxDepth is how many levels of the tree are let through, estimated from above.
	maxDepth = 8000
)

// tooDeep estimates the depth of the parse tree of text from above. The tokens
// come from PostgreSQL's own lexer, which does not recurse. Within one pair of
// parentheses every token may add a level, but what follows a comma, an AND and
// the like begins anew; the chains of UNION, JOIN and CASE do not.
func tooDeep(text string) bool {
	if len(text) <= shallowBytes {
		return false
	}
	scan, err := pg.Scan(text)
	if err != nil {
		return false // the parser fails in the same way, without a tree
	}
	var d depth
	for _, t := range scan.GetTokens() {
		if d.token(t.GetToken()); d.total() > maxDepth {
			return true
		}
	}
	return false
}

// depth is the state of an estimate.
type depth struct {
	level depthLevel
	outer []depthLevel
	below int // levels of outer
}

// depthLevel is one pair of parentheses.
type depthLevel struct {
	run   int // tokens since a new subtree began
	chain int // UNION, JOIN, CASE
}

func (d *depth) total() int { return d.below + d.level.run + d.level.chain }

func (d *depth) token(t pg.Token) {
	switch t {
	case pg.Token_ASCII_40, pg.Token_ASCII_91: // ( [
		d.level.run++
		d.outer = append(d.outer, d.level)
		d.below += d.level.run + d.level.chain
		d.level = depthLevel{}
	case pg.Token_ASCII_41, pg.Token_ASCII_93: // ) ]
		if n := len(d.outer); n > 0 {
			d.level = d.outer[n-1]
			d.outer = d.outer[:n-1]
			d.below -= d.level.run + d.level.chain
		}
	case pg.Token_ASCII_59: // ;
		*d = depth{outer: d.outer[:0]}
	case pg.Token_ASCII_44, pg.Token_AND, pg.Token_OR, pg.Token_WHEN, pg.Token_THEN, pg.Token_ELSE,
		pg.Token_SELECT, pg.Token_WHERE, pg.Token_ON, pg.Token_VALUES:
		d.level.run = 0
	case pg.Token_UNION, pg.Token_EXCEPT, pg.Token_INTERSECT, pg.Token_JOIN, pg.Token_CASE:
		d.level.chain++
		d.level.run = 0
	case pg.Token_SQL_COMMENT, pg.Token_C_COMMENT:
	default:
		d.level.run++
	}
}
