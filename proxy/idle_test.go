package proxy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/config"
)

// A client that is silent for too long is told what PostgreSQL tells it, whatever part
// of its session a server knows.
func TestSilentClientsAreEnded(t *testing.T) {
	db := newDatabase(t, items)
	role := "role_" + db
	run(t, db, "create role "+role+" login; alter role "+role+" set idle_session_timeout = 250")
	t.Cleanup(func() { run(t, db, "drop owned by "+role+"; drop role "+role) })
	s := start(t, poolSize(2), eventual, func(c *config.Config) { c.Servers = c.Servers[:2] })
	const session, within = "set idle_session_timeout = 200", "set idle_in_transaction_session_timeout = '0.2s'"
	for name, v := range map[string]struct {
		user, option string
		queries      []string
		lives        bool
	}{
		"session":                                {queries: []string{session}},
		"session, by set_config":                 {queries: []string{"select set_config('idle_session_timeout', '200ms', false)"}},
		"session, after a read":                  {queries: []string{session, "select count(*) from items"}},
		"session, after a write":                 {queries: []string{session, "insert into w values (1)"}},
		"session, tied to its connection":        {queries: []string{session, "create temp table x (a int)"}},
		"session, listening":                     {queries: []string{session, "listen x"}},
		"session, at startup":                    {option: "-c idle_session_timeout=200"},
		"session, by the role":                   {user: role, queries: []string{"select 1"}},
		"session, off":                           {user: role, queries: []string{"set idle_session_timeout = 0"}, lives: true},
		"session, reset":                         {queries: []string{session, "reset idle_session_timeout"}, lives: true},
		"session, not in a transaction":          {queries: []string{session, "begin"}, lives: true},
		"session, undone":                        {queries: []string{"begin", session, "rollback"}, lives: true},
		"transaction, BEGIN alone":               {queries: []string{within, "begin"}},
		"transaction, after a read":              {queries: []string{within, "begin", "select count(*) from items"}},
		"transaction, after a write":             {queries: []string{within, "begin", "insert into w values (1)"}},
		"transaction, failed":                    {queries: []string{within, "begin", "select 1/0"}},
		"transaction, set in it":                 {queries: []string{"begin", "set local idle_in_transaction_session_timeout = 200"}},
		"transaction, at startup":                {option: "-c idle_in_transaction_session_timeout=200", queries: []string{"begin"}},
		"transaction, over":                      {queries: []string{within, "begin", "commit"}, lives: true},
		"transaction, behind a local setting":    {queries: []string{"begin", "set local idle_in_transaction_session_timeout = 200", "commit", "begin"}, lives: true},
		"transaction, in a savepoint, undone":    {queries: []string{"begin", "savepoint s", "set local idle_in_transaction_session_timeout = 200", "rollback to s"}, lives: true},
		"transaction, and the session's is less": {queries: []string{within, "set idle_session_timeout = 60000", "begin"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all [2]string
			for i, addr := range []string{shared(t).Primary.Addr(), s.addr} {
				var params []string
				if v.user != "" {
					params = append(params, "user", v.user)
				}
				if v.option != "" {
					params = append(params, "options", v.option)
				}
				r := raw(t, addr, db, params...)
				for _, q := range v.queries {
					r.query(q)
				}
				if v.lives {
					time.Sleep(600 * time.Millisecond) // that nothing happens
					all[i] = tail(r.query("select 'alive'"))
				} else {
					all[i] = tail(r.wait("end"))
				}
				r.close()
			}
			if all[0] != all[1] || v.lives == strings.Contains(all[0], "FATAL") {
				t.Errorf("directly\n%s\nproxy\n%s", all[0], all[1])
			}
		})
	}
}

// The session of a client that was silent for too long leaves nothing behind.
func TestTheServerEndsSilentClients(t *testing.T) {
	cluster := shared(t)
	db := newDatabase(t, items)
	must(t, cluster.Exec(t.Context(), "alter system set idle_in_transaction_session_timeout = '300ms'"))
	must(t, cluster.Primary.Reload(t.Context()))
	t.Cleanup(func() {
		must(t, cluster.Exec(bounded(t, patience), "alter system reset idle_in_transaction_session_timeout"))
		must(t, cluster.Primary.Reload(bounded(t, patience)))
	})
	until(t, "new sessions have it", func() bool {
		r := raw(t, cluster.Primary.Addr(), db)
		defer r.close()
		return slices.Contains(r.query("show idle_in_transaction_session_timeout"), `D "300ms"`)
	})
	s := start(t, poolSize(1), eventual)
	for _, first := range []string{"", "select count(*) from items", "insert into w values (1)"} {
		r := raw(t, s.addr, db)
		r.query("begin")
		r.query(first)
		if got := tail(r.wait("end")); !strings.Contains(got, "FATAL FATAL 25P03") {
			t.Errorf("%s: %s", first, got)
			continue
		}
		other := raw(t, s.addr, db)
		if got := tail(other.query("insert into w values (2)")); !strings.Contains(got, "INSERT 0 1") {
			t.Errorf("after %s: %s", first, got)
		}
		other.close()
	}
}
