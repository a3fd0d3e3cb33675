package router

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/setting"
)

// Modes are the characteristics of a transaction (manual, SET TRANSACTION), as values:
// whatever was said one after the other comes to one Modes. The zero value says nothing,
// which leaves all to the session's defaults.
type Modes struct {
	Isolation  Isolation
	Access     Access
	Deferrable Deferral
}

// Isolation is a transaction isolation level.
type Isolation uint8

const (
	IsolationDefault Isolation = iota // not said
	ReadUncommitted                   // which PostgreSQL treats as READ COMMITTED, but shows
	ReadCommitted
	RepeatableRead
	Serializable
)

var isolationWords = [...]string{"", "READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"}

// Access is a transaction's access mode.
type Access uint8

const (
	AccessDefault Access = iota // not said
	ReadWrite
	ReadOnly
)

var accessWords = [...]string{"", "READ WRITE", "READ ONLY"}

// Deferral is whether a transaction is DEFERRABLE.
type Deferral uint8

const (
	DeferralDefault Deferral = iota // not said
	NotDeferrable
	Deferrable
)

var deferralWords = [...]string{"", "NOT DEFERRABLE", "DEFERRABLE"}

// With is m after later was said: of each mode the last one counts.
func (m Modes) With(later Modes) Modes {
	if later.Isolation != IsolationDefault {
		m.Isolation = later.Isolation
	}
	if later.Access != AccessDefault {
		m.Access = later.Access
	}
	if later.Deferrable != DeferralDefault {
		m.Deferrable = later.Deferrable
	}
	return m
}

// Begin is the statement that opens a transaction with exactly these modes: BEGIN alone
// if nothing was said.
func (m Modes) Begin() string { return "BEGIN" + m.clause() }

// Set is the statement that gives an open transaction these modes; empty if nothing was said.
func (m Modes) Set() string {
	if m == (Modes{}) {
		return ""
	}
	return "SET TRANSACTION" + m.clause()
}

// clause is the list of modes, each behind a space.
func (m Modes) clause() string {
	var b strings.Builder
	if m.Isolation != IsolationDefault {
		b.WriteString(" ISOLATION LEVEL " + isolationWords[m.Isolation])
	}
	for _, words := range []string{accessWords[m.Access], deferralWords[m.Deferrable]} {
		if words != "" {
			b.WriteString(" " + words)
		}
	}
	return b.String()
}

// Standby reports whether a transaction of these modes may begin on a standby: it takes
// no SERIALIZABLE and no explicit READ WRITE, and a REPEATABLE READ transaction that may
// write could not keep its snapshot when it moves.
func (m Modes) Standby() bool {
	switch {
	case m.Isolation == Serializable, m.Access == ReadWrite:
		return false
	case m.Isolation == RepeatableRead:
		return m.Access == ReadOnly
	}
	return true
}

// ParseIsolation reads an isolation level as PostgreSQL takes it for a value of a
// setting, such as "repeatable read", in any case.
func ParseIsolation(s string) (Isolation, bool) {
	for i, words := range isolationWords {
		if i > 0 && strings.EqualFold(s, words) {
			return Isolation(i), true
		}
	}
	return IsolationDefault, false
}

// ParseAccess reads the value of default_transaction_read_only and its like.
func ParseAccess(readOnly string) (Access, bool) {
	on, ok := setting.ParseBool(readOnly)
	switch {
	case !ok:
		return AccessDefault, false
	case on:
		return ReadOnly, true
	}
	return ReadWrite, true
}

// named is the mode that a setting of a transaction is: SET transaction_isolation = '…'
// is SET TRANSACTION ISOLATION LEVEL …. It fails for other settings and wrong values.
func (m *Modes) named(name, value string) (ok bool) {
	switch name {
	case "transaction_isolation":
		m.Isolation, ok = ParseIsolation(value)
	case "transaction_read_only":
		m.Access, ok = ParseAccess(value)
	case "transaction_deferrable":
		var on bool
		if on, ok = setting.ParseBool(value); ok {
			m.Deferrable = deferral(on)
		}
	}
	return ok
}

func deferral(on bool) Deferral {
	if on {
		return Deferrable
	}
	return NotDeferrable
}

// modes folds the modes of BEGIN and SET TRANSACTION. Their values are keywords, which
// are not masked, but the parser hands them over as constants.
func modes(options []*pg.Node) (m Modes) {
	for _, o := range options {
		d := o.GetDefElem()
		c := d.GetArg().GetAConst()
		on := c.GetIval().GetIval() != 0
		switch d.GetDefname() {
		case "transaction_isolation":
			m.Isolation, _ = ParseIsolation(c.GetSval().GetSval())
		case "transaction_read_only":
			if m.Access = ReadWrite; on {
				m.Access = ReadOnly
			}
		case "transaction_deferrable":
			m.Deferrable = deferral(on)
		}
	}
	return m
}
