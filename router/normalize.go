package router

import pg_query "github.com/pganalyze/pg_query_go/v5"

// Normalize is a statement with its literals replaced by parameters, for logs.
// A text the parser refuses is not shown at all: it may hold anything.
func Normalize(text string) string {
	if tooDeep(text) {
		return "<too deep>"
	}
	n, err := pg_query.Normalize(text)
	if err != nil {
		return "<unparsed>"
	}
	return n
}
