// Package doubt decides later what statements left on a server connection that ran while the
// catalog did not know what they use, or what is redefined since: by asking the server of what
// is unknown, or by the catalog read anew.
package doubt

import (
	"slices"
	"strings"

	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// Doubts are statements of which it is not known what they left on their server connection.
// The zero value is none.
type Doubts struct {
	texts    []doubted
	removals uint64   // DDL seen when they ran that may have removed what they use
	made     []string // tables made since the session has the connection, which run no code
	cause    cause
}

// doubted is a statement in doubt.
type doubted struct {
	text     string
	believed *router.Plan // by which what it left was taken in already; nil if it was not
	in       fate
}

// fate is what became of a statement's transaction.
type fate uint8

const (
	underWay fate = iota
	committed
	rolledBack
)

// cause is what the doubts come from, besides names that are not known.
type cause uint8

// redefined: what the catalog tells was, so that only the catalog, read anew, tells.
const redefined cause = 1

const (
	maxDoubts = 64 << 10 // bytes of texts that are kept
	maxMade   = 1000     // tables that are remembered
)

// Ignorant reports whether a plan knows too little to say what its statement leaves behind.
func Ignorant(p *router.Plan) bool {
	return p.Flags.Has(router.FlagIgnorant) && p.Pins&router.PinOpaque != 0
}

// Any reports whether there are doubts.
func (d *Doubts) Any() bool { return len(d.texts) > 0 }

// Add notes a statement, and the plan by which what it left was taken in, if it was. again is
// whether the catalog's word was redefined, removals counts the DDL seen that removes. It
// returns false if the statement cannot be judged later.
func (d *Doubts) Add(text []byte, believed *router.Plan, again bool, removals uint64) bool {
	size := len(text)
	for _, t := range d.texts {
		size += len(t.text)
	}
	if len(text) == 0 || size > maxDoubts {
		return false
	}
	if d.removals = removals; again {
		d.cause |= redefined
	}
	if of := (doubted{string(text), believed, underWay}); !slices.Contains(d.texts, of) {
		d.texts = append(d.texts, of)
	}
	return true
}

// Outdated reports whether what ran may be something else by now, or gone.
func (d *Doubts) Outdated(removals uint64) bool { return d.Any() && d.removals != removals }

// Makes notes what DDL, or a ROLLBACK TO, that ran means for what is in doubt: the name of what
// was made may be something else's. What is dropped leaves its name to nobody.
func (d *Doubts) Makes(p *router.Plan) {
	switch {
	case p.Flags.Has(router.FlagRedefines), p.Tx.Verb == router.TxRollbackTo, len(p.Relations) == 0, len(d.made) > maxMade:
		d.made = nil
	case p.Unpins&router.PinTemp == 0:
		d.made = slices.DeleteFunc(d.made, func(name string) bool { return namesAny(p.Relations, name) })
	}
	d.made = append(d.made, p.Makes...)
}

// namesAny reports whether relations, with their schemas or not, are of a name.
func namesAny(relations []string, name string) bool {
	return slices.ContainsFunc(relations, func(r string) bool { return r[strings.LastIndexByte(r, '.')+1:] == name })
}

// Ended says that a transaction ended.
func (d *Doubts) Ended(commit bool) {
	became := committed
	if !commit {
		became, d.made = rolledBack, nil
	}
	for i := range d.texts {
		if d.texts[i].in == underWay {
			d.texts[i].in = became
		}
	}
}

// Drop forgets the doubts: something else decides what becomes of the connection.
func (d *Doubts) Drop() { *d = Doubts{} }

// resolve decides those whose plans tell enough by now, or all of them if it is the last word,
// and returns what they have left behind. What was used in a transaction that is undone is
// gone with it, and so is what it set, but for that a custom setting, declared ones among them,
// has been set; locks may be left, and what nobody but it knows of: that is the residue.
func (d *Doubts) resolve(plan func(text string) *router.Plan, declared []string, last bool) (left []*router.Plan, r session.Residue) {
	texts := d.texts
	d.texts = nil
	for _, t := range texts {
		p := plan(t.text)
		if t.believed != nil && leaveAlike(t.believed, p) {
			continue
		}
		pins, touches := p.Pins, p.Touches
		if Ignorant(p) {
			if !last {
				d.texts = append(d.texts, t)
				continue
			}
			if t.in == rolledBack {
				pins, r = pins&^router.PinOpaque|router.PinLock, session.Opaque
				touches = slices.Concat(touches, declared)
			}
		}
		left = append(left, &router.Plan{Class: p.Class, Target: p.Target, Reason: p.Reason, Statements: 1,
			Pins: pins, Touches: touches, Flags: p.Flags & router.FlagDirty})
	}
	if !d.Any() {
		d.cause = 0
	}
	return left, r
}

// leaveAlike reports whether by two plans a statement leaves the same.
func leaveAlike(p, q *router.Plan) bool {
	return p.Pins == q.Pins && (p.Flags^q.Flags)&router.FlagDirty == 0 && slices.Equal(p.Touches, q.Touches)
}
