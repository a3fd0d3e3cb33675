package batch

import (
	"strings"

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

// ResultChanged reports whether an error says that the rows of a prepared statement
// are no longer what they were when it was prepared.
func ResultChanged(frame []byte) bool {
	return string(wire.ErrorField(frame, 'C')) == "0A000" && string(wire.ErrorField(frame, 'R')) == "RevalidateCachedQuery"
}
