package simpg

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/internal/grammar"
)

// block is a block of PL/pgSQL: statements, variables and what catches errors. Of the
// language there are PERFORM, RETURN, RAISE, EXECUTE, IF, assignments, SELECT … INTO,
// COMMIT and ROLLBACK, nested blocks, and SQL.
type block struct {
	declares []plDeclare
	body     []plStmt
	handler  []plStmt // of WHEN OTHERS, or of the one condition that there is
	catches  string
}

type plDeclare struct{ name, typ, init string }

// plStmt is one statement. what is its first word.
type plStmt struct {
	what   string
	line   int
	text   string // without that word
	block  *block
	then   []plStmt
	orElse []plStmt
}

// plReader splits a body into its tokens.
type plReader struct {
	lex  grammar.Lexer
	tok  grammar.Token
	body string
}

func parseBlock(body string) *block {
	r := &plReader{lex: grammar.Lexer{Text: body}, body: body}
	r.next()
	return r.block()
}

func (r *plReader) next() {
	for r.tok = r.lex.Next(); r.tok.Kind == grammar.Comment; r.tok = r.lex.Next() {
	}
}

// word is the token at hand if it is a word, in lower case.
func (r *plReader) word() string {
	if r.tok.Kind == grammar.Word {
		return strings.ToLower(r.body[r.tok.Start:r.tok.End])
	}
	return ""
}

func (r *plReader) is(c byte) bool { return r.tok.Kind == grammar.Other && r.body[r.tok.Start] == c }

// until reads up to one of the words, or a semicolon, which it passes over.
func (r *plReader) until(words ...string) string {
	start, depth := r.tok.Start, 0
	for r.tok.Kind != grammar.End {
		switch {
		case r.is('('):
			depth++
		case r.is(')'):
			depth--
		case depth == 0 && (r.is(';') || slices.Contains(words, r.word())):
			text := strings.TrimSpace(r.body[start:r.tok.Start])
			r.next()
			return text
		}
		r.next()
	}
	return strings.TrimSpace(r.body[start:])
}

func (r *plReader) block() *block {
	b := &block{}
	if r.word() == "declare" {
		r.next()
		for r.word() != "begin" && r.tok.Kind != grammar.End {
			d := r.until()
			name, rest, _ := strings.Cut(d, " ")
			typ, init, _ := strings.Cut(rest, ":=")
			b.declares = append(b.declares, plDeclare{strings.ToLower(name), strings.TrimSpace(typ), strings.TrimSpace(init)})
		}
	}
	r.next() // BEGIN
	b.body = r.statements()
	if r.word() == "exception" {
		r.next() // WHEN follows
		r.next()
		b.catches = strings.ToLower(r.until("then"))
		b.handler = r.statements()
	}
	r.next() // END
	if r.is(';') {
		r.next()
	}
	return b
}

// statements reads up to END, EXCEPTION, ELSE or WHEN.
func (r *plReader) statements() (list []plStmt) {
	for {
		line := 1 + strings.Count(r.body[:r.tok.Start], "\n")
		n := len(list)
		switch w := r.word(); w {
		case "end", "exception", "else", "elsif", "when":
			return list
		case "begin", "declare":
			list = append(list, plStmt{what: "block", block: r.block()})
		case "if":
			r.next()
			s := plStmt{what: "if", text: r.until("then")}
			s.then = r.statements()
			if r.word() == "else" {
				r.next()
				s.orElse = r.statements()
			}
			r.next() // END
			r.until()
			list = append(list, s)
		case "perform", "return", "raise", "execute", "commit", "rollback", "null":
			r.next()
			list = append(list, plStmt{what: w, text: r.until()})
		default:
			if r.tok.Kind == grammar.End {
				return list
			}
			list = append(list, r.other())
		}
		for ; n < len(list); n++ {
			list[n].line = line
		}
	}
}

// other is an assignment or SQL.
func (r *plReader) other() plStmt {
	text := r.until()
	if name, value, ok := strings.Cut(text, ":="); ok && !strings.ContainsAny(strings.TrimSpace(name), " '(") {
		return plStmt{what: "assign", text: value, then: []plStmt{{text: strings.ToLower(strings.TrimSpace(name))}}}
	}
	return plStmt{what: "sql", text: text}
}

// plVar is a variable.
type plVar struct {
	typ uint32
	val datum
}

// plCall is one call of a function.
type plCall struct {
	se        *session
	f         *function
	vars      map[string]*plVar
	columns   []column // of a trigger's table
	fresh     []datum  // NEW
	old       []datum
	op        string
	procedure bool // it may end transactions
	at        *plStmt
	result    []datum
	returned  bool
	null      bool
}

