package router

import (
	"bytes"
	"math"

	"github.com/pgweir/pgweir/internal/grammar"
)

// str masks a plain string literal. One that holds a backslash means different
// things as standard_conforming_strings is on or off; a NUL ends the text.
func (m *masking) str() bool {
	text, n := m.text, len(m.text)
	if m.near == nearSettingName {
		return false // 'a' newline 'b' is one literal: the kept half would not be all of it
	}
	i := m.pos + 1
	for {
		short := min(i+shortString, n)
		for i < short && !strStop[text[i]] {
			i++
		}
		if i == short && i < n {
			i = longString(text, i)
		}
		if i >= n || text[i] != '\'' {
			return false
		}
		if i+1 < n && text[i+1] == '\'' {
			i += 2
			continue
		}
		break
	}
	m.start = false
	if m.near == nearSettingParen {
		if m.rec != nil {
			m.rec.kept = append(m.rec.kept, m.pos)
		}
		m.near = nearSettingName
		m.pos = i + 1
		return true
	}
	if m.rec != nil {
		m.rec.strings = append(m.rec.strings, [2]int{m.pos + 1, i})
	}
	m.near = nearNone
	m.replace(i+1, maskString)
	return true
}

// shortString is how much of a string is looked at byte by byte: what is longer is faster
// searched, 256 KiB in 20 µs.
const shortString = 32

// longString is the offset of the first byte at or behind i at which the scan of a string
// stops; a backslash or NUL before the quote is one.
func longString(text []byte, i int) int {
	quote := bytes.IndexByte(text[i:], '\'')
	if quote < 0 {
		return len(text)
	}
	for _, stop := range []byte{'\\', 0} {
		if at := bytes.IndexByte(text[i:i+quote], stop); at >= 0 {
			return i + at
		}
	}
	return i + quote
}

// number masks an integer or decimal. Anything that runs on after it (0x1F,
// 1_000, 1..2, 1a) is read differently by different versions.
func (m *masking) number() bool {
	text, i, n := m.text, m.pos, len(m.text)
	value, float := int64(0), false
	for ; i < n && isDigit(text[i]); i++ {
		if value <= math.MaxInt32 {
			value = value*10 + int64(text[i]-'0')
		}
	}
	if i < n && text[i] == '.' {
		float = true
		for i++; i < n && isDigit(text[i]); i++ {
		}
	}
	if i < n && text[i]|0x20 == 'e' {
		float = true
		i++
		if i < n && (text[i] == '+' || text[i] == '-') {
			i++
		}
		if i >= n || !isDigit(text[i]) {
			return false
		}
		for ; i < n && isDigit(text[i]); i++ {
		}
	}
	if i < n && (identByte[text[i]] || text[i] == '.' || text[i] == '\'' || text[i] == '"') {
		return false
	}
	if m.near == nearFloatParen {
		return false
	}
	if float || value > math.MaxInt32 {
		m.replace(i, maskFloat)
	} else {
		m.replace(i, maskInt)
	}
	m.near, m.start = nearNone, false
	return true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// param copies $1; a dollar quote is not masked.
func (m *masking) param() bool {
	i, n := m.pos+1, len(m.text)
	if i >= n || !isDigit(m.text[i]) {
		return false
	}
	for i < n && isDigit(m.text[i]) {
		i++
	}
	m.near, m.start = nearNone, false
	m.pos = i
	return true
}

func (m *masking) quotedIdent() bool {
	end := bytes.IndexByte(m.text[m.pos+1:], '"')
	if end < 0 {
		return false
	}
	end += m.pos + 2
	if bytes.IndexByte(m.text[m.pos:end], 0) >= 0 {
		return false
	}
	m.near, m.start = nearNone, false
	m.pos = end
	return true
}

// dashOrSlash masks a comment, or copies the one character.
func (m *masking) dashOrSlash(c byte) bool {
	if m.pos+1 < len(m.text) {
		next := m.text[m.pos+1]
		switch {
		case c == '-' && next == '-':
			return m.comment(lineCommentEnd(m.text, m.pos), maskLine)
		case c == '/' && next == '*':
			return m.comment(blockCommentEnd(m.text, m.pos), maskComment)
		}
	}
	m.other()
	return true
}

// comment masks a comment that ends at end. A comment means nothing to the
// parser, but one that speaks of the proxy may be a hint and stays.
func (m *masking) comment(end int, as byte) bool {
	if end < 0 {
		return false
	}
	body := m.text[m.pos:end]
	if bytes.IndexByte(body, 0) >= 0 {
		return false
	}
	if bytes.Contains(body, hintWord) {
		if at := grammar.Traceparent(body); at >= 0 {
			m.pos += at
			m.replace(m.pos+grammar.TraceparentSize, maskParent)
		}
		m.pos = end
		return true
	}
	m.replace(end, as)
	return true
}

// lineCommentEnd is the offset of the line end after the comment at i, or the
// text's length.
func lineCommentEnd(text []byte, i int) int {
	for i < len(text) && text[i] != '\n' && text[i] != '\r' {
		i++
	}
	return i
}

// blockCommentEnd is the offset behind the comment at i, comments nested in it
// included, or -1 if it does not end.
func blockCommentEnd(text []byte, i int) int {
	depth := 0
	for i+1 < len(text) {
		switch {
		case text[i] == '/' && text[i+1] == '*':
			depth++
			i += 2
		case text[i] == '*' && text[i+1] == '/':
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return -1
}
