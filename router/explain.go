package router

import (
	"strings"

	"github.com/pgweir/pgweir/router/catalog"
)

// Explanation is a Plan in words, for `pgweir explain` and its JSON.
type Explanation struct {
	Class      string   `json:"class"`
	Target     string   `json:"target"`
	Reason     string   `json:"reason"`
	Statements int      `json:"statements"`
	Flags      []string `json:"flags,omitempty"`
	Pins       []string `json:"pins,omitempty"`
	Unpins     []string `json:"unpins,omitempty"`
	Settings   []string `json:"settings,omitempty"` // custom settings it may set
	Hint       bool     `json:"hint,omitempty"`     // a comment decided the target
	Relations  []Noted  `json:"relations,omitempty"`
	Functions  []Noted  `json:"functions,omitempty"`
	// ForUsers are the targets of sessions that rules name.
	ForUsers []Exception `json:"for_users,omitempty"`
	Prepared string      `json:"prepared,omitempty"` // the name in PREPARE, EXECUTE, DEALLOCATE
}

// Noted is a relation or function a statement names. Why says what keeps it
// from a replica or what it may leave behind; empty is nothing.
type Noted struct {
	Name string `json:"name"`
	Why  string `json:"why,omitempty"`
}

// Exception is a rule's choice for one user or application.
type Exception struct {
	User        string `json:"user,omitempty"`
	Application string `json:"application,omitempty"`
	Target      string `json:"target"`
	Reason      string `json:"reason"`
}

// Explain puts p into words; s, if not nil, is asked what is the matter with
// its relations and functions.
func Explain(p *Plan, s *catalog.Snapshot) Explanation {
	e := Explanation{
		Class: p.Class.String(), Target: p.Target.String(), Reason: p.Reason.String(),
		Statements: p.Statements,
		Flags:      p.Flags.names(), Pins: p.Pins.names(), Unpins: p.Unpins.names(),
		Settings: p.Touches, Hint: p.Flags.Has(FlagHint), Prepared: p.SQL.Name,
	}
	for _, name := range p.Relations {
		e.Relations = append(e.Relations, Noted{name, relationWhy(s, name)})
	}
	for _, name := range p.Functions {
		e.Functions = append(e.Functions, Noted{name, functionWhy(s, name)})
	}
	for _, v := range p.Variants {
		e.ForUsers = append(e.ForUsers, Exception{
			User: v.User, Application: v.Application,
			Target: v.Plan.Target.String(), Reason: v.Plan.Reason.String(),
		})
	}
	return e
}

func relationWhy(s *catalog.Snapshot, dotted string) string {
	if s == nil {
		return ""
	}
	return factWhy(s.Relation(split(dotted)).Fact)
}

func functionWhy(s *catalog.Snapshot, dotted string) string {
	if s == nil {
		return ""
	}
	return factWhy(s.Function(split(dotted)))
}

func factWhy(f catalog.Fact) string {
	switch {
	case !f.Known:
		return "unknown to the catalog"
	case f.Replica && f.Clean:
		return ""
	case f.Why != "":
		return f.Why
	case !f.Replica:
		return "not safe on a replica"
	}
	return "may leave session state behind"
}

// split undoes dotted.
func split(name string) (schema, bare string) {
	if i := strings.IndexByte(name, '.'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return "", name
}

var pinNames = []string{
	"setting", "temp", "cursor", "lock", "listen", "load", "opaque", "prepared", "session",
}

func (s PinSet) names() []string { return bitNames(uint32(s), pinNames) }

// String lists the pins, separated by commas; "none" if there are none.
func (s PinSet) String() string { return joinNames(s.names()) }

// Names lists the pins of s, one name each, for metric labels and log fields.
func (s PinSet) Names() []string { return s.names() }

var flagNames = []string{
	"ddl", "cursor", "stays", "tx_control", "copy_in", "hint", "sets_state", "sets_local", "dirty", "forgets",
	"creates", "temporary", "redefines", "removes", "hooks", "ignorant", "sequence", "draws", "no_snapshot", "misspelt",
}

func (f Flags) names() []string { return bitNames(uint32(f), flagNames) }

// String lists the flags, separated by commas; "none" if there are none.
func (f Flags) String() string { return joinNames(f.names()) }

func bitNames(bits uint32, names []string) (list []string) {
	for i, n := range names {
		if bits&(1<<i) != 0 {
			list = append(list, n)
		}
	}
	return list
}

func joinNames(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ",")
}