func (c *plCall) run(each func(r []datum) bool) {
	if c.f.compiled == nil {
		c.f.compiled = parseBlock(c.f.body)
	}
	c.block(c.f.compiled)
	if !c.returned && c.f.returns != typVoid && !c.f.procedure {
		raise("2F005", "control reached end of function without RETURN")
	}
	if c.f.returns == typVoid {
		c.result = []datum{""}
	}
	each(c.result)
}

// trigger returns the row as the function leaves it; nil is none.
func (c *plCall) trigger() []datum {
	c.run(func([]datum) bool { return true })
	if c.null {
		return nil
	}
	return c.fresh
}

func (c *plCall) block(b *block) {
	for _, d := range b.declares {
		v := &plVar{typ: typText}
		if t := typeNamed(map[string]string{"integer": "int4", "int": "int4", "bigint": "int8", "boolean": "bool"}[d.typ]); t != 0 {
			v.typ = t
		}
		c.vars[d.name] = v
		if d.init != "" {
			v.val = c.value(d.init, v.typ)
		}
	}
	if b.catches == "" {
		c.statements(b.body)
		return
	}
	se := c.se
	se.savepoint("\x00plpgsql")
	e := caught(func() { c.statements(b.body) })
	if e == nil {
		se.release("\x00plpgsql")
		return
	}
	if e.Severity != "ERROR" || e.Code == "57014" || !catches(b.catches, e.Code) {
		se.release("\x00plpgsql")
		panic(e)
	}
	block := se.tx.block
	se.rollbackTo("\x00plpgsql")
	se.release("\x00plpgsql")
	se.tx.block = block
	c.statements(b.handler)
}

// words are what PostgreSQL calls the kinds of statements.
var words = map[string]string{"perform": "PERFORM", "assign": "assignment", "sql": "SQL statement", "execute": "EXECUTE", "return": "RETURN", "raise": "RAISE", "if": "IF"}

// where is a line of the context of what happens now.
func (c *plCall) where() string {
	var args []string
	for _, p := range c.f.args {
		args = append(args, infoOf(p.typ).words)
	}
	name := fmt.Sprintf("function %s(%s)", c.f.name, strings.Join(args, ","))
	if c.f.name == "" {
		name = "function inline_code_block"
	}
	return fmt.Sprintf("PL/pgSQL %s line %d at %s", name, c.at.line, words[c.at.what])
}

// context is an error with where it came from.
func (c *plCall) context(e *Error) *Error {
	x := *e
	x.Position, x.offset = 0, 0
	lines := []string{}
	if e.Where != "" {
		lines = append(lines, e.Where)
	}
	if c.at.what == "sql" || c.at.what == "perform" {
		text := c.at.text
		if c.at.what == "perform" {
			text = "SELECT " + text
		}
		lines = append(lines, `SQL statement "`+text+`"`)
	}
	x.Where = strings.Join(append(lines, c.where()), "\n")
	return &x
}

// conditions are the names of the errors that tests catch.
var conditions = map[string]string{"division_by_zero": "22012", "unique_violation": "23505", "raise_exception": "P0001", "read_only_sql_transaction": "25006"}

func catches(condition, code string) bool {
	return condition == "others" || conditions[condition] == code
}

func (c *plCall) statements(list []plStmt) {
	for i := range list {
		if c.returned {
			return
		}
		s := &list[i]
		c.at = s
		if e := caught(func() { c.statement(s) }); e != nil {
			if s.what != "block" && s.what != "if" && e.Severity == "ERROR" {
				e = c.context(e)
			}
			panic(e)
		}
	}
}

func (c *plCall) statement(s *plStmt) {
	se := c.se
	switch s.what {
	case "null":
	case "block":
		c.block(s.block)
	case "perform":
		c.sql("select " + s.text)
	case "assign":
		c.assign(s.then[0].text, s.text)
	case "if":
		if c.value(s.text, typBool) == true {
			c.statements(s.then)
		} else {
			c.statements(s.orElse)
		}
	case "execute":
		c.sql(output(c.value(s.text, typText)))
	case "return":
		c.returned = true
		switch low := strings.ToLower(s.text); {
		case low == "null" && c.f.returns == typTrigger:
			c.null = true
		case low == "new" || low == "old" || low == "":
		default:
			c.result = []datum{c.value(s.text, c.f.returns)}
		}
	case "raise":
		c.raise(s.text)
	case "commit", "rollback":
		if !c.procedure {
			raise("2D000", "invalid transaction termination")
		}
		implicit := se.tx.implicit
		if s.what == "commit" {
			se.commit()
		} else {
			se.rollback()
		}
		se.begin()
		se.tx.implicit = implicit
	case "sql":
		c.sql(s.text)
	}
}

