package batch

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/session"
)

// Servers know prepared statements by other names than clients do, and a text that
// bears such a name is another text. What a server says of either is put into the
// client's words.

// Reword returns an ErrorResponse to a as the client is to see it: frame itself if
// nothing in it needs another word. asked are the batch's bytes.
func Reword(a *Awaited, frame, asked []byte, names *session.Names) []byte {
	m := a.Message
	if m == nil {
		m = noMessage
	}
	shift := m.shift(asked)
	if shift.by == 0 && !bytes.Contains(frame, []byte(prepared.NamePrefix)) {
		return frame
	}
	var body []byte
	for f := frame[wire.HeaderSize:]; len(f) > 1 && f[0] != 0; {
		value, rest, ok := wire.CString(f[1:])
		if !ok {
			return frame
		}
		text := m.clientNames(string(value), names)
		if f[0] == 'P' {
			text = shift.apply(text)
		}
		body = append(append(append(body, f[0]), text...), 0)
		f = rest
	}
	return wire.AppendFrame(nil, wire.ErrorResponse, body, []byte{0})
}

// noMessage stands for a message of the proxy's own.
var noMessage = &Message{}

// clientNames puts the client's names of statements in the place of the servers'.
func (m *Message) clientNames(text string, names *session.Names) string {
	if !strings.Contains(text, prepared.NamePrefix) {
		return text
	}
	pairs := []string{}
	add := func(server, name string) { pairs = append(pairs, `"`+server+`"`, `"`+name+`"`) }
	if m.SQL != nil && m.SQL.Makes != nil {
		add(m.SQL.Makes.Name, m.SQL.Name)
	}
	if m.Kind == Parse && m.Prepared != nil {
		add(m.Prepared.Name, m.Name)
	}
	for name, p := range names.All() {
		add(p.Name, name)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// shift is by how many characters positions behind a point of a text are off.
type shift struct{ behind, by int }

// shift is that of the text that a message sent in place of the client's.
func (m *Message) shift(asked []byte) shift {
	if m.Text == "" || m.Off+m.Size > len(asked) || m.Size == 0 {
		return shift{}
	}
	frame := asked[m.Off : m.Off+m.Size]
	text, _ := wire.QueryText(frame)
	if m.Kind == Parse {
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
