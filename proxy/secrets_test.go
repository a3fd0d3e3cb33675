package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/config"
)

// What a statement holds of secrets is in no line of the log, whatever the statement and
// the protocol, and whether it succeeds.
func TestLogHoldsNoLiterals(t *testing.T) {
	database := newDatabase(t, "create table t (a text); create function f(text) returns text language sql return $1; create procedure p(text) language sql as ''")
	a := startAudit(t, func(c *config.Config) { c.Log.SlowStatement = 1 })
	role := "secret_" + database
	statements := []string{
		"select 'canary' /* canary */", "select f(E'canary')", "insert into t values ('canary') -- canary",
		"create role " + role + " password E'canary'", "alter role " + role + " password 'canary'",
		"alter role " + role + " set app.key to canary", "drop role " + role,
		"comment on table t is 'canary'", "notify n, 'canary'", "call p('canary')", "do $$ begin perform 'canary'; end $$",
		"prepare pp as select 'canary'", "execute pp", "prepare p2 as select $1::text", "execute p2('canary')", "deallocate all",
		"copy t to program 'true canary'", "create server s foreign data wrapper none options (password 'canary')",
		"set app.key = canary", "set app.key = 'canary'; select 1", "select set_config('app.key', 'canary', false)",
		"set timezone = 'canary'", "select 'canary'::int", "selct canary", "select 'canary", "select 1/0 /* canary */",
	}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec} {
		conn := a.connect(t, database)
		for _, sql := range statements {
			_, _ = conn.Exec(t.Context(), sql, mode)
		}
	}
	slow := 0
	for _, e := range a.logs.All() {
		enc := zapcore.NewMapObjectEncoder()
		for _, f := range e.Context {
			f.AddTo(enc)
		}
		if line := e.Message + fmt.Sprint(enc.Fields); strings.Contains(line, "canary") {
			t.Error(line)
		}
		if e.Message == "slow statement" {
			slow++
		}
	}
	if slow < 2*len(statements) {
		t.Errorf("only %d statements were logged", slow)
	}
}
