package wire

import (
	"fmt"
	"strings"
)

// Error is what the proxy itself tells a client, with PostgreSQL's fields. It is
// the one error type that reaches clients; everything else is mapped to one.
type Error struct {
	Severity string // ERROR or FATAL; empty is ERROR
	Code     string // SQLSTATE
	Message  string
	Detail   string
	Hint     string
	Position string // in the statement's text, of characters from 1
	Routine  string // of the server's source, by which some drivers tell errors apart
}

func (e *Error) Error() string { return fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code) }

// Shown is what may be logged of e: an error about a value (class 22) quotes that.
func (e *Error) Shown() string {
	if strings.HasPrefix(e.Code, "22") {
		return "a value was refused"
	}
	return e.Message
}

// Errorf makes an Error of severity ERROR.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Severity: "ERROR", Code: code, Message: fmt.Sprintf(format, args...)}
}

// Fatalf makes an Error after which the connection is closed.
func Fatalf(code, format string, args ...any) *Error {
	return &Error{Severity: "FATAL", Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithHint returns a copy with a hint.
func (e *Error) WithHint(hint string) *Error {
	c := *e
	c.Hint = hint
	return &c
}

// Append appends e as an ErrorResponse frame.
func (e *Error) Append(dst []byte) []byte {
	severity := e.Severity
	if severity == "" {
		severity = "ERROR"
	}
	return appendFields(dst, ErrorResponse, severity, e)
}

// AppendNotice appends a NoticeResponse with the given message.
func AppendNotice(dst []byte, severity, code, message string) []byte {
	return appendFields(dst, NoticeResponse, severity, &Error{Code: code, Message: message})
}

// AppendWarning appends e as a NoticeResponse of severity WARNING.
func (e *Error) AppendWarning(dst []byte) []byte {
	return appendFields(dst, NoticeResponse, "WARNING", e)
}

func appendFields(dst []byte, typ byte, severity string, e *Error) []byte {
	dst, at := begin(dst, typ)
	field := func(name byte, value string) {
		if value != "" {
			dst = append(append(append(dst, name), value...), 0)
		}
	}
	field('S', severity)
	field('V', severity)
	field('C', e.Code)
	field('M', e.Message)
	field('D', e.Detail)
	field('H', e.Hint)
	field('P', e.Position)
	field('R', e.Routine)
	return end(append(dst, 0), at)
}

// ReadError reads an ErrorResponse of a server, for it to be told at another place.
func ReadError(frame []byte) *Error {
	field := func(f byte) string { return string(ErrorField(frame, f)) }
	return &Error{
		Code: field('C'), Message: field('M'), Detail: field('D'), Hint: field('H'),
		Position: field('P'), Routine: field('R'),
	}
}
