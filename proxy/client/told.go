package client

import (
	"slices"
	"strings"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/session"
)

// told is what the client was told of the settings that servers report
// (ParameterStatus). It is told those of its session, which any connection takes over
// and reports anew: the difference to what it knows goes before ReadyForQuery.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
type told struct {
	atLogin map[string]string // shared
	since   map[string]string
	pending bool // there may be something it has yet to be told
	texts   texts
	hints   int // that are misspelt; it is told of the first
}

// texts is whether the router understands the session's texts, by what its client was told.
type texts uint8

const (
	textsUnderstood texts = iota
	textsMisread
)

// value is what the client was told last of a setting.
func (t *told) value(name string) string {
	if v, ok := t.since[name]; ok {
		return v
	}
	return t.atLogin[name]
}

// judgeTexts finds out whether, by what it was told, the router may misunderstand its texts.
func (t *told) judgeTexts() {
	t.texts = textsUnderstood
	if session.Misreads(t.value("standard_conforming_strings"), t.value("client_encoding")) {
		t.texts = textsMisread
	}
}

// report adds what the client has yet to be told, now being what its server connection
// reports.
func (t *told) report(to []byte, now map[string]string) []byte {
	t.pending = false
	var news []string
	for name, value := range now {
		known, ok := t.since[name]
		if !ok {
			known, ok = t.atLogin[name]
		}
		if (!ok || known != value) && name != "in_hot_standby" { // one ordinary server is no standby
			news = append(news, name)
		}
	}
	slices.SortFunc(news, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	for _, name := range news {
		if t.since == nil {
			t.since = map[string]string{}
		}
		t.since[name] = now[name]
		to = wire.AppendParameter(to, name, now[name])
	}
	t.judgeTexts()
	return to
}
