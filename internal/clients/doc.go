// Package clients holds no code of its own, only tests: unmodified clients in
// several languages run the same program against the primary itself and through
// the proxy, and both must see the same.
//
// A program (testdata) prints one line for every fact it observes, "name: value":
// rows, command tags, every field of an error, notices, settings. It prints nothing
// that differs by nature, such as process ids and ports. The two transcripts are
// compared line by line, so that a new check needs no expectation written down:
// PostgreSQL is the expectation.
//
// Each program runs three times, each time as a plain role on an empty database:
// on the primary, through the proxy, and through the proxy again with the same
// database emptied, so that it meets pools, plans and prepared statements that
// the second run left.
package clients
