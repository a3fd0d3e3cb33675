package router

import pg "github.com/pganalyze/pg_query_go/v5"

// prepare is PREPARE: nothing happens yet, so what the statement may leave
// behind is noted in the inner Plan only.
func (a *analysis) prepare(s *pg.PrepareStmt) {
	outer := a.cur
	for _, t := range s.GetArgtypes() {
		a.node(t)
	}
	inner := make([]verdict, 1)
	a.cur = &inner[0]
	a.statement(s.GetQuery())
	a.cur.settle()
	a.cur = outer
	plan := join(inner)
	outer.sql = Prepared{Verb: PreparedPrepare, Name: s.GetName(), Inner: plan}
	if outer.caution == ReasonNone {
		outer.fix(plan.Class, plan.Target, plan.Reason)
	}
	if plan.obstinate {
		outer.hard = plan.Reason
	}
}

// execute is EXECUTE: the proxy finds the prepared statement by its name and
// takes the stricter of both Plans. Here only the arguments are judged.
func (a *analysis) execute(s *pg.ExecuteStmt) {
	for _, p := range s.GetParams() {
		a.node(p)
	}
	a.cur.sql = Prepared{Verb: PreparedExecute, Name: s.GetName()}
	if a.cur.hard == ReasonNone && a.cur.caution == ReasonNone && a.cur.pins == 0 {
		a.cur.fix(ClassUnknown, TargetAny, ReasonUtility)
	}
}

func (a *analysis) deallocate(s *pg.DeallocateStmt) {
	a.cur.sql = Prepared{Verb: PreparedDeallocate, Name: s.GetName()}
	if s.GetName() == "" {
		a.cur.sql.Verb = PreparedDeallocateAll
	}
	a.cur.fix(ClassRead, TargetAny, ReasonUtility)
}

// locateName finds where in the text the name of the prepared statement stands.
// If it cannot, the statement stays on one server connection.
func (a *analysis) locateName(p *Plan) {
	scan, err := pg.Scan(a.text)
	if err == nil {
		n := nameFinder{tokens: scan.GetTokens()}
		if at := n.find(p.SQL.Verb); at != nil {
			p.SQL.NameStart, p.SQL.NameEnd = int(at.GetStart()), int(at.GetEnd())
			a.dependent = a.dependent || n.comments
			return
		}
	}
	p.SQL = Prepared{}
	p.Class, p.Target, p.Reason = ClassUnknown, TargetPrimary, ReasonUtility
	p.Pins |= PinPrepared
}

// nameFinder walks the tokens of a statement up to the name.
type nameFinder struct {
	tokens   []*pg.ScanToken
	comments bool // some were passed: their length is not part of the key
}

// next takes the next token that is not a comment; nil at the end.
func (f *nameFinder) next() *pg.ScanToken {
	for len(f.tokens) > 0 {
		t := f.tokens[0]
		f.tokens = f.tokens[1:]
		if k := t.GetToken(); k != pg.Token_SQL_COMMENT && k != pg.Token_C_COMMENT {
			return t
		}
		f.comments = true
	}
	return nil
}

func (f *nameFinder) find(verb PreparedVerb) *pg.ScanToken {
	t := f.next()
	for t != nil && t.GetToken() == pg.Token_ASCII_59 {
		t = f.next()
	}
	if t == nil {
		return nil
	}
	switch t.GetToken() {
	case pg.Token_PREPARE, pg.Token_EXECUTE:
		return f.next()
	case pg.Token_DEALLOCATE:
		return f.deallocated()
	case pg.Token_EXPLAIN:
		return f.explained()
	case pg.Token_CREATE:
		return f.created()
	}
	return nil
}

// deallocated passes the optional PREPARE, which may also be the name itself.
func (f *nameFinder) deallocated() *pg.ScanToken {
	t := f.next()
	if t.GetToken() != pg.Token_PREPARE {
		return t
	}
	if name := f.next(); name != nil && name.GetToken() != pg.Token_ASCII_59 {
		return name
	}
	return t
}

// explained passes the options of EXPLAIN.
func (f *nameFinder) explained() *pg.ScanToken {
	for t := f.next(); t != nil; t = f.next() {
		switch t.GetToken() {
		case pg.Token_ASCII_40:
			f.group()
		case pg.Token_EXECUTE:
			return f.next()
		}
	}
	return nil
}

// group passes the rest of a parenthesis.
func (f *nameFinder) group() {
	for depth := 1; depth > 0; {
		t := f.next()
		if t == nil {
			return
		}
		switch t.GetToken() {
		case pg.Token_ASCII_40:
			depth++
		case pg.Token_ASCII_41:
			depth--
		}
	}
}

// created finds the name in CREATE TABLE … AS EXECUTE name.
func (f *nameFinder) created() *pg.ScanToken {
	for t := f.next(); t != nil; t = f.next() {
		switch t.GetToken() {
		case pg.Token_ASCII_40:
			f.group()
		case pg.Token_AS:
			if t = f.next(); t.GetToken() == pg.Token_EXECUTE {
				return f.next()
			}
		}
	}
	return nil
}
