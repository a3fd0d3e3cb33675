package proxy_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestErrorsAtOnce: an error is told when it happens, whether or not the client has said that
// it waits for anything; and what follows is PostgreSQL's to the end.
func TestErrorsAtOnce(t *testing.T) {
	database := newDatabase(t, items)
	s := start(t, eventual)
	parse := func(sql string) *pgproto3.Parse { return &pgproto3.Parse{Query: sql} }
	bind, execute := &pgproto3.Bind{}, &pgproto3.Execute{}
	for name, sent := range map[string][]pgproto3.FrontendMessage{
		"parse":             {parse("select 1 from nowhere")},
		"syntax":            {parse("selec 1")},
		"execute":           {parse("select 1/0"), bind, execute},
		"second":            {parse("select 1"), bind, execute, parse("insert into w values (1/0)"), bind, execute},
		"unknown statement": {&pgproto3.Bind{PreparedStatement: "nothing"}},
		"portal":            {&pgproto3.Execute{Portal: "nothing"}},
		"in a block":        {parse("begin"), bind, execute, parse("select 1/0"), bind, execute},
		"behind an error":   {parse("selec 1"), bind, execute, parse("select 1")},
	} {
		t.Run(name, func(t *testing.T) {
			var answers [2][]string
			for i, addr := range []string{shared(t).Primary.Addr(), s.addr} {
				c := raw(t, addr, database)
				c.send(sent...)
				answers[i] = c.wait("E")
				c.send(bind, execute, &pgproto3.Sync{})
				answers[i] = append(answers[i], c.wait("Z")...)
				answers[i] = append(answers[i], c.query("rollback; select count(*) from w")...)
			}
			if !slices.Equal(answers[0], answers[1]) {
				t.Errorf("directly\n%v\nproxy\n%v", answers[0], answers[1])
			}
		})
	}
}