func (c *plCall) assign(name, value string) {
	if field, ok := strings.CutPrefix(name, "new."); ok {
		for i, col := range c.columns {
			if col.name == field {
				c.fresh[i] = c.value(value, col.typ)
			}
		}
		return
	}
	v := c.vars[name]
	if v == nil {
		raise("42601", `"%s" is not a known variable`, name)
	}
	v.val = c.value(value, v.typ)
}

// scope is what the function's statements can name.
func (c *plCall) scope() (params []param, vals []datum) {
	for _, name := range slices.Sorted(maps.Keys(c.vars)) {
		params, vals = append(params, param{name, c.vars[name].typ}), append(vals, c.vars[name].val)
	}
	return params, vals
}

// value evaluates an expression.
func (c *plCall) value(text string, typ uint32) datum {
	rows := c.sql("select " + text)
	if len(rows) == 0 || len(rows[0]) == 0 {
		return nil
	}
	d := rows[0][0]
	if typ == typVoid || d == nil {
		return d
	}
	if s, ok := d.(string); ok {
		return input(s, typ)
	}
	return cast(d, typUnknown, typ)
}

// sql runs a statement. SELECT … INTO name gives a variable the first value.
func (c *plCall) sql(text string) [][]datum {
	into := ""
	low := strings.ToLower(text)
	if from := max(strings.Index(low, " returning "), 0); strings.HasPrefix(low, "select") || from > 0 {
		if i := strings.Index(low[from:], " into "); i > 0 {
			i += from
			name, rest, _ := strings.Cut(strings.TrimSpace(text[i+6:])+" ", " ")
			into, text = strings.ToLower(name), text[:i]+" "+rest
		}
	}
	text = c.rows(text)
	list := parse(text)
	var rows [][]datum
	for _, s := range list {
		params, vals := c.scope()
		rows = c.se.nestedQuery(s, params, vals, false)
	}
	if v := c.vars[into]; v != nil {
		if v.val = nil; len(rows) > 0 {
			v.val = rows[0][0]
		}
	}
	return rows
}

// rows puts the values of NEW and OLD in place of their names.
func (c *plCall) rows(text string) string {
	if c.columns == nil {
		return text
	}
	for i, col := range c.columns {
		for name, row := range map[string][]datum{"new.": c.fresh, "old.": c.old} {
			if row == nil {
				continue
			}
			v := "null::" + infoOf(col.typ).name
			if row[i] != nil {
				v = "'" + strings.ReplaceAll(output(row[i]), "'", "''") + "'::" + infoOf(col.typ).name
			}
			text = strings.ReplaceAll(strings.ReplaceAll(text, name+col.name, v), strings.ToUpper(name)+col.name, v)
		}
	}
	return strings.ReplaceAll(text, "TG_OP", "'"+c.op+"'")
}

// raise is RAISE level 'format', values USING option = value.
func (c *plCall) raise(text string) {
	level, rest, _ := strings.Cut(text, " ")
	if strings.HasPrefix(level, "'") {
		level, rest = "exception", text
	}
	e := &Error{Severity: strings.ToUpper(level), Code: map[string]string{"exception": "P0001", "warning": "01000"}[strings.ToLower(level)]}
	if e.Code == "" {
		e.Code = "00000"
	}
	rest, using, _ := strings.Cut(rest, " using ")
	if using != "" {
		for option := range strings.SplitSeq(using, ", ") {
			name, value, _ := strings.Cut(option, "=")
			v := output(c.value(value, typText))
			switch strings.TrimSpace(strings.ToLower(name)) {
			case "errcode":
				e.Code = v
			case "detail":
				e.Detail = v
			case "hint":
				e.Hint = v
			}
		}
	}
	if rows := c.sql("select " + rest); len(rows) > 0 && len(rows[0]) > 0 {
		parts := strings.Split(output(rows[0][0]), "%")
		e.Message = parts[0]
		for i, p := range parts[1:] {
			v := "%"
			if i+1 < len(rows[0]) {
				v = output(rows[0][i+1])
			}
			e.Message += v + p
		}
	}
	if e.Severity == "EXCEPTION" {
		e.Severity = "ERROR"
		panic(e)
	}
	e.Where = c.where()
	c.se.notice(e)
}
