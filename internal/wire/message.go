package wire

import (
	"bytes"
	"encoding/binary"
)

// Message types a frontend sends. https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	Bind         = 'B'
	Close        = 'C'
	CopyData     = 'd'
	CopyDone     = 'c'
	CopyFail     = 'f'
	Describe     = 'D'
	Execute      = 'E'
	Flush        = 'H'
	FunctionCall = 'F'
	Parse        = 'P'
	Password     = 'p'
	Query        = 'Q'
	Sync         = 'S'
	Terminate    = 'X'
)

// Message types a backend sends.
const (
	Authentication       = 'R'
	BindComplete         = '2'
	CloseComplete        = '3'
	CommandComplete      = 'C'
	CopyBothResponse     = 'W'
	CopyInResponse       = 'G'
	CopyOutResponse      = 'H'
	DataRow              = 'D'
	EmptyQueryResponse   = 'I'
	ErrorResponse        = 'E'
	FunctionCallResponse = 'V'
	NoData               = 'n'
	NoticeResponse       = 'N'
	NotificationResponse = 'A'
	ParameterDescription = 't'
	ParameterStatus      = 'S'
	ParseComplete        = '1'
	PortalSuspended      = 's'
	ReadyForQuery        = 'Z'
	RowDescription       = 'T'
)

// Transaction status bytes of ReadyForQuery.
const (
	TxIdle   = 'I'
	TxOpen   = 'T'
	TxFailed = 'E'
)

// CString cuts a NUL-terminated string off b.
func CString(b []byte) (s, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}

// QueryText returns the text of a Query frame. ok is false for a malformed one, which
// the server is left to judge.
func QueryText(frame []byte) (text []byte, ok bool) {
	text, rest, ok := CString(frame[HeaderSize:])
	return text, ok && len(rest) == 0
}

// ParseParts returns a Parse frame's name, text, and the rest: count and OIDs of parameter types.
func ParseParts(frame []byte) (name, text, types []byte, ok bool) {
	name, rest, ok := CString(frame[HeaderSize:])
	if !ok {
		return nil, nil, nil, false
	}
	text, types, ok = CString(rest)
	if !ok || len(types) < 2 || len(types) != 2+4*int(binary.BigEndian.Uint16(types)) {
		return nil, nil, nil, false
	}
	return name, text, types, true
}

// BindParts returns a Bind frame's portal, statement, and the rest.
func BindParts(frame []byte) (portal, statement, rest []byte, ok bool) {
	portal, rest, ok = CString(frame[HeaderSize:])
	if !ok {
		return nil, nil, nil, false
	}
	statement, rest, ok = CString(rest)
	return portal, statement, rest, ok
}

// TargetParts returns the kind ('S' statement, 'P' portal) and name of a Describe or Close frame.
func TargetParts(frame []byte) (kind byte, name []byte, ok bool) {
	if len(frame) < HeaderSize+2 {
		return 0, nil, false
	}
	kind = frame[HeaderSize]
	name, rest, ok := CString(frame[HeaderSize+1:])
	return kind, name, ok && len(rest) == 0 && (kind == 'S' || kind == 'P')
}

// ExecuteParts returns an Execute frame's portal and row limit (0 is none).
func ExecuteParts(frame []byte) (portal []byte, limit uint32, ok bool) {
	portal, rest, ok := CString(frame[HeaderSize:])
	if !ok || len(rest) != 4 {
		return nil, 0, false
	}
	return portal, binary.BigEndian.Uint32(rest), true
}

// ParameterParts returns the name and value of a ParameterStatus frame.
func ParameterParts(frame []byte) (name, value []byte, ok bool) {
	name, rest, ok := CString(frame[HeaderSize:])
	if !ok {
		return nil, nil, false
	}
	value, _, ok = CString(rest)
	return name, value, ok
}

// ErrorField returns one field of an ErrorResponse or NoticeResponse frame, nil if absent.
func ErrorField(frame []byte, field byte) []byte {
	b := frame[HeaderSize:]
	for len(b) > 1 && b[0] != 0 {
		value, rest, ok := CString(b[1:])
		if !ok {
			return nil
		}
		if b[0] == field {
			return value
		}
		b = rest
	}
	return nil
}
