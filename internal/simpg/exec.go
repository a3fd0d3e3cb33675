package simpg

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	pg "github.com/pganalyze/pg_query_go/v5"
	"github.com/pganalyze/pg_query_go/v5/parser"

	"github.com/pgweir/pgweir/internal/grammar"
)

// stmt is one statement of a text. It does not change, so all sessions share it.
type stmt struct {
	node *pg.Node
	text string // its own part of the whole
	kind string // of its node, without the package: SelectStmt
}

// field is a column of an answer.
type field struct {
	name  string
	typ   uint32
	table uint32
	num   int16
}

// trees are the statements of texts, of all clusters: an immutable value by text.
var trees, _ = lru.New[string, []*stmt](4096)

// parse returns the statements of a text.
func parse(text string) []*stmt {
	if s, ok := trees.Get(text); ok {
		return s
	}
	tree, err := grammar.Parse(text)
	if err != nil {
		e := failure("42601", "%s", err.Error())
		var at *parser.Error
		if errors.As(err, &at) {
			e.Position = int32(at.Cursorpos)
		}
		panic(e)
	}
	list := []*stmt{}
	for _, raw := range tree.Stmts {
		end := len(text)
		if raw.StmtLen > 0 {
			end = int(raw.StmtLocation + raw.StmtLen)
		}
		list = append(list, &stmt{node: raw.Stmt, kind: kindOf(raw.Stmt), text: strings.TrimSpace(text[raw.StmtLocation:end])})
	}
	if len(text) < 8192 {
		trees.Add(text, list)
	}
	return list
}

func kindOf(n *pg.Node) string {
	return strings.TrimPrefix(fmt.Sprintf("%T", n.Node), "*pg_query.Node_")
}

// transactional returns the statement if it begins, ends or divides transactions.
func (s *stmt) transactional() *pg.TransactionStmt { return s.node.GetTransactionStmt() }

// refuseAborted refuses what may not run in an aborted transaction.
func (se *session) refuseAborted(s *stmt) {
	if se.tx.block != 'E' {
		return
	}
	if t := s.transactional(); t != nil {
		switch t.Kind {
		case pg.TransactionStmtKind_TRANS_STMT_COMMIT, pg.TransactionStmtKind_TRANS_STMT_ROLLBACK,
			pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO, pg.TransactionStmtKind_TRANS_STMT_PREPARE:
			return
		}
	}
	raise("25P02", aborted)
}

const aborted = "current transaction is aborted, commands ignored until end of transaction block"

// refuseAbortedRows refuses to describe rows in an aborted transaction.
func (se *session) refuseAbortedRows(p *prepared) {
	if p.stmt != nil && p.columns != nil {
		se.refuseAborted(p.stmt)
	}
}

// simple executes the statements of a simple query.
func (se *session) simple(text string) {
	se.text = text
	list := parse(text)
	if len(list) == 0 {
		se.observing("", nil, nil)
		se.observe(nil)
		se.io.send(emptyQuery)
		return
	}
	se.tx.implicit = len(list) > 1
	for i, s := range list {
		se.startTimer()
		se.refuseAborted(s)
		se.checkInterrupts()
		se.begin()
		p := &portal{prepared: &prepared{text: text, stmt: s, literal: true}, own: true, started: true}
		se.observing(text, s, nil)
		if isQuery(s.node) {
			se.takeSnapshot()
			se.plan(p)
			p.columns = p.query.columns(s)
		} else {
			se.analyze(p.prepared)
		}
		se.names.portals[""] = p // which stays, as one that failed, if it does
		if isQuery(s.node) && s.kind == "SelectStmt" {
			p.plan.permit()
			se.describeRows(p.columns, nil)
			se.run(p)
		} else if se.run(p); p.columns != nil {
			se.describeRows(p.columns, nil)
		}
		se.rest(p, p.rows)
		if p.failed != nil {
			panic(p.failed)
		}
		delete(se.names.portals, "")
		if se.tx.executed++; se.tx.block == 'I' && i == len(list)-1 {
			se.commit()
		}
		se.complete(p.tagFor(len(p.rows)))
	}
	se.tx.implicit, se.tx.executed = false, 0
}

