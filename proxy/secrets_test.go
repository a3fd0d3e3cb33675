package proxy_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/proxy"
	"github.com/pgweir/pgweir/proxy/page"
)

// What a statement holds of secrets is in no line of the log, whatever the statement and
// the protocol, and whether it succeeds.
func TestLogHoldsNoLiterals(t *testing.T) {
	database := newDatabase(t, "create table t (a text); create function f(text) returns text language sql return $1; create procedure p(text) language sql as ''")
	a := startAudit(t, func(c *config.Config) { c.Log.SlowStatement = 1 })
	said, slow := a.sayCanary(t, database), 0
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
	if slow < 2*said {
		t.Errorf("only %d statements were logged", slow)
	}
}

// The status page shows none of it either, nor do the events that it keeps of the log.
func TestPageHoldsNoLiterals(t *testing.T) {
	database := newDatabase(t, "create table t (a text, tenant_id int); create function f(text) returns text language sql return $1; create procedure p(text) language sql as ''")
	a := startAudit(t, func(c *config.Config) { c.Insight.Enabled = true })
	events := page.NewEvents()
	shown := page.Start(page.Options{Service: proxy.PageOf(a.Server), Events: events})
	defer shown.Close()
	a.sayCanary(t, database)
	for _, e := range a.logs.All() {
		must(t, events.Write(e.Entry, e.Context))
	}
	web := httptest.NewServer(shown)
	defer web.Close()
	resp, err := http.Get(web.URL + "/events")
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	told := bufio.NewScanner(resp.Body)
	told.Buffer(nil, 1<<20)
	for told.Scan() && !strings.HasPrefix(told.Text(), `data: {`) {
	}
	if strings.Contains(told.Text(), "canary") {
		t.Error(told.Text())
	}
	for _, want := range []string{"select $1", "statement without a tenant filter", "from t"} {
		if !strings.Contains(told.Text(), want) {
			t.Errorf("%q is not shown: %s", want, told.Text())
		}
	}
	sum, _ := proxy.PageOf(a.Server).Insights()
	if len(sum.Statements) < 10 {
		t.Errorf("%d statements are counted", len(sum.Statements))
	}
	for _, s := range sum.Statements {
		w := httptest.NewRecorder()
		shown.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/statement?"+url.Values{"database": {s.Database}, "fingerprint": {s.Fingerprint}}.Encode(), nil))
		if w.Code != http.StatusOK || strings.Contains(w.Body.String(), "canary") {
			t.Errorf("%s: %d: %s", s.Statement, w.Code, w.Body)
		}
	}
}

// sayCanary has statements run that hold a secret, by all protocols, and returns how many there are.
func (a *audited) sayCanary(t *testing.T, database string) int {
	t.Helper()
	role := "secret_" + database
	statements := []string{
		"select a from t where a = 'canary'",
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
	return len(statements)
}
