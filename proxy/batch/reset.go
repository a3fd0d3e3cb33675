package batch

import (
	"regexp"
	"slices"

	"github.com/pgweir/pgweir/router"
)

// MayReset reports whether the batch may return a setting to its default in a way that
// cannot be made good before somebody sees it: among other statements, by NULL given to
// set_config, by code (unless what that sets is declared). own tells whether a session has
// a default of its own of a setting, text what a message runs.
func (b *Batch) MayReset(own func(name string) bool, declared bool, text func(*Message) []byte) bool {
	several := b.Several() || b.Continues()
	for i := range b.Messages {
		m := &b.Messages[i]
		if !m.Kind.Executes() || m.Here || !mayReset(m.Plan) {
			continue
		}
		if m.Plan == nil || m.resets(own, several, declared) {
			return true
		}
		if p := m.Plan; p.Statements > 1 && p.Parts == nil && p.Flags&setsAny != 0 && resetWords.Match(text(m)) {
			return true // among several it is not told which
		}
	}
	return false
}

// MayResetAny is MayReset for a session of whose defaults nothing is known.
func (b *Batch) MayResetAny() bool {
	return slices.ContainsFunc(b.Messages, func(m Message) bool { return m.Kind.Executes() && !m.Here && mayReset(m.Plan) })
}

const setsAny = router.FlagSetsState | router.FlagSetsLocal

// mayReset reports whether a statement may reset any setting at all.
func mayReset(p *router.Plan) bool {
	return p == nil || p.Pins&(router.PinOpaque|router.PinSetting) != 0 || p.Unpins&router.PinSetting != 0 ||
		p.Resets != "" || len(p.Sets) > 0 || p.Statements > 1 && p.Flags&setsAny != 0
}

// resetWords stand in whatever text resets a setting.
var resetWords = regexp.MustCompile(`(?i)\b(reset|default|null|discard)\b`)

// resets is MayReset for one message; among is whether others are with it.
func (m *Message) resets(own func(name string) bool, among, declared bool) bool {
	p := m.Plan
	if p.Parts != nil {
		return slices.ContainsFunc(p.Parts, func(part *router.Plan) bool { return resets(part, part.Sets, own, true, declared) })
	}
	sets, followed := m.Sets()
	return !followed || resets(p, sets, own, among || p.Statements > 1, declared)
}

func resets(p *router.Plan, sets []router.Set, own func(name string) bool, among, declared bool) bool {
	if !declared && !p.SetOnly {
		opaque := p.Pins&router.PinOpaque != 0 || p.Pins&router.PinSetting != 0 && p.Flags&setsAny != 0 && len(sets)+len(p.Touches) == 0
		if opaque || len(sets) == 0 && slices.ContainsFunc(p.Touches, own) {
			return true
		}
	}
	if p.Resets != "" && among && own(p.Resets) {
		return true
	}
	if p.Unpins&router.PinSetting != 0 && among {
		return true // RESET ALL
	}
	for i := range sets {
		if sets[i].Reset && (among || sets[i].Tag == "") && own(sets[i].Name) {
			return true
		}
	}
	return false
}
