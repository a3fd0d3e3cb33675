package router

import (
	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/grammar"
)

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
	a.cur.dropSets()
	a.cur.settle()
	a.cur = outer
	plan := join(inner)
	outer.sql = Prepared{Verb: PreparedPrepare, Name: s.GetName(), Inner: plan}
	if outer.unproved == ReasonNone {
		outer.fix(plan.Class, plan.Target, plan.Reason)
	}
	if plan.neverOnReplica {
		outer.notRead = plan.Reason
	}
}

// execute is EXECUTE: the proxy finds the prepared statement by its name and
// takes the stricter of both Plans. Here only the arguments are judged.
func (a *analysis) execute(s *pg.ExecuteStmt) {
	for _, p := range s.GetParams() {
		a.node(p)
	}
	a.cur.sql = Prepared{Verb: PreparedExecute, Name: s.GetName()}
	a.cur.args = a.arguments(s.GetParams())
	if a.cur.notRead == ReasonNone && a.cur.unproved == ReasonNone && a.cur.pins == 0 {
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
	f := nameFinder{Lexer: grammar.Lexer{Text: a.text}}
	if at := f.find(); at.Kind == grammar.Word || at.Kind == grammar.Quoted {
		p.SQL.NameStart, p.SQL.NameEnd = at.Start, at.End
		a.dependent = a.dependent || f.comments
		return
	}
	p.SQL = Prepared{}
	p.Class, p.Target, p.Reason = ClassUnknown, TargetPrimary, ReasonUtility
	p.Pins |= PinPrepared
}

// nameFinder walks the tokens of a statement up to the name.
type nameFinder struct {
	grammar.Lexer
	comments bool // some were passed: their length is not part of the key
}

// step takes the next token that is not a comment.
func (f *nameFinder) step() grammar.Token {
	t := f.Next()
	for t.Kind == grammar.Comment {
		f.comments = true
		t = f.Next()
	}
	return t
}

func (f *nameFinder) find() grammar.Token {
	t := f.step()
	for f.Is(t, ';') {
		t = f.step()
	}
	switch f.Word(t) {
	case "prepare", "execute":
		return f.step()
	case "deallocate":
		return f.deallocated()
	case "explain":
		return f.after("execute")
	case "create":
		return f.created()
	}
	return grammar.Token{}
}

// deallocated passes the optional PREPARE, which may also be the name itself.
func (f *nameFinder) deallocated() grammar.Token {
	t := f.step()
	if f.Word(t) != "prepare" {
		return t
	}
	if name := f.step(); name.Kind == grammar.Word || name.Kind == grammar.Quoted {
		return name
	}
	return t
}

// after finds what follows word outside parentheses.
func (f *nameFinder) after(word string) grammar.Token {
	depth := 0
	for t := f.step(); t.Kind != grammar.End && t.Kind != grammar.Bad; t = f.step() {
		switch {
		case f.Is(t, '('):
			depth++
		case f.Is(t, ')'):
			depth--
		case depth == 0 && f.Word(t) == word:
			return f.step()
		}
	}
	return grammar.Token{}
}

// created finds the name in CREATE TABLE … AS EXECUTE name; AS is reserved.
func (f *nameFinder) created() grammar.Token {
	for {
		switch t := f.after("as"); {
		case t.Kind == grammar.End || t.Kind == grammar.Bad:
			return grammar.Token{}
		case f.Word(t) == "execute":
			return f.step()
		}
	}
}
