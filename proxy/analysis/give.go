package analysis

import (
	"bytes"
	"regexp"
	"slices"

	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/router"
)

// give has what runs find the statements it names under their client's names, where the proxy
// cannot put others into the text: in a string of several statements, and in code that has it
// in a string. Their session keeps its connection then.
func (a *Analysis) give(m *batch.Message) {
	if len(a.Names.All()) == 0 || !mayName(m.Plan) || a.state().Tx.Phase.Failed() {
		return
	}
	for _, found := range naming.FindAllSubmatch(a.b.Text(m, a.Front.Buffered(), &a.Names.Unnamed), -1) {
		name := identifier(found[2])
		st := a.names.Statement(name)
		if st == nil || a.Names.Statement(string(name)) != st {
			continue
		}
		if !slices.ContainsFunc(m.Gives, func(g batch.Given) bool { return g.Statement == st }) {
			m.Gives = append(m.Gives, batch.Given{Name: string(name), Statement: st})
		}
		if m.Plan.Statements > 1 && (found[1][0] == 'd' || found[1][0] == 'D') {
			m.Drops = append(m.Drops, string(name))
		}
	}
	if len(m.Gives) == 0 {
		return
	}
	p := *m.Plan
	p.Target, p.Pins = router.TargetPrimary, p.Pins|router.PinPrepared
	m.Plan = &p
	a.b.Traits |= batch.Rewritten
	a.b.Note(&p)
}

// mayName reports whether what runs may name prepared statements, and is not one PREPARE,
// EXECUTE or DEALLOCATE.
func mayName(p *router.Plan) bool {
	return p.SQL.Verb == router.PreparedNone && (p.Pins&router.PinPrepared != 0 || p.Reason == router.ReasonUtility)
}

// naming finds where a text, or a string in it, may name a prepared statement.
var naming = regexp.MustCompile(`(?i)\b(prepare|execute|deallocate(?:\s+prepare)?)\s+("(?:[^"]|"")+"|[^\s"'();]+)`)

// identifier is the name that an identifier in SQL stands for.
func identifier(word []byte) []byte {
	if word[0] != '"' {
		return bytes.ToLower(word)
	}
	return bytes.ReplaceAll(word[1:len(word)-1], []byte(`""`), []byte(`"`))
}
