package router

import (
	"strconv"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// Parameters returns how many parameters a statement has: the highest $n in its text.
func Parameters(text string) (n int) {
	scan, err := pg.Scan(text)
	if err != nil {
		return 0
	}
	for _, t := range scan.GetTokens() {
		if t.GetToken() == pg.Token_PARAM {
			i, _ := strconv.Atoi(text[t.GetStart()+1 : t.GetEnd()])
			n = max(n, i)
		}
	}
	return n
}
