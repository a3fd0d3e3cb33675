package simpg

import (
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	pg "github.com/pganalyze/pg_query_go/v5"
)

// copyStmt executes COPY … FROM STDIN and COPY … TO STDOUT in text format.
func (se *session) copyStmt(n *pg.CopyStmt, p *portal) string {
	if n.Filename != "" || n.IsProgram {
		raise("0A000", "simpg: COPY of files is not modelled")
	}
	for _, o := range n.Options {
		if d := o.GetDefElem(); d.Defname != "format" || d.Arg.GetString_().GetSval() != "text" {
			raise("0A000", "simpg: this option of COPY is not modelled")
		}
	}
	se.takeSnapshot()
	a := &analysis{se: se, st: se.see(), params: p.types}
	if v := n.Relation; v != nil && catalogTables[v.Relname].rows == nil {
		a.existing(v).copied(stringsOf(n.Attlist))
	}
	if n.IsFrom {
		return se.copyIn(a, n)
	}
	return se.copyOut(a, n, p)
}

func (se *session) copyOut(a *analysis, n *pg.CopyStmt, p *portal) string {
	query := n.Query
	if query == nil {
		s := &pg.SelectStmt{FromClause: []*pg.Node{{Node: &pg.Node_RangeVar{RangeVar: n.Relation}}}}
		columns := stringsOf(n.Attlist)
		if len(columns) == 0 {
			columns = append(columns, "*")
		}
		for _, c := range columns {
			field := &pg.Node{Node: &pg.Node_String_{String_: &pg.String{Sval: c}}}
			if c == "*" {
				field = &pg.Node{Node: &pg.Node_AStar{AStar: &pg.A_Star{}}}
			}
			ref := &pg.Node{Node: &pg.Node_ColumnRef{ColumnRef: &pg.ColumnRef{Fields: []*pg.Node{field}}}}
			s.TargetList = append(s.TargetList, &pg.Node{Node: &pg.Node_ResTarget{ResTarget: &pg.ResTarget{Val: ref}}})
		}
		query = &pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: s}}
	}
	q := a.query(query, nil)
	a.permit()
	se.io.send(&pgproto3.CopyOutResponse{ColumnFormatCodes: make([]uint16, len(q.fields))})
	rows := 0
	q.run(&env{se: se, st: a.st, params: p.params}, func(r []datum) bool {
		rows++
		parts := make([]string, len(r))
		for i, d := range r {
			if parts[i] = `\N`; d != nil {
				parts[i] = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`).Replace(output(d))
			}
		}
		se.io.send(&pgproto3.CopyData{Data: []byte(strings.Join(parts, "\t") + "\n")})
		return true
	})
	se.io.send(&pgproto3.CopyDone{})
	return fmt.Sprintf("COPY %d", rows)
}

// copyIn reads lines from the client until it says that it is done. What it sends besides
// is refused, but for Flush and Sync, which are passed over.
func (se *session) copyIn(a *analysis, n *pg.CopyStmt) string {
	t := a.target(n.Relation, "INSERT", 'a')
	a.writes = nil // what it does is looked at later than what others do
	a.permit()
	if a.visible(t.r, 'a', t.cols); a.refused == nil && !a.exempt(t.r) {
		a.refused = failure("0A000", "COPY FROM not supported with row-level security")
		a.refused.Hint = "Use INSERT statements instead."
	}
	a.refuse()
	if !t.temporary() {
		se.refuseReadOnly("COPY FROM")
	}
	columns := t.columns(nil)
	if len(n.Attlist) > 0 {
		columns = t.r.copied(stringsOf(n.Attlist))
	}
	e, defaults := &env{se: se, st: a.st}, t.defaults()
	se.io.send(&pgproto3.CopyInResponse{ColumnFormatCodes: make([]uint16, len(columns))})
	se.io.urgent = true
	line, rest := 0, ""
	one := func(text string) {
		line++
		where := fmt.Sprintf("COPY %s, line %d: \"%s\"", t.r.name, line, text)
		if er := caught(func() { t.copyLine(e, text, columns, defaults, &where) }); er != nil {
			er.Where = where
			panic(er)
		}
	}
	over := false
	for {
		typ, body := se.copyMessage(func() string { return fmt.Sprintf("COPY %s, line %d", t.r.name, line+1) })
		switch typ {
		case 'd':
			rest += string(body)
			for !over {
				text, more, ok := strings.Cut(rest, "\n")
				if !ok {
					break
				}
				if rest = more; text == `\.` {
					over = true
					break
				}
				one(text)
			}
		case 'c':
			if rest != "" && !over {
				one(rest)
			}
			return fmt.Sprintf("COPY %d", line)
		case 'f':
			er := failure("57014", "COPY from stdin failed: %s", cstring(body))
			er.Where = fmt.Sprintf("COPY %s, line %d", t.r.name, line+1)
			panic(er)
		}
	}
}

// copied are the places of columns that COPY names.
func (r *relation) copied(names []string) (columns []int) {
	for _, n := range names {
		i := r.column(n)
		if i < 0 {
			raise("42703", `column "%s" of relation "%s" does not exist`, n, r.name)
		}
		columns = append(columns, i)
	}
	return columns
}

func (t *target) copyLine(e *env, text string, columns []int, defaults []*expr, where *string) {
	parts := strings.Split(text, "\t")
	if len(parts) > len(columns) {
		raise("22P04", "extra data after last expected column")
	}
	vals := make([]datum, len(columns))
	for i := range columns {
		if i >= len(parts) {
			raise("22P04", `missing data for column "%s"`, t.r.columns[columns[i]].name)
		}
		p := parts[i]
		if p == `\N` {
			continue
		}
		v := strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\r`, "\r").Replace(p)
		c := t.r.columns[columns[i]]
		if er := caught(func() { vals[i] = input(v, c.typ) }); er != nil {
			*where = strings.TrimSuffix(*where, fmt.Sprintf(": \"%s\"", text)) + fmt.Sprintf(", column %s: \"%s\"", c.name, v)
			panic(er)
		}
	}
	row := t.fill(e, columns, vals, defaults)
	if row = t.triggers(e, "i", nil, row); row != nil {
		t.put(e, row, false)
	}
}

// copyMessage waits for a message of the client's during COPY, with the lock given up.
func (se *session) copyMessage(where func() string) (typ byte, body []byte) {
	c := se.server.cluster
	for {
		c.mu.Unlock()
		if se.io.urgent {
			_ = se.flushed()
		}
		typ, body, err := se.io.anyFrame(time.Time{})
		c.mu.Lock()
		se.checkInterrupts()
		if err != nil {
			if interrupted(err) {
				continue
			}
			panic(&Error{Severity: "FATAL", Code: "08006", Message: "unexpected EOF on client connection with an open transaction"})
		}
		switch typ {
		case 'd', 'c', 'f':
			return typ, body
		case 'H', 'S':
		default:
			se.ended = &Error{Severity: "FATAL", Code: "08P01", Message: "terminating connection because protocol synchronization was lost"}
			e := failure("08P01", "unexpected message type 0x%02X during COPY from stdin", typ)
			e.Where = where()
			panic(e)
		}
	}
}
