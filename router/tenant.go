package router

import (
	"bytes"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/router/tenant"
)

// span is where the mask left something out of the key: [start, end) of the text.
type span struct {
	start, end int
	mark       byte
}

func (s span) literal() bool {
	return s.mark != maskComment && s.mark != maskLine && s.mark != maskParent
}

// place finds one literal in any text of its Plan's key. Texts of one key differ
// in what the mask leaves out and in nothing else, so the way to a literal is the
// same in all: so many bytes, over a literal or comment, so many bytes …
type place struct {
	gaps     []int  // bytes before each; the last one is before the literal itself
	marks    []byte // what stands behind each gap
	negative bool   // a minus sign stands before it
}

// judgeTenant finds out whether the text filters by tenant. Its literals are no part of the key.
func (a *analysis) judgeTenant(tree *pg.ParseResult, plan *Plan) {
	if a.tenants == nil {
		return
	}
	f := a.tenants.Tree(a.text, tree)
	if f.Verdict == tenant.NotTenant {
		return
	}
	if in := plan.SQL.Inner; in != nil {
		// EXECUTE will not have this text: its literals are what they are now.
		a.dependent = a.dependent || len(f.Values) > 0
		in.Tenant = f
	}
	plan.Tenant = f
	plan.literals.tenants = a.places(f)
}

// places finds the way to every literal among the values. Those that are part of the
// key have none.
func (a *analysis) places(f *tenant.Finding) []*place {
	var list []*place
	for i := range f.Values {
		v := &f.Values[i]
		if v.Param > 0 || v.Setting != "" || v.Offset < 0 {
			continue
		}
		if list == nil {
			list = make([]*place, len(f.Values))
		}
		list[i] = a.place(v.Offset)
	}
	return list
}

// place is the way to the literal at offset: a part of the way through the whole text.
func (a *analysis) place(offset int) *place {
	p := &place{negative: offset < len(a.text) && a.text[offset] == '-'}
	spans := a.rec.spans
	i, _ := slices.BinarySearchFunc(spans, offset, func(s span, offset int) int { return s.start - offset })
	for p.negative && i < len(spans) && !spans[i].literal() {
		i++ // a comment behind the sign
	}
	if i == len(spans) || !spans[i].literal() || !p.negative && spans[i].start != offset {
		return nil
	}
	if a.way.gaps == nil {
		at := 0
		for _, s := range spans {
			a.way.gaps, a.way.marks = append(a.way.gaps, s.start-at), append(a.way.marks, s.mark)
			at = s.end
		}
	}
	p.gaps, p.marks = a.way.gaps[:i+1], a.way.marks[:i+1]
	return p
}

// TenantLiteral is the value number i of p.Tenant, as text says it, which must be one
// of p's. ok is false if the value is no literal.
//
// It costs 20 ns of CPU if few literals stand before it, and allocates the string.
func (p *Plan) TenantLiteral(i int, text []byte) (value string, ok bool) {
	v := &p.Tenant.Values[i]
	if v.Param > 0 || v.Setting != "" {
		return "", false
	}
	if i >= len(p.literals.tenants) || p.literals.tenants[i] == nil {
		return v.Text, true
	}
	return p.literals.tenants[i].read(text)
}

// continues reports whether the literal before span number i goes on there: strings with
// nothing but white space and comments between them may be one.
func (r *maskRecord) continues(text string, i int) bool {
	for spans := r.spans; i < len(spans); i++ {
		if strings.TrimSpace(text[spans[i-1].end:spans[i].start]) != "" {
			return false
		}
		if spans[i].literal() {
			return spans[i].mark == maskString
		}
	}
	return false
}

func (p *place) read(text []byte) (string, bool) { return (&placeReader{text: text}).read(p) }

// placeReader reads places of one Plan in a text. In the order of the text it passes over
// each byte once.
type placeReader struct {
	text    []byte
	n       int // literals passed
	at, end int // of the last of them
}

func (r *placeReader) read(p *place) (string, bool) {
	if r.n > len(p.gaps) {
		*r = placeReader{text: r.text}
	}
	for ; r.n < len(p.gaps); r.n++ {
		r.at = r.end + p.gaps[r.n]
		if r.at >= len(r.text) {
			return "", false // another Plan's text
		}
		if r.end = skipMark(r.text, r.at, p.marks[r.n]); r.end < 0 {
			return "", false
		}
	}
	if p.marks[len(p.marks)-1] == maskString {
		s := string(r.text[r.at+1 : r.end-1])
		return strings.ReplaceAll(s, "''", "'"), true
	}
	digits := r.text[r.at:r.end]
	for len(digits) > 1 && digits[0] == '0' && isDigit(digits[1]) {
		digits = digits[1:]
	}
	if p.negative {
		return "-" + string(digits), true
	}
	return string(digits), true
}

// skipMark is the end of what the mask left out at the given offset, -1 if it is not there.
func skipMark(text []byte, at int, mark byte) int {
	switch mark {
	case maskComment:
		return blockCommentEnd(text, at)
	case maskLine:
		return lineCommentEnd(text, at)
	case maskParent:
		return at + grammar.TraceparentSize
	case maskString:
		for i := at + 1; ; i += 2 {
			n := bytes.IndexByte(text[i:], '\'')
			if n < 0 {
				return -1
			}
			if i += n; i+1 >= len(text) || text[i+1] != '\'' {
				return i + 1
			}
		}
	}
	return numberEnd(text, at)
}

// numberEnd is the end of a number that the mask left out, so that its form is certain.
func numberEnd(text []byte, i int) int {
	from := i
	for i < len(text) && (isDigit(text[i]) || text[i] == '.') {
		i++
	}
	if i < len(text) && text[i]|0x20 == 'e' {
		if i++; i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		for i < len(text) && isDigit(text[i]) {
			i++
		}
	}
	if i == from {
		return -1
	}
	return i
}

// withArguments is p, executed by EXECUTE with the given arguments, which its parameters stand for.
func (p *Plan) withArguments(args []argument) *Plan {
	if p.Tenant == nil || !slices.ContainsFunc(p.Tenant.Values, func(v tenant.Value) bool { return v.Param > 0 }) {
		return p
	}
	both, f := *p, *p.Tenant
	both.Tenant = &f
	f.Values, both.literals.tenants = nil, nil
	for _, v := range p.Tenant.Values {
		var at *place
		if v.Param > 0 {
			if v.Param > len(args) || !args[v.Param-1].known {
				continue
			}
			arg := args[v.Param-1]
			arg.value.Array, arg.value.Stored, arg.value.Column = v.Array, v.Stored, v.Column
			v, at = arg.value, arg.place
		}
		f.Values, both.literals.tenants = append(f.Values, v), append(both.literals.tenants, at)
	}
	return &both
}

// argument is one of EXECUTE's.
type argument struct {
	value tenant.Value
	place *place
	known bool // it is a literal or a parameter
}

// arguments are those of an EXECUTE.
func (a *analysis) arguments(list []*pg.Node) []argument {
	if a.tenants == nil {
		return nil
	}
	args := make([]argument, len(list))
	for i, n := range list {
		v, ok := tenant.ValueOf(n)
		args[i] = argument{value: v, known: ok}
		if ok && v.Param == 0 && v.Setting == "" {
			args[i].place = a.place(v.Offset)
		}
	}
	return args
}
