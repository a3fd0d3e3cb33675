package backend

import (
	"slices"

	"github.com/pgweir/pgweir/internal/setting"
)

// Plans notes whether the plans that the server process keeps, of prepared statements and
// within functions, may be made under settings that other sessions had: a literal is read,
// and what PostgreSQL takes for constant is computed, when a plan is made. Such plans are for
// those who made them, as on a connection of their own.
// https://www.postgresql.org/docs/current/sql-discard.html
type Plans struct {
	made      bool // somebody has used the connection
	read, any bool // a setting of setting.PlannedBy was another meanwhile; or any
}

// Changed notes that a setting was changed on the connection, by whoever uses it.
func (p *Plans) Changed(name string) {
	p.any = true
	p.read = p.read || slices.Contains(setting.PlannedBy[:], name)
}

// ChangedUnseen is Changed for settings whose names are not known.
func (p *Plans) ChangedUnseen() { p.any, p.read = true, true }

// HandPlansOver notes the changes with which a session takes the connection, and reports whether
// plans are to be discarded for it if it is another session than before. folds is whether any
// setting may be in a plan; reported tells what the server says of a setting now.
func (p *Plans) HandPlansOver(changes []setting.Change, folds bool, reported func(name string) string) (discard bool) {
	for i := range changes {
		if c := &changes[i]; c.Reset || c.Value == "" || reported(reportedAs(c.Name)) != c.Value {
			p.Changed(c.Name)
		}
	}
	if !p.made {
		*p = Plans{made: true}
	}
	return p.read || folds && p.any
}

// reportedAs is the name by which a server tells the value of a setting, if it does.
func reportedAs(name string) string {
	switch name {
	case "datestyle":
		return "DateStyle"
	case "intervalstyle":
		return "IntervalStyle"
	case "timezone":
		return "TimeZone"
	}
	return name
}

// PlansDiscarded notes that this was done.
func (p *Plans) PlansDiscarded() { *p = Plans{made: true} }