// tagFor is the command tag when so many rows were returned at last.
func (p *portal) tagFor(n int) string {
	if p.tag == "" {
		return fmt.Sprintf("SELECT %d", n)
	}
	if i := strings.LastIndexByte(p.tag, ' '); i > 0 && p.columns != nil && p.tag[i+1] >= '0' && p.tag[i+1] <= '9' {
		return fmt.Sprintf("%s %d", p.tag[:i], n) // it counts the rows of this Execute only
	}
	return p.tag
}

// about is a portal of the query that p's command is about.
func (p *portal) about(n *pg.Node) *portal {
	return &portal{prepared: &prepared{text: p.text, stmt: &stmt{node: n, kind: kindOf(n)}, types: p.types}, params: p.params}
}

// analyze finds the types of a statement's parameters and the columns of its answer, and
// refuses what names what is not there.
func (se *session) analyze(p *prepared) {
	if snapshots(p.stmt.node) {
		se.takeSnapshot()
	}
	var a *analysis
	se.steadily(func() {
		a = &analysis{se: se, st: se.see(), params: slices.Clone(p.types), literal: p.literal}
		p.columns = a.describe(p)
	})
	for i, t := range a.params {
		if t == typUnknown || t == 0 {
			a.params[i] = typText
		}
	}
	p.types = a.params
	p.version, p.path = a.st.version, se.set.is("search_path")+"/"+se.currentUser()
}

// revalidate analyzes a statement again if the catalog has changed since.
func (se *session) revalidate(p *prepared) {
	if p.stmt == nil || p.version == se.see().version && p.path == se.set.is("search_path")+"/"+se.currentUser() || se.tx.block == 'E' {
		return
	}
	was := p.columns
	se.analyze(p)
	if !slices.EqualFunc(was, p.columns, func(a, b field) bool { return a.name == b.name && a.typ == b.typ }) {
		p.columns, p.version = was, 0
		raise("0A000", "cached plan must not change result type")
	}
}

// run executes a portal: it fills in its rows, the error that came behind them, and its tag.
func (se *session) run(p *portal) {
	if w := se.server.cluster.options.Work; w != nil {
		if d := w(se.rand, p.text); d > 0 {
			se.sleep(d)
		}
	}
	se.checkInterrupts()
	if isQuery(p.stmt.node) {
		se.takeSnapshot()
		if p.query == nil {
			se.plan(p)
		}
		q := p.query
		p.plan.permit()
		if se.event != nil {
			se.event.Tables = p.plan.tables
		}
		e := &env{se: se, st: se.see(), params: p.params}
		emit := func(r []datum) bool {
			p.rows = append(p.rows, slices.Clone(r))
			return true
		}
		if p.stmt.kind != "SelectStmt" {
			q.run(e, emit)
			p.tag = q.tag(e)
			return
		}
		p.failed = caught(func() { q.run(e, emit) })
		if p.failed != nil && p.failed.Severity != "ERROR" {
			panic(p.failed)
		}
		return
	}
	p.tag = se.utility(p)
}

// plan analyzes a portal's statement with its parameters known.
func (se *session) plan(p *portal) {
	se.steadily(func() {
		a := &analysis{se: se, st: se.see(), params: p.types, literal: p.literal}
		a.bound = &env{se: se, st: a.st, params: p.params}
		p.query, p.plan = a.top(p.prepared), a
	})
}

// permit checks what may be run now.
func (a *analysis) permit() {
	a.refuse()
	for _, w := range slices.Backward(a.writes) { // what is in WITH was analyzed first
		a.se.refuseReadOnly(w)
	}
	for _, check := range a.rights {
		check()
	}
}

// snapshots reports whether to analyze a statement takes a snapshot.
func snapshots(n *pg.Node) bool {
	return isQuery(n) || n.GetSelectStmt() != nil || n.GetExplainStmt() != nil || n.GetDeclareCursorStmt() != nil || n.GetCreateTableAsStmt() != nil
}

// isQuery reports whether a statement is planned, and not a utility command.
func isQuery(n *pg.Node) bool {
	if s := n.GetSelectStmt(); s != nil {
		return s.IntoClause == nil
	}
	return n.GetInsertStmt() != nil || n.GetUpdateStmt() != nil || n.GetDeleteStmt() != nil
}
