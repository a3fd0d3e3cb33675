package simpg

import (
	"fmt"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// cursorHold is an option of DECLARE.
const cursorHold = 0x0020

func (se *session) declare(n *pg.DeclareCursorStmt, p *portal) string {
	hold := n.Options&cursorHold != 0
	if !hold && se.tx.block == 'I' && !se.tx.implicit {
		raise("25P01", "DECLARE CURSOR can only be used in transaction blocks")
	}
	if se.names.portals[n.Portalname] != nil {
		raise("42P03", `cursor "%s" already exists`, n.Portalname)
	}
	c := p.about(n.Query)
	c.hold, c.cursor, c.own, c.started = hold, true, true, true
	se.analyze(c.prepared)
	se.run(c)
	if c.failed != nil && hold {
		panic(c.failed)
	}
	se.names.portals[n.Portalname] = c
	return "DECLARE CURSOR"
}

func (n *names) cursor(name string) *portal {
	p := n.portals[name]
	if p == nil {
		raise("34000", `cursor "%s" does not exist`, name)
	}
	return p
}

// fetch moves a cursor forward, or to where it is told.
func (se *session) fetch(p *portal, n *pg.FetchStmt) string {
	c := se.names.cursor(n.Portalname)
	word := "FETCH"
	if n.Ismove {
		word = "MOVE"
	}
	from, to := c.at, len(c.rows)
	switch n.Direction {
	case pg.FetchDirection_FETCH_FORWARD:
		if n.HowMany < int64(to-from) {
			to = from + int(n.HowMany)
		}
		c.at = to
		if int(n.HowMany) > to-from && c.failed != nil {
			e := c.failed
			panic(e)
		}
	case pg.FetchDirection_FETCH_ABSOLUTE:
		at := int(n.HowMany)
		if at < 0 {
			at = len(c.rows) + 1 + at
		}
		from, to = max(at-1, 0), min(max(at, 0), len(c.rows))
		from = min(from, to)
		c.at = to
	default:
		raise("0A000", "simpg: FETCH in this direction is not modelled")
	}
	p.columns = nil
	if !n.Ismove {
		p.rows, p.columns = c.rows[from:to], c.columns
	}
	return fmt.Sprintf("%s %d", word, to-from)
}

func (se *session) closeCursor(name string) string {
	if name == "" {
		for k, p := range se.names.portals {
			if p.cursor {
				delete(se.names.portals, k)
			}
		}
		return "CLOSE CURSOR ALL"
	}
	se.names.cursor(name)
	delete(se.names.portals, name)
	return "CLOSE CURSOR"
}
