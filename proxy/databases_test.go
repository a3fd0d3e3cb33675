package proxy_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
)

// databaseStories are statements that need a database for themselves, after what happened
// before in it. %d% is that database, %n% a name nobody has. Each is played with PostgreSQL
// and through the proxy.
var databaseStories = []struct {
	name  string
	does  string   // in %d%, before
	stays bool     // the client that did it
	steps []string // from another database
}{
	{"drop", "select 1", false, []string{"drop database %d%"}},
	{"drop with force", "select 1", false, []string{"drop database %d% with (force)"}},
	{"drop if exists", "create table t (a int)", false, []string{"drop database if exists %d%", "drop database if exists %d%"}},
	{"drop and create", "select 1", false, []string{"drop database %d%", "create database %d%"}},
	{"rename", "select 1", false, []string{"alter database %d% rename to %n%", "drop database %n%", "create database %d%"}},
	{"rename in a transaction", "select 1", false, []string{"begin", "alter database %d% rename to %n%", "rollback"}},
	{"template", "select 1", false, []string{"create database %n% template %d%", "drop database %n%"}},
	{"template, quoted", "select 1", false, []string{"create database %n% with template '%d%'", "drop database %n%"}},
	{"somebody is there", "select 1", true, []string{"drop database %d%"}},
	{"somebody is there, with force", "select 1", true, []string{"drop database %d% with (force)"}},
}

// others are counted by servers, where pgweir reads the catalog as long as a client is there.
var others = regexp.MustCompile(`There (is|are) \d+ other sessions?`)

func TestDatabasesComeAndGo(t *testing.T) {
	for _, own := range []bool{true, false} {
		name := "with an account"
		if !own {
			name = "without"
		}
		t.Run(name, func(t *testing.T) { testDatabases(t, own) })
	}
}

func testDatabases(t *testing.T, account bool) {
	home := newDatabase(t, "")
	cfg := baseConfig(t)
	cfg.Pool.MinIdle, cfg.Routing.CatalogInterval = 1, time.Second
	if !account {
		cfg.Service.User = ""
	}
	s := launch(t, cfg)
	for i, story := range databaseStories {
		for _, extended := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, extended %t", story.name, extended), func(t *testing.T) {
				if story.stays {
					t.Parallel() // the server waits a while for the client to leave
				}
				var got [2]string
				for side, addr := range []string{shared(t).Primary.Addr(), s.addr} {
					db := fmt.Sprintf("come_and_go_%t_%d_%t_%d", account, i, extended, side)
					fill := strings.NewReplacer("%d%", db, "%n%", db+"_n").Replace
					run(t, "postgres", "create database "+db)
					t.Cleanup(func() {
						run(t, "postgres", "drop database if exists "+db+" with (force)")
						run(t, "postgres", "drop database if exists "+db+"_n with (force)")
					})
					in := raw(t, addr, db)
					in.query(story.does)
					if !story.stays {
						in.close()
					}
					from := raw(t, addr, home)
					for _, sql := range story.steps {
						if extended {
							from.send(&pgproto3.Parse{Query: fill(sql)}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
						} else {
							from.send(&pgproto3.Query{String: fill(sql)})
						}
						told := strings.ReplaceAll(tail(from.waitLong("Z"))+"\n", db, "D")
						got[side] += others.ReplaceAllString(told, "other sessions")
					}
				}
				if got[0] != got[1] {
					t.Errorf("got\n%s\nPostgreSQL\n%s", got[1], got[0])
				}
			})
		}
	}
	time.Sleep(2 * time.Second) // for what is done about databases every second
	for _, e := range s.logs.All() {
		if !strings.Contains(fmt.Sprint(e.ContextMap()), "_8_") && !strings.Contains(fmt.Sprint(e.ContextMap()), "_9_") {
			t.Errorf("logged: %s %v", e.Message, e.ContextMap())
		}
	}
}

// template1 is used once, and databases are made of it all the same; a client may copy the
// database that it is in.
func TestTemplates(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	s := start(t, func(c *config.Config) { c.Pool.MinIdle = 1 })
	in := raw(t, s.addr, "template1")
	in.query("select 1")
	in.close()
	from := raw(t, s.addr, database)
	from.query("insert into t values (1)")
	from.query("/* pgweir:replica */ select 1")
	for _, sql := range []string{"create database %s_copy", "drop database %s_copy", "create database %s_copy template %s", "drop database %s_copy"} {
		sql = strings.ReplaceAll(sql, "%s", database)
		began := time.Now()
		from.send(&pgproto3.Query{String: sql})
		if got := from.waitLong("Z"); len(got) != 2 || got[1] != "Z I" {
			t.Errorf("%s: %q", sql, got)
		}
		t.Logf("%s: %v", sql, time.Since(began).Round(time.Millisecond))
	}
}

// A session ends whose database is dropped by force: with its next statement, as nothing of
// it was on a server.
func TestDatabaseGone(t *testing.T) {
	home := newDatabase(t, "")
	s := start(t)
	run(t, "postgres", "create database "+home+"_gone")
	in, from := raw(t, s.addr, home+"_gone"), raw(t, s.addr, home)
	in.query("select 1")
	if got := from.query("drop database " + home + "_gone with (force)"); got[0] != "C DROP DATABASE" {
		t.Fatal(got)
	}
	in.send(&pgproto3.Query{String: "select 1"})
	if got := tail(in.wait("end")); !strings.HasPrefix(got, "E FATAL FATAL 3D000 ") {
		t.Errorf("answer %s", got)
	}
}

// TestLeftDatabases: servers are watched again by a login that a statement had leave its
// database, if there is no other.
func TestLeftDatabases(t *testing.T) {
	database := newDatabase(t, "")
	role := "leaves_" + database
	run(t, "postgres", "create role "+role+" login createdb; alter database "+database+" owner to "+role+"; revoke connect on database postgres from public")
	t.Cleanup(func() {
		run(t, "postgres", "grant connect on database postgres to public; alter database "+database+" owner to postgres")
		run(t, "postgres", "drop database if exists copy_"+database)
		run(t, "postgres", "drop role "+role)
	})
	cfg := baseConfig(t)
	cfg.Service.User = ""
	s := launch(t, cfg)
	c := raw(t, s.addr, database, "user", role)
	c.query("select 1")
	time.Sleep(time.Second) // the monitor has the login by now
	c.send(&pgproto3.Query{String: "create database copy_" + database + " template " + database})
	c.waitLong("Z")
	for range 5 {
		time.Sleep(300 * time.Millisecond)
		began := time.Now()
		if got := c.query("select 1"); got[len(got)-1] != "Z I" || time.Since(began) > 2*time.Second {
			t.Fatalf("%q after %v", got, time.Since(began))
		}
	}
}
