package simpg

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Error is what a server says in an ErrorResponse or a NoticeResponse. Within the package
// it is raised as a panic and caught where a message has been handled.
type Error struct {
	Severity string // ERROR, FATAL, PANIC; WARNING, NOTICE, INFO, …
	Code     string // SQLSTATE
	Message  string
	Detail   string
	Hint     string
	Where    string
	Position int32 // of a character of the text, from 1; 0 is none

	offset int32 // of a byte of the text, from 1; Position is made of it

	Schema, Table, Column, Constraint string // what it is about
}

func (e *Error) Error() string { return e.Severity + " " + e.Code + ": " + e.Message }

// raise ends the statement with an error.
func raise(code, format string, args ...any) {
	panic(failure(code, format, args...))
}

func failure(code, format string, args ...any) *Error {
	return &Error{Severity: "ERROR", Code: code, Message: fmt.Sprintf(format, args...)}
}

// at raises with the position of a place in the text that was parsed, if it is known.
func at(location int32, e *Error) {
	e.offset = location + 1
	panic(e)
}

func (e *Error) response() pgproto3.ErrorResponse {
	return pgproto3.ErrorResponse{
		Severity: e.Severity, SeverityUnlocalized: e.Severity, Code: e.Code, Message: e.Message,
		Detail: e.Detail, Hint: e.Hint, Where: e.Where, Position: e.Position,
		SchemaName: e.Schema, TableName: e.Table, ColumnName: e.Column, ConstraintName: e.Constraint,
	}
}

// caught runs f and returns the error it raised.
func caught(f func()) (e *Error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *Error:
			e = r
		default:
			panic(r)
		}
	}()
	f()
	return nil
}
