package batch

import (
	"slices"
	"strings"

	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/router"
)

// What an ErrorResponse of a server says of the statement it is about.

// NotUnderstood reports whether a server refused a statement before running any of
// it: what is unknown to the proxy need not be feared then. An error of the parser
// points into the text; one from within a function has a context.
func NotUnderstood(p *router.Plan, frame []byte) bool {
	code := string(wire.ErrorField(frame, 'C'))
	if p == nil {
		return code == "34000" // there is no such portal
	}
	if p.Statements == 1 && code == "25P02" {
		return true // nothing runs in a failed transaction
	}
	if p.Statements > 1 || p.Pins&^router.PinOpaque != 0 ||
		wire.ErrorField(frame, 'P') == nil || wire.ErrorField(frame, 'W') != nil {
		return false
	}
	switch p.Reason {
	case router.ReasonUnparsed, router.ReasonUnknownRel, router.ReasonUnknownFn, router.ReasonNoCatalog, router.ReasonWrite:
		return strings.HasPrefix(code, "42")
	default:
		return false
	}
}

// RefusedWrite reports whether a hot standby refused a statement as it began to execute it, for there is
// nothing that it may write. What the planner or the parameters of an EXECUTE call has run by then.
func RefusedWrite(p *router.Plan, frame []byte) bool {
	if p == nil || p.Statements != 1 || string(wire.ErrorField(frame, 'C')) != "25006" || wire.ErrorField(frame, 'W') != nil {
		return false
	}
	switch p.Reason {
	case router.ReasonWrite, router.ReasonDDL, router.ReasonRowLock, router.ReasonSelectInto:
		return true
	default:
		return false // it may have run as far as what was refused
	}
}

// Stale reports whether an error may be that a prepared statement is out of date: the
// connection held it before the attempt, and what it uses was remade since. Nothing of it
// has run then.
func (a *Attempt) Stale(awaited *Awaited, frame []byte) bool {
	m := awaited.Message
	if awaited.Kind != Bind && awaited.Kind != Describe || m == nil || m.Prepared == nil || a.prepares(m.Prepared.Statement) {
		return false
	}
	return ResultChanged(frame) || madeOtherwise(frame)
}

// prepares reports whether the attempt has a statement prepared.
func (a *Attempt) prepares(st *prepared.Statement) bool {
	return slices.ContainsFunc(a.Queue, func(awaited Awaited) bool {
		return awaited.Kind == Parse && awaited.Shared == st && awaited.Origin != Here
	})
}

// madeOtherwise reports whether an error may be that the names in a statement mean something
// else than when it was parsed: the server misses what is gone, or finds something of another
// kind.
func madeOtherwise(frame []byte) bool {
	switch code := string(wire.ErrorField(frame, 'C')); code {
	case "XX000":
		return strings.HasPrefix(string(wire.ErrorField(frame, 'M')), "cache lookup failed")
	case "3F000":
		return true
	default:
		return strings.HasPrefix(code, "42") && code != "42501"
	}
}

// OtherColumns reports whether a server has refused to bind a prepared statement because it has
// more or fewer columns than the client thinks.
func OtherColumns(awaited *Awaited, frame []byte) bool {
	return awaited.Kind == Bind && awaited.Message != nil && awaited.Message.Prepared != nil &&
		string(wire.ErrorField(frame, 'C')) == "08P01" && string(wire.ErrorField(frame, 'R')) == "PortalSetResultFormat"
}

// ResultChanged reports whether an error says that the rows of a prepared statement
// are no longer what they were when it was prepared.
func ResultChanged(frame []byte) bool {
	return string(wire.ErrorField(frame, 'C')) == "0A000" && string(wire.ErrorField(frame, 'R')) == "RevalidateCachedQuery"
}
