// Package session is one client's session as a pure state machine: its transaction,
// its settings, what ties it to a server connection, what is not known of it and why,
// and the names of its prepared statements and portals. Events go in (a statement was
// answered here, a server ran one, said ReadyForQuery, or was asked what it carries);
// what follows from them comes out as values. The package knows plans and settings
// only: no socket, no pool, no goroutine and no clock.
package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/router"
)

// State is what a session is, but for its names. It is a value: Snapshot is what a
// batch that has to be sent again returns to. It belongs to one goroutine.
type State struct {
	Settings History // of the server
	Proxy    History // of the proxy (pgweir.*), which no server knows
	Tx       Transaction
	Known    Knowledge
	// Unreported is Known by what ran since the server last said what decides how texts
	// are read, which it does with ReadyForQuery.
	Unreported Knowledge
	Pins       router.PinSet

	// Custom settings whose placeholders the session has defined: they read '' and no
	// longer NULL. Of MayDefine that is to be asked.
	// https://www.postgresql.org/docs/current/runtime-config-custom.html
	Defined, MayDefine setting.Names

	usual    setting.Settings // what sessions of the user begin with
	reported []string         // settings changed in the open transaction whose values servers report
	settled  []string         // those that were committed since the session was idle
}

// New makes the State of a session that begins with what sessions of its user do, its own
// startup settings over that, and the given settings of the proxy.
func New(usual, startup, proxy setting.Settings) State {
	begins := usual
	for name, value := range startup.All() {
		begins = begins.With(name, value)
	}
	if _, own := usual.Value(setting.Role); !own {
		if v, _ := begins.Value(setting.Role); v == "none" {
			begins = begins.Without(setting.Role) // a value only where RESET returns to another
		}
	}
	return State{
		Settings: NewHistory(begins), Proxy: NewHistory(proxy),
		Defined: begins.Custom(), usual: usual,
	}
}

// CopyTo makes to a copy that later changes of s do not reach. A State is too large to be
// handed from function to function with every batch.
func (s *State) CopyTo(to *State) {
	s.Settings.share()
	s.Proxy.share()
	*to = *s
}

// Knowledge says whether the settings in force are known, and if not, why.
type Knowledge uint8

// What may be known of the settings, from best to worst.
const (
	// Known is the usual case.
	Known Knowledge = iota
	// UnknownLocal: a statement set, for its transaction only, what its text does not
	// tell. They are known again when that is over.
	UnknownLocal
	// UnknownText: a statement set what its text does not tell. The server is asked once
	// the transaction is committed.
	UnknownText
	// UnknownPartly: besides, a part of the transaction may have been committed, so that
	// the server is to be asked however it ends.
	UnknownPartly
	// UnknownRefused: the server was asked and refused to answer.
	UnknownRefused
)

var knowledgeNames = [...]string{"known", "unknown until the transaction ends", "set by what the text does not tell",
	"committed in part", "the server refused to tell"}

func (k Knowledge) String() string { return knowledgeNames[k] }

// Residue is what a session has left on its server connection, by what it takes to be
// rid of it.
type Residue uint8

// The residues, from least to worst.
const (
	// NoResidue: nothing but settings that are known.
	NoResidue Residue = iota
	// Discardable: DISCARD ALL removes it.
	Discardable
	// Opaque: nobody knows what; only the end of the connection removes it.
	Opaque
)

var residueNames = [...]string{"none", "discardable", "opaque"}

func (r Residue) String() string { return residueNames[r] }

// Effects are what an event means for the server connection.
type Effects struct {
	Residue Residue
	Inspect router.PinSet // the kinds of state it must be asked for
	// Startup: RESET returned a setting to the server's default, where the session has
	// one of its own: it must be set there again.
	Startup bool
	// Unpinned is what tied the session to it until DISCARD.
	Unpinned router.PinSet
	// Forgets: it holds no prepared statements any more.
	Forgets bool
	// Ended: a transaction ended with it, for better or worse.
	Ended End
}

// End is how a transaction ended, if it did.
type End uint8

// The ends of a transaction.
const (
	NoEnd End = iota
	Committed
	RolledBack
)

// NeedsReadBack reports whether the server connection must be asked for the session's
// settings before anybody else uses it.
func (s *State) NeedsReadBack() bool {
	return s.Known >= UnknownText || !s.MayDefine.Within(s.Defined)
}

// LostWithServer reports whether only its server can tell what the session will have even once
// its transaction is rolled back: what was committed in part, or which placeholders are defined.
func (s *State) LostWithServer() bool {
	return s.Tx.Phase.InBlock() && (s.Known >= UnknownPartly || !s.MayDefine.Within(s.Defined))
}

// Missing returns what must be set on the session's server connection so that it carries
// what the session has. Where that is not known, what the server has counts: of a part
// that was committed nothing is known, and a role may be another than both believe.
func (s *State) Missing(carried *History) []setting.Change {
	if s.Known >= UnknownPartly && !s.Tx.Phase.InBlock() || !carried.Differs(&s.Settings) {
		return nil
	}
	changes := carried.Until(&s.Settings)
	if s.Known < UnknownText {
		return changes
	}
	return slices.DeleteFunc(changes, func(c setting.Change) bool {
		return c.Name == setting.Role || c.Name == setting.Authorization
	})
}

// InForceKnown reports whether what is in force for the next statement is known.
func (s *State) InForceKnown() bool { return s.Known == Known }

