package tenant

import (
	"fmt"
	"hash/fnv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/setting"
)

// Text judges a text of one or several statements.
func (j *Judge) Text(text string) *Finding {
	tree, err := grammar.Parse(text)
	if err != nil {
		f := j.Unparsed(text)
		f.Verdict = max(f.Verdict, Unknown)
		return f
	}
	return j.Tree(text, tree)
}

// Unparsed judges a text that the parser refuses by its words: where a tenant table is named
// and its tenant column is not, the filter is missing; where it is, whether it filters is
// not known. Names that mean several things are taken for tables.
func (j *Judge) Unparsed(text string) *Finding {
	f := &Finding{}
	if !j.policy.Enabled() {
		return f
	}
	one := &judgement{Judge: j, byNode: map[occurrenceKey]*occurrence{}}
	w := wordsOf(text)
	if w.any {
		for _, t := range j.schema.AllTables() {
			w.list = append(w.list, t.Name)
		}
	}
	for _, name := range w.list {
		rv := &pg.RangeVar{Relname: name, Inh: true}
		if r := one.relation(rv); r.tenant || one.leads(r, 0) {
			one.occurrence(rv, r, w.use())
		}
	}
	for _, o := range one.found {
		if o.unbound = true; w.has[o.rel.column] || o.rel.column == "" && w.hasAny(j.policy.Columns) {
			o.kind, o.suggestion = KindUnparsed, "write it in the grammar of PostgreSQL 16"
		}
	}
	one.addTo(f)
	if f.Verdict == Missing && f.Kind == KindUnparsed {
		f.Verdict = Unknown
	}
	f.Fingerprint = w.fingerprint
	j.excuse(f, text)
	return f
}

// leads reports whether a view leads to a tenant table, or nobody knows.
func (j *judgement) leads(r *relation, depth int) (found bool) {
	if j.viewOf(r) == nil {
		return false
	}
	def := j.expand(r)
	if def == nil || depth > maxDepth {
		return true
	}
	eachNode(&pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: def}}, func(m any) bool {
		if rv, ok := m.(*pg.RangeVar); ok && !found {
			of := j.relation(rv)
			found = of.tenant || j.leads(of, depth+1)
		}
		return !found
	})
	return found
}

// words are those of a text, folded as names are.
type words struct {
	list        []string // each once
	any         bool     // some name may be any
	has         map[string]bool
	fingerprint string // equal for texts that differ in literals only
}

func wordsOf(text string) words {
	w := words{has: map[string]bool{}}
	hash := fnv.New64a()
	l := grammar.Lexer{Text: text}
	for t := l.Next(); t.Kind != grammar.End; t = l.Next() {
		if t.Kind == grammar.Bad { // by other settings what follows may be words
			w.any = true
			break
		}
		token := text[t.Start:t.End]
		switch t.Kind {
		case grammar.Word:
			token = setting.Fold(token)
		case grammar.Quoted:
			if token[0] != '"' { // U&"…", which may spell any name
				w.any = true
			}
			token = strings.ReplaceAll(token[strings.IndexByte(token, '"')+1:len(token)-1], `""`, `"`)
		case grammar.Literal:
			token = "?"
		case grammar.Comment:
			continue
		case grammar.Other, grammar.End, grammar.Bad:
		}
		_, _ = hash.Write([]byte(token + " "))
		if (t.Kind == grammar.Word || t.Kind == grammar.Quoted) && !w.has[token] {
			w.has[token] = true
			w.list = append(w.list, token)
		}
	}
	w.fingerprint = fmt.Sprintf("%016x", hash.Sum64())
	return w
}

func (w *words) hasAny(names []string) bool {
	for _, name := range names {
		if w.has[name] {
			return true
		}
	}
	return false
}

// use is what the text may do to the tables it names, the gravest.
func (w *words) use() Kind {
	switch {
	case w.has["truncate"]:
		return KindTruncate
	case w.has["update"], w.has["delete"], w.has["merge"]:
		return KindBulkWrite
	case w.has["select"], w.has["table"], !w.has["insert"] && !w.has["copy"]:
		return KindList
	}
	return KindInsert
}
