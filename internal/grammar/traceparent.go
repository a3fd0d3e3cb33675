package grammar

import "bytes"

// TraceparentSize is that of a traceparent, of digits and dashes: 00-…-…-01.
// https://www.w3.org/TR/trace-context/#traceparent-header
const TraceparentSize = 55

var traceparent = []byte("traceparent")

// Traceparent is where the traceparent of a request begins in a comment of its statements, as
// sqlcommenter (traceparent='…') or Rails (traceparent:…) puts it there; -1 if there is none.
func Traceparent(comment []byte) int {
	at := bytes.Index(comment, traceparent)
	if at < 0 {
		return -1
	}
	at += len(traceparent)
	switch rest := comment[at:]; {
	case bytes.HasPrefix(rest, []byte("='")):
		at += 2
	case bytes.HasPrefix(rest, []byte(":")):
		at++
	default:
		return -1
	}
	if len(comment) < at+TraceparentSize {
		return -1
	}
	for _, c := range comment[at : at+TraceparentSize] {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c == '-') {
			return -1
		}
	}
	return at
}
