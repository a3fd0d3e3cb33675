package grammar

import (
	"crypto/rand"
	"errors"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The parser copies a text, and each literal in it, eight times over on its way to the tree.
// So long literals are kept from it: short words stand for them, and the tree gets them back.

// longLiteral is from which size on a literal is kept from the parser, in bytes.
const longLiteral = 64 << 10

// shortened is a text with a word in place of each long literal's content.
type shortened struct {
	text string
	mark string // words are mark0, mark1, …
	cuts []cut
}

// cut is a literal that was shortened.
type cut struct {
	at    int    // where it begins in the shortened text
	less  int    // by how much shorter is the text up to its end
	value string // what it means; perhaps a part of the text
}

// shorten shortens literals of at least so many bytes, 4 or more: behind UESCAPE the grammar
// looks at one character. No literal may mean anything that
// begins with mark. What is not certain to be one literal with one meaning stays.
func shorten(text, mark string, long int) *shortened {
	s := &shortened{text: text, mark: mark}
	switch {
	case len(text) < long, !strings.Contains(text, "'") && !strings.Contains(text, "$"): // nothing is a literal of that size
		return s
	case strings.Contains(text, "\x00"): // to the parser, that would be its end
		return s
	}
	var out strings.Builder
	end, l := 0, Lexer{Text: text}
	for t := l.Next(); t.Kind != End; t = l.Next() {
		switch {
		case t.Kind == Bad:
			return &shortened{text: text}
		case t.Kind != Literal || t.End-t.Start < long, !utf8.ValidString(text[t.Start:t.End]): // no tree holds that
			continue
		}
		before, value, after, ok := content(text[t.Start:t.End])
		if !ok {
			continue
		}
		out.WriteString(text[end:t.Start])
		at := out.Len()
		out.WriteString(before + mark + strconv.Itoa(len(s.cuts)) + after)
		if end = t.End; 2*len(value) < len(text) { // who keeps the value would keep the text
			value = strings.Clone(value)
		}
		s.cuts = append(s.cuts, cut{at, end - out.Len(), value})
	}
	if len(s.cuts) > 0 {
		out.WriteString(text[end:])
		s.text = out.String()
	}
	return s
}

// content is what a literal means, and what stands before and behind it. ok is false for
// what is none in one piece, or none of these: '…', E'…' with simple escapes, $tag$…$tag$.
func content(literal string) (before, value, after string, ok bool) {
	switch {
	case literal[0] == '\'':
		value, ok = unquoted(literal[1:len(literal)-1], false)
		return "'", value, "'", ok
	case literal[0]|0x20 == 'e':
		value, ok = unquoted(literal[2:len(literal)-1], true)
		return literal[:2], value, "'", ok
	case literal[0] == '$' && !isParameter(literal):
		n := strings.IndexByte(literal[1:], '$') + 2
		return literal[:n], literal[n : len(literal)-n], literal[len(literal)-n:], true
	}
	return "", "", "", false
}

// unquoted is what stands for s between quotes. It refuses escapes that are numbers, and
// quotes that stand alone: the literal is continued on another line.
func unquoted(s string, escapes bool) (string, bool) {
	stops := "'"
	if escapes {
		stops = `'\`
	}
	i := strings.IndexAny(s, stops)
	if i < 0 {
		return s, true
	}
	out := make([]byte, 0, len(s))
	for ; i >= 0; i = strings.IndexAny(s, stops) {
		if i+1 >= len(s) {
			return "", false
		}
		c, ok := s[i+1], s[i+1] == '\''
		if s[i] == '\\' {
			c, ok = unescape(c)
		}
		if !ok {
			return "", false
		}
		out = append(append(out, s[:i]...), c)
		s = s[i+2:]
	}
	return string(append(out, s...)), true
}

// unescape is what \c means in E'…'.
func unescape(c byte) (byte, bool) {
	switch c {
	case '\\', '\'', '"':
		return c, true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	}
	return 0, false
}

// errLost is that the parser did something with a literal that was kept from it.
var errLost = errors.New("a shortened literal is not in the tree as it is")

// parse is the tree of text, whatever is long in it.
func parse(text string, long int) (*pg.ParseResult, error) {
	s := &shortened{text: text}
	if len(text) >= long { // the usual text needs no mark that nobody can guess
		s = shorten(text, rand.Text(), long)
	}
	if TooDeep(s.text) {
		return nil, ErrTooDeep
	}
	tree, err := pg.Parse(s.text)
	if err != nil || len(s.cuts) == 0 {
		return tree, err
	}
	if err := s.restore(tree); err != nil {
		return pg.Parse(text)
	}
	return tree, nil
}

// restore gives the tree of the shortened text the literals and places of the original.
func (s *shortened) restore(tree *pg.ParseResult) error {
	for _, raw := range tree.GetStmts() {
		if raw.StmtLen > 0 { // 0 is up to the end
			raw.StmtLen = s.place(raw.StmtLocation+raw.StmtLen) - s.place(raw.StmtLocation)
		}
	}
	left := len(s.cuts)
	s.message(tree.ProtoReflect(), &left)
	if left != 0 {
		return errLost
	}
	return nil
}

// message restores a part of the tree, and counts the literals down that it finds.
func (s *shortened) message(m protoreflect.Message, left *int) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			for i, list := 0, v.List(); i < list.Len(); i++ {
				s.message(list.Get(i).Message(), left)
			}
		case f.IsList():
		case f.Kind() == protoreflect.MessageKind:
			s.message(v.Message(), left)
		case f.Kind() == protoreflect.StringKind:
			if number, ok := strings.CutPrefix(v.String(), s.mark); ok {
				if i, err := strconv.Atoi(number); err == nil && i < len(s.cuts) {
					m.Set(f, protoreflect.ValueOfString(s.cuts[i].value))
					*left--
				}
			}
		case f.Name() == "location" || f.Name() == "stmt_location":
			m.Set(f, protoreflect.ValueOfInt32(s.place(int32(v.Int()))))
		}
		return true
	})
}

// place is where in the original is what is at i in the shortened text.
func (s *shortened) place(i int32) int32 {
	if n := sort.Search(len(s.cuts), func(n int) bool { return s.cuts[n].at >= int(i) }); n > 0 {
		i += int32(s.cuts[n-1].less)
	}
	return i
}
