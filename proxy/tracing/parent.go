package tracing

import (
	"bytes"
	"context"
	"net/url"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgweir/pgweir/internal/grammar"
)

// Parse reads a value of traceparent, and one of tracestate. The result is not valid if the
// first is none.
func Parse(traceparent, tracestate string) trace.SpanContext {
	ctx := propagation.TraceContext{}.Extract(context.Background(),
		propagation.MapCarrier{"traceparent": traceparent, "tracestate": tracestate})
	return trace.SpanContextFromContext(ctx)
}

// maxComment is how much of a text's end, and of its beginning, is looked at.
const maxComment = 1 << 10

// inComment finds the traceparent in the comment that a text ends or begins with, where
// libraries put it (https://google.github.io/sqlcommenter/spec/). found is that there is one;
// parent is valid only if it is sampled too. It allocates for no other.
//
// On one core of a shared two-core machine 4 ns if there is no comment, 220 ns if it is not
// sampled.
func inComment[T string | []byte](text T) (parent trace.SpanContext, found bool) {
	end := len(text)
	for end > 0 && (text[end-1] <= ' ' || text[end-1] == ';') {
		end--
	}
	if end < len("/**/") {
		return parent, false
	}
	if text[end-2] == '*' && text[end-1] == '/' {
		parent, found = in(text[max(0, end-maxComment):end], true)
	}
	if !found && text[0] == '/' && text[1] == '*' {
		parent, found = in(text[:min(end, maxComment)], false)
	}
	return parent, found
}

// in reads the comment that a part of a text ends or begins with.
func in[T string | []byte](part T, ends bool) (parent trace.SpanContext, found bool) {
	var copied [maxComment]byte
	c := copied[:copy(copied[:], part)]
	from, to := 0, len(c)
	if ends {
		from = bytes.LastIndex(c, []byte("/*"))
	} else {
		to = bytes.Index(c, []byte("*/"))
	}
	if from < 0 || to < 0 {
		return parent, false
	}
	c = c[from:to]
	at := grammar.Traceparent(c)
	if at < 0 {
		return parent, false
	}
	value := c[at : at+grammar.TraceparentSize]
	if !odd(value[len(value)-1]) {
		return parent, true // the flag is the last bit
	}
	parent = Parse(string(value), stateIn(c))
	return parent, parent.IsValid()
}

func odd(hex byte) bool { return (hex <= '9') == (hex&1 == 1) } // 'a' is 0x61

// stateIn is the tracestate in a comment.
func stateIn(comment []byte) string {
	_, rest, _ := bytes.Cut(comment, []byte("tracestate='"))
	value, _, ok := bytes.Cut(rest, []byte("'"))
	if !ok {
		return ""
	}
	state, _ := url.PathUnescape(string(value)) // nothing, if it is misspelt
	return state
}
