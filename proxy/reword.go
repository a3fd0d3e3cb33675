package proxy

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/wire"
)

// Servers know prepared statements by other names than clients do, and a text that
// bears such a name is another text. What a server says of either is put into the
// client's words.

// reword returns an ErrorResponse as the client is to see it: frame itself if
// nothing in it needs another word.
func (c *client) reword(u *unit, o *op, frame []byte) []byte {
	shift := c.shift(u, o)
	if shift.by == 0 && !bytes.Contains(frame, []byte(prepared.NamePrefix)) {
		return frame
	}
	var body []byte
	for b := frame[wire.HeaderSize:]; len(b) > 1 && b[0] != 0; {
		value, rest, ok := wire.CString(b[1:])
		if !ok {
			return frame
		}
		text := c.ownNames(o, string(value))
		if b[0] == 'P' {
			text = shift.apply(text)
		}
		body = append(append(append(body, b[0]), text...), 0)
		b = rest
	}
	return wire.AppendFrame(nil, wire.ErrorResponse, body, []byte{0})
}

// ownNames puts the client's names of statements in the place of the servers'.
func (c *client) ownNames(o *op, text string) string {
	if !strings.Contains(text, prepared.NamePrefix) {
		return text
	}
	pairs := []string{}
	add := func(server, name string) { pairs = append(pairs, `"`+server+`"`, `"`+name+`"`) }
	if o.sql != nil && o.sql.makes != nil {
		add(o.sql.makes.Name, o.sql.name)
	}
	for name, st := range c.statements {
		add(st.Name, name)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// shift is by how many characters positions behind a point of a text are off.
type shift struct{ behind, by int }

// shift is that of the text an op sent in place of the client's.
func (c *client) shift(u *unit, o *op) shift {
	if o.text == "" || o.off+o.size > u.size || o.size == 0 {
		return shift{}
	}
	frame := c.front.Buffered()[o.off : o.off+o.size]
	text, _ := wire.QueryText(frame)
	if o.kind == opParse {
		_, text, _, _ = wire.ParseParts(frame)
	}
	same := 0
	for same < len(text) && same < len(o.text) && text[same] == o.text[same] {
		same++
	}
	return shift{
		behind: utf8.RuneCount(text[:same]),
		by:     utf8.RuneCountInString(o.text) - utf8.RuneCount(text),
	}
}

func (s shift) apply(position string) string {
	n, err := strconv.Atoi(position)
	if err != nil || n <= s.behind {
		return position
	}
	return strconv.Itoa(n - s.by)
}
