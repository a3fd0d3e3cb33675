package client

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
)

// Servers know prepared statements by other names than clients do, and a text that
// bears such a name is another text. What a server says of either is put into the
// client's words.

// reword returns an ErrorResponse as the client is to see it: frame itself if
// nothing in it needs another word.
func (o outcomes) reword(a *batch.Awaited, frame []byte) []byte {
	m := a.Message
	if m == nil {
		m = noMessage
	}
	shift := o.shift(m)
	if shift.by == 0 && !bytes.Contains(frame, []byte(prepared.NamePrefix)) {
		return frame
	}
	var body []byte
	for b := frame[wire.HeaderSize:]; len(b) > 1 && b[0] != 0; {
		value, rest, ok := wire.CString(b[1:])
		if !ok {
			return frame
		}
		text := o.clientNames(m, string(value))
		if b[0] == 'P' {
			text = shift.apply(text)
		}
		body = append(append(append(body, b[0]), text...), 0)
		b = rest
	}
	return wire.AppendFrame(nil, wire.ErrorResponse, body, []byte{0})
}

// noMessage stands for a message of the proxy's own.
var noMessage = &batch.Message{}

// clientNames puts the client's names of statements in the place of the servers'.
func (o outcomes) clientNames(m *batch.Message, text string) string {
	if !strings.Contains(text, prepared.NamePrefix) {
		return text
	}
	pairs := []string{}
	add := func(server, name string) { pairs = append(pairs, `"`+server+`"`, `"`+name+`"`) }
	if m.SQL != nil && m.SQL.Makes != nil {
		add(m.SQL.Makes.Name, m.SQL.Name)
	}
	if m.Kind == batch.Parse && m.Prepared != nil {
		add(m.Prepared.Name, m.Name)
	}
	for name, p := range o.c.names.All() {
		add(p.Name, name)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// shift is by how many characters positions behind a point of a text are off.
type shift struct{ behind, by int }

// shift is that of the text that a message sent in place of the client's.
func (o outcomes) shift(m *batch.Message) shift {
	if m.Text == "" || m.Off+m.Size > o.batch.Size || m.Size == 0 {
		return shift{}
	}
	frame := o.c.front.Buffered()[m.Off : m.Off+m.Size]
	text, _ := wire.QueryText(frame)
	if m.Kind == batch.Parse {
		_, text, _, _ = wire.ParseParts(frame)
	}
	same := 0
	for same < len(text) && same < len(m.Text) && text[same] == m.Text[same] {
		same++
	}
	return shift{
		behind: utf8.RuneCount(text[:same]),
		by:     utf8.RuneCountInString(m.Text) - utf8.RuneCount(text),
	}
}

func (s shift) apply(position string) string {
	n, err := strconv.Atoi(position)
	if err != nil || n <= s.behind {
		return position
	}
	return strconv.Itoa(n - s.by)
}
