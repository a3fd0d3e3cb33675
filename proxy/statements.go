package proxy

import (
	"fmt"
	"strings"

	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// statement is a client's prepared statement.
type statement struct {
	*prepared.Statement
	plan     *router.Plan
	snapshot *catalog.Snapshot // what plan was made with
	shape    shape
	sql      *sqlPrepared
}

// sqlPrepared is what a PREPARE makes, or an EXECUTE needs on its server first.
type sqlPrepared struct {
	makes, needs *statement
	name         string // the client's name of it
	ends         bool   // it is DEALLOCATE of needs
}

// portalOf is what a portal holds. The unnamed one lives, as named ones do, until the
// transaction ends: its Execute may come in a later unit than its Bind.
type portalOf struct {
	params []router.Argument // bound, if its settings depend on them
	plan   *router.Plan
	sql    *sqlPrepared
	stmt   *statement // nil for the unnamed one
	local  bool       // the proxy executes it
	unit   uint64     // client.units when it was bound
	parse  int        // 1 + the op of that unit that parsed its unnamed statement; 0 is an earlier unit
}

func (c *client) newStatement(shared *prepared.Statement, p *router.Plan, sql *sqlPrepared) *statement {
	return &statement{Statement: shared, plan: p, snapshot: c.up.Database.Plans.Snapshot(), sql: sql}
}

// plan is the plan of a text for this session.
func (c *client) plan(text []byte) *router.Plan {
	p := c.up.Database.Plans.Get(text)
	if p.Pins&router.PinOpaque != 0 && c.up.Database.Stale() && c.b == nil {
		// What it uses may just have been created: better wait than tie the session
		// to its server because of it.
		c.up.Database.AwaitCatalog(c.ctx)
		p = c.up.Database.Plans.Get(text)
	}
	return p.For(c.up.Key.User, c.app)
}

// refresh is the plan of a statement, made anew if the catalog has changed.
func (c *client) refresh(st *statement) *router.Plan {
	now := c.up.Database.Plans.Snapshot()
	if st.snapshot == now {
		return st.plan
	}
	st.snapshot = now
	if st.SQL == "" {
		st.plan = c.planOf(st.sql, c.plan([]byte(st.Text)))
	} else if p := c.plan([]byte(st.SQL)); p.SQL.Inner != nil {
		st.plan = p.SQL.Inner
	}
	return st.plan
}

// parsedBy are the settings that decide what a literal means when a statement is
// parsed. A search_path is not among them: servers parse anew when that changes.
var parsedBy = [...]string{"array_nulls", "backslash_quote", "client_encoding", "datestyle", "intervalstyle",
	"lc_monetary", "standard_conforming_strings", "timezone", "xmloption"}

// reading tells apart sessions which read the same text differently: statements
// with literals are shared among those only that read them alike.
func (c *client) reading(u *unit, literals router.Literals) string {
	if literals == router.LiteralsNone {
		return ""
	}
	if u.sets || c.tx.sets || c.unread || c.pins&(router.PinSetting|router.PinOpaque) != 0 || literals == router.LiteralsTimed {
		return fmt.Sprintf("%d.%d", c.id, c.units)
	}
	if c.settings.now == (session.Settings{}) {
		return ""
	}
	var b strings.Builder
	for _, name := range parsedBy {
		if v, ok := c.settings.now.Value(name); ok {
			b.WriteString(name + "=" + v + "\x00")
		}
	}
	return b.String()
}

// planOf is p, or the plan of the statement that p's text executes, unless what p
// itself holds (its arguments) is the stricter.
func (c *client) planOf(sql *sqlPrepared, p *router.Plan) *router.Plan {
	if sql == nil || sql.needs == nil || p.SQL.Verb != router.PreparedExecute {
		return p
	}
	return p.Executing(c.refresh(sql.needs))
}

// define gives a name to a statement.
func (c *client) define(name string, st *statement) {
	if c.statements == nil {
		c.statements = map[string]*statement{}
	}
	c.statements[name] = st
}

// unnamedTag tells unnamed statements apart, over all clients; 0 is none.
type unnamedTag uint64

// unnamed is the client's unnamed statement. Its text is kept because it may be
// bound after the server connection that parsed it was given back.
type unnamed struct {
	tag   unnamedTag
	seq   uint32
	text  []byte
	types []byte
	plan  *router.Plan
	sql   *sqlPrepared
}

func (n *unnamed) define(c *client, text, types []byte, p *router.Plan, sql *sqlPrepared) unnamedTag {
	n.seq++
	n.tag = unnamedTag(c.id<<32 | uint64(n.seq))
	n.text = append(n.text[:0], text...)
	n.types = append(n.types[:0], types...)
	n.plan, n.sql = p, sql
	return n.tag
}

// drop forgets it; a long text's memory is given back.
func (n *unnamed) drop() {
	if cap(n.text) > 1024 {
		n.text = nil
	}
	n.tag, n.plan, n.sql = 0, nil, nil
}

// A statement's text that names another one prepared by SQL bears the client's
// name for it. Servers know it by the name all clients share, so that it can be
// prepared wherever it is needed and clashes with nobody's.

func errRepeated(name string) *wire.Error {
	return wire.Errorf("42P05", "prepared statement \"%s\" already exists", name)
}

// misnamed is why what a PREPARE or EXECUTE names is not, or no longer, what it was
// taken for when it was parsed.
func (c *client) misnamed(sql *sqlPrepared) *wire.Error {
	if sql == nil {
		return nil
	}
	named := c.statements[sql.name]
	switch {
	case sql.makes != nil && named != nil:
		return errRepeated(sql.name)
	case sql.needs != nil && (named == nil || named.Statement != sql.needs.Statement):
		return wire.Errorf("26000", "prepared statement \"%s\" does not exist", sql.name)
	}
	return nil
}

// rewriteSQL puts the shared name into the text of a PREPARE or EXECUTE, as
// o.text, and what it makes or needs into o.sql. It returns false if it refused.
func (c *client) rewriteSQL(u *unit, o *op, p *router.Plan, text []byte) bool {
	before, after := string(text[:p.SQL.NameStart]), string(text[p.SQL.NameEnd:])
	st, exists := c.statements[p.SQL.Name]
	switch p.SQL.Verb {
	case router.PreparedPrepare:
		if exists && o.kind == opQuery && !c.tx.failed { // the extended protocol fails at Execute
			u.refuse(errRepeated(p.SQL.Name))
			return false
		}
		shared := c.s.registry.SQLStatement(before, after, c.reading(u, p.LiteralsOf(text)))
		o.text = shared.SQL
		o.sql = &sqlPrepared{makes: c.newStatement(shared, p.SQL.Inner, nil), name: p.SQL.Name}
	case router.PreparedExecute:
		if !exists && c.pins&router.PinPrepared != 0 {
			return true // only its server may know the name
		}
		if !exists {
			e := wire.Errorf("26000", "prepared statement \"%s\" does not exist", p.SQL.Name)
			if c.tx.failed {
				e = errAborted
			}
			u.refuse(e)
			return false
		}
		o.text = before + st.Name + after
		o.sql = &sqlPrepared{needs: st, name: p.SQL.Name}
	case router.PreparedDeallocate:
		if !exists || c.tx.failed {
			return true // the server refuses it
		}
		o.text = before + st.Name + after
		o.sql = &sqlPrepared{needs: st, name: p.SQL.Name, ends: true}
	default:
		return true
	}
	u.rewritten = true
	return true
}
