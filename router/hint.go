package router

import (
	"strings"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/router/tenant"
)

// hintWord stands in every comment that may be a hint; such comments stay in
// the key of the cache.
var hintWord = []byte("pgweir")

const hintPrefix = "pgweir:"

// findHint reads the wish in the comments of text: /* pgweir:primary */ or
// -- pgweir:replica, alone or among other words, in lower case. If comments
// contradict each other, the primary wins.
func findHint(text string) Route {
	if !strings.Contains(text, hintPrefix) {
		return RouteAuto
	}
	found := RouteAuto
	l := grammar.Lexer{Text: text}
	for t := l.Next(); t.Kind != grammar.End && t.Kind != grammar.Bad; t = l.Next() {
		if t.Kind != grammar.Comment {
			continue
		}
		switch hintIn(text[t.Start:t.End]) {
		case RoutePrimary:
			return RoutePrimary
		case RouteReplica:
			found = RouteReplica
		case RouteAuto: // no hint
		}
	}
	return found
}

// hintIn reads one comment.
func hintIn(comment string) Route {
	found := RouteAuto
	for rest := comment; ; {
		i := strings.Index(rest, hintPrefix)
		if i < 0 {
			return found
		}
		begins := i == 0 || !identByte[rest[i-1]]
		rest = rest[i+len(hintPrefix):]
		n := 0
		for n < len(rest) && identByte[rest[n]] {
			n++
		}
		switch {
		case begins && rest[:n] == "primary":
			return RoutePrimary
		case begins && rest[:n] == "replica":
			found = RouteReplica
		}
	}
}

// Misspelt returns the first hint in the comments of text that is none: it is close enough to
// be meant as one, and would be passed over in silence. Empty is none.
func Misspelt(text string) (hint string) {
	if !strings.Contains(text, hintPrefix) {
		return ""
	}
	l := grammar.Lexer{Text: text}
	for t := l.Next(); t.Kind != grammar.End && t.Kind != grammar.Bad && hint == ""; t = l.Next() {
		if t.Kind != grammar.Comment {
			continue
		}
		comment := text[t.Start:t.End]
		eachHint(comment, func(h, behind string) {
			if hint == "" && h != "" && !isHint(h) && !tenant.Exempts(hintPrefix+h+behind) {
				hint = hintPrefix + h
			}
		})
		_, behind, _ := strings.Cut(comment, hintPrefix+" ")
		if words := strings.Fields(behind); hint == "" && len(words) > 0 && (isHint(words[0]) || tenant.Exempts(hintPrefix+words[0])) {
			hint = hintPrefix + " " + words[0]
		}
	}
	return hint
}

// isHint reports whether what follows pgweir: is a hint.
func isHint(h string) (is bool) {
	switch name, value, _ := strings.Cut(h, "="); name {
	case "primary", "replica":
		is = value == "" && name == h
	case "consistency":
		_, is = ParseConsistency(value)
	case "min_lsn":
		_, err := lsn.Parse(value)
		is = err == nil
	}
	return is
}

// finish applies the wishes of the text, or else of the configuration.
func (a *analysis) finish(p *Plan, r *rules) {
	hint := findHint(a.text)
	level, least := findWishes(a.text)
	if Misspelt(a.text) != "" {
		p.Flags |= FlagMisspelt
	}
	for _, plan := range []*Plan{p, p.SQL.Inner} {
		if plan == nil {
			continue
		}
		plan.Consistency, plan.MinLSN = level, least
		if hint == RouteAuto {
			r.apply(plan, a.original)
			continue
		}
		if plan.send(hint, ReasonHint) {
			plan.Flags |= FlagHint
		}
	}
}

// send makes p go to the wished kind of server, if it may. It reports whether
// the wish was granted.
func (p *Plan) send(to Route, why Reason) bool {
	if !p.movable() {
		return false
	}
	switch to {
	case RoutePrimary:
		if p.Target != TargetPrimary {
			p.Target, p.Reason = TargetPrimary, why
		}
	case RouteReplica:
		if p.neverOnReplica || p.SQL.Verb == PreparedExecute {
			return false
		}
		if p.Pins&PinOpaque != 0 || p.Reason == ReasonUnparsed {
			p.Pins &^= PinOpaque | asked
			p.Flags |= FlagDirty
			p.Parts = nil // what they leave behind does not count
		}
		p.Class, p.Target, p.Reason = ClassRead, TargetReplica, why
	case RouteAuto: // no wish
	}
	return true
}

// movable reports whether where p runs is a question at all.
func (p *Plan) movable() bool {
	switch {
	case p.Class == ClassTx, p.Class == ClassEmpty, p.Own.Verb != OwnNone:
		return false
	case p.SQL.Verb == PreparedDeallocate, p.SQL.Verb == PreparedDeallocateAll:
		return false
	case p.Reason == ReasonCursor && p.Target == TargetAny:
		return false
	}
	return true
}
