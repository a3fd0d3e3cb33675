package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/config"
)

// readyz is the status and the text of the health check.
func readyz(t *testing.T, cfg config.Config) (int, string) {
	t.Helper()
	answer, err := http.Get("http://" + cfg.HTTP + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text)
}

// TestCauseOfFailedLookUp: a service account that may not read secrets is told of, with what cures
// it, by the log, by check and by the health check; a client learns nothing of it, and nothing
// of whether it is known.
func TestCauseOfFailedLookUp(t *testing.T) {
	c := ordinary(t)
	path := ordinaryConfig(t, c, "")
	cfg, logs := proxyOf(t, path)

	eventually(t, "/readyz is 503", func() bool { status, _ := readyz(t, cfg); return status == 503 })
	_, text := readyz(t, cfg)
	wantOutput(t, text, "nobody can log in", "permission denied for view pg_shadow", "pgweir setup-sql", "SELECT * FROM pgweir.secret($1)")

	var told []string
	for _, user := range []string{"app", "nobody"} {
		_, err := through(t, cfg, user, "correct horse", "postgres")
		if err == nil || !strings.Contains(err.Error(), "57P03") || strings.Contains(err.Error(), "pg_shadow") {
			t.Errorf("%s is told %v", user, err)
		}
		_, message, _ := strings.Cut(fmt.Sprint(err), "FATAL")
		told = append(told, strings.ReplaceAll(message, user, "USER"))
	}
	if told[0] != told[1] {
		t.Errorf("the known user is told %q, the unknown %q", told[0], told[1])
	}
	eventually(t, "both are logged", func() bool { return logs.FilterMessage("login refused").Len() == 2 })
	var causes, refused int
	for _, e := range logs.All() {
		fields := fmt.Sprint(e.ContextMap())
		switch e.Message {
		case "passwords cannot be looked up":
			causes++
			wantOutput(t, fields, "permission denied for view pg_shadow", "pgweir setup-sql", "CREATE FUNCTION pgweir.secret")
		case "login refused":
			refused++
			wantOutput(t, fields, "auth query: permission denied for view pg_shadow (SQLSTATE 42501)")
		}
	}
	if causes != 1 || refused != 2 {
		t.Errorf("%d lines tell the cause, %d of a login refused: %v", causes, refused, logs.All())
	}

	out, code := pgweir("", "check", "--connect", "--config", path)
	wantOutput(t, out, "fault: "+c.Primary.Addr()+": passwords cannot be looked up", "permission denied for view pg_shadow", "    CREATE FUNCTION pgweir.secret(INOUT", "1 fault")
	if code != exitFailure {
		t.Errorf("exit %d", code)
	}

	// The SQL that was printed is what was lacking.
	_, sql, _ := strings.Cut(out, "  cure: ")
	_, sql, _ = strings.Cut(sql, "\n")
	sql, _, _ = strings.Cut(sql, "1 fault")
	if err := c.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%v in\n%s", err, sql)
	}
	out, code = pgweir("", "check", "--connect", "--config", ordinaryConfig(t, c, "auth: {query: 'SELECT * FROM pgweir.secret($1)'}\n"))
	if wantOutput(t, out, "servers: ok"); code != 0 {
		t.Errorf("exit %d", code)
	}
	for query, part := range map[string]string{
		"SELECT usename FROM pg_shadow WHERE usename = $1": "permission denied",
		"SELECT $1::text":                   "auth.query returns 1 column; it must return the name and the secret",
		"SELECT name FROM lost($1) AS name": "function lost(unknown) does not exist",
	} {
		out, code = pgweir("", "check", "--connect", "--config", ordinaryConfig(t, c, "auth: {query: '"+query+"'}\n"))
		if wantOutput(t, out, part); code != exitFailure {
			t.Errorf("%s: exit %d", query, code)
		}
	}
}

// TestCureIsNoticed: once the cure has run the service is ready, without a restart.
func TestCureIsNoticed(t *testing.T) {
	c := ordinary(t)
	cfg, _ := proxyOf(t, ordinaryConfig(t, c, ""))
	eventually(t, "/readyz is 503", func() bool { status, _ := readyz(t, cfg); return status == 503 })
	if err := c.Exec(t.Context(), "GRANT SELECT ON pg_shadow TO pgweir"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "/readyz is 200", func() bool { status, _ := readyz(t, cfg); return status == 200 })
	if as, err := through(t, cfg, "app", "correct horse", "postgres"); as != "app" {
		t.Errorf("%q, %v", as, err)
	}
}