// Certain reports whether the values in force are what they seem, with nothing at work
// that the session does not follow.
func (s *State) Certain() bool {
	return s.InForceKnown() && s.Pins&(router.PinSetting|router.PinOpaque) == 0
}

// OnlyCustom reports whether the session has set none but custom settings.
func (s *State) OnlyCustom() bool {
	for _, ch := range s.Settings.Reset().Diff(s.Settings.Now()) {
		if !setting.IsCustom(ch.Name) {
			return false
		}
	}
	return true
}

// MayMisread reports whether the router may misunderstand the texts of a session with
// such settings.
func MayMisread(s setting.Settings) bool {
	conforming, _ := s.Value("standard_conforming_strings")
	encoding, _ := s.Value("client_encoding")
	return Misreads(conforming, encoding)
}

// DecidesReading reports whether a setting decides how texts are read. Session authorization
// brings the defaults of another role, which is read back.
func DecidesReading(name string) bool {
	return name == "client_encoding" || name == "standard_conforming_strings" || name == setting.Authorization
}

// Misreads is MayMisread for values of standard_conforming_strings and client_encoding,
// empty being none: a backslash in a string means something else, or a byte of a character
// looks like one.
func Misreads(conforming, encoding string) bool {
	if on, _ := setting.ParseBool(conforming); !on && conforming != "" {
		return true
	}
	if encoding == "" || encoding == "UTF8" {
		return false
	}
	switch strings.ToUpper(strings.NewReplacer("-", "", "_", "", " ", "").Replace(encoding)) {
	case "BIG5", "WIN950", "WINDOWS950", "GB18030", "GBK", "WIN936", "WINDOWS936", "JOHAB",
		"SJIS", "MSKANJI", "SHIFTJIS", "WIN932", "WINDOWS932", "SHIFTJIS2004", "UHC", "WIN949", "WINDOWS949":
		return true
	}
	return false
}

// UsualNames reports whether names in a text mean what they mean to the other sessions
// of the user.
func (s *State) UsualNames() bool { return sameNames(s.usual, s.Settings.Now()) }

// NamesChanged reports whether names may mean something else than when the open transaction began.
func (s *State) NamesChanged() bool {
	return !s.InForceKnown() || !sameNames(s.Settings.Begin(), s.Settings.Now())
}

// sameNames reports whether names mean the same under both settings.
func sameNames(a, b setting.Settings) bool { return same(a, b, decideNames[:]) }

func same(a, b setting.Settings, names []string) bool {
	return a == b || !slices.ContainsFunc(names, func(name string) bool {
		v, set := a.Value(name)
		w, too := b.Value(name)
		return v != w || set != too
	})
}

// decideNames are the settings that decide what a name means.
var decideNames = [...]string{Path, setting.Role, setting.Authorization}

// whose are those of them that say whose session it is.
var whose = decideNames[1:]

// Path is the setting that says in which schemas names are looked up.
const Path = "search_path"

// NamesKey tells apart by what settings names in a text are looked up. They decide with it of which types
// parameters are, which servers find out only when they first parse a text.
// https://www.postgresql.org/docs/current/sql-prepare.html
func NamesKey(now setting.Settings) string {
	if now == (setting.Settings{}) {
		return ""
	}
	var b strings.Builder
	for _, name := range decideNames {
		if v, ok := now.Value(name); ok {
			b.WriteString(name + "=" + v + "\x00")
		}
	}
	return b.String()
}

// DecidesNames reports whether a setting decides what a name means; an empty one is known later.
func DecidesNames(name string) bool { return name == "" || slices.Contains(decideNames[:], name) }

// SeesOwnObjects reports whether the session may see objects that others do not: those of its
// open transaction, and temporary ones.
func (s *State) SeesOwnObjects() bool {
	return s.Tx.Did&(DidDDL|DidTemporary) != 0 || s.Pins&(router.PinTemp|router.PinOpaque) != 0
}

// unknown lowers what is known of the settings.
func (s *State) unknown(k Knowledge) { s.Known, s.Unreported = max(s.Known, k), max(s.Unreported, k) }

// String prints the state on one line, for people.
func (s *State) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "transaction %s", s.Tx.Phase)
	if s.Tx.Phase.InBlock() {
		fmt.Fprintf(&b, " (%s)", s.Tx.Modes.Begin())
		if s.Tx.opening != s.Tx.Modes {
			fmt.Fprintf(&b, " (opened by %s)", s.Tx.opening.Begin())
		}
	}
	fmt.Fprintf(&b, "; settings %s", s.Known)
	for n, v := range s.Settings.Now().All() {
		fmt.Fprintf(&b, " %s=%q", n, v)
	}
	for _, ch := range s.Settings.Now().Diff(s.Settings.Kept()) {
		fmt.Fprintf(&b, " (local: %s)", ch.Name)
	}
	for n, v := range s.Proxy.Now().All() {
		fmt.Fprintf(&b, " %s=%q", n, v)
	}
	if s.Defined != (setting.Names{}) {
		fmt.Fprintf(&b, "; defined %s", s.Defined)
	}
	if !s.MayDefine.Within(s.Defined) {
		fmt.Fprintf(&b, "; perhaps %s", s.MayDefine.Without(s.Defined))
	}
	if s.Pins != 0 {
		fmt.Fprintf(&b, "; pinned by %s", s.Pins)
	}
	if n := len(s.Settings.Log()); n > 0 {
		fmt.Fprintf(&b, "; %d steps to replay", n)
	}
	return b.String()
}
