package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// listening tells how many server connections of a database listen for sessions.
func listening(t testing.TB, database string) string {
	t.Helper()
	v, err := shared(t).Primary.Value(bounded(t, patience), "postgres",
		"select count(*) from pg_stat_activity where application_name = 'pgweir' and query like 'LISTEN%' and datname = '"+database+"'")
	must(t, err)
	return v
}

// notifications are the lines of a transcript that notify.
func notifications(lines []string) (found []string) {
	for _, line := range lines {
		if strings.HasPrefix(line, "A ") {
			found = append(found, line)
		}
	}
	return found
}

// TestListenersShareAConnection: ten sessions listen, and a pool of one connection is free
// for others; each hears each notification once, in order.
func TestListenersShareAConnection(t *testing.T) {
	database := newDatabase(t, "create table w (a int)")
	s := start(t, poolSize(1))
	var all []*rawConn
	for i := range 10 {
		r := raw(t, s.addr, database)
		if got := r.query(fmt.Sprintf("listen c%d", i%2)); !slices.Contains(got, "C LISTEN") {
			t.Fatalf("%q", got)
		}
		r.query("listen everybody")
		all = append(all, r)
	}
	until(t, "no connection is in use", func() bool { return s.metric(t, "pgweir_server_connections_in_use") == 0 })
	other := raw(t, s.addr, database)
	for i := range 100 {
		if got := other.query(fmt.Sprintf("begin; insert into w values (%d); notify everybody, 'n%d'; notify c%d, 'x'; commit", i, i, i%2)); !slices.Contains(got, "C COMMIT") {
			t.Fatalf("%q", got)
		}
	}
	var wait sync.WaitGroup
	for i, r := range all {
		wait.Go(func() {
			want := []string{}
			for k := range 100 {
				want = append(want, fmt.Sprintf("everybody n%d", k))
				if k%2 == i%2 {
					want = append(want, fmt.Sprintf("c%d x", i%2))
				}
			}
			got := r.waitNotified(len(want))
			if !slices.Equal(got, want) {
				t.Errorf("session %d heard %d: %q", i, len(got), got)
			}
		})
	}
	wait.Wait()
	if n := listening(t, database); n != "1" {
		t.Errorf("%s connections listen", n)
	}
}

// all is what came so far.
func (r *rawConn) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

// waitNotified waits for so many notifications, and a moment for more.
func (r *rawConn) waitNotified(n int) (found []string) {
	r.t.Helper()
	until(r.t, fmt.Sprintf("%d notifications", n), func() bool { return len(notifications(r.all())) >= n })
	time.Sleep(50 * time.Millisecond)
	for _, line := range notifications(r.all()) {
		found = append(found, strings.ReplaceAll(strings.TrimPrefix(line, "A "), `"`, ""))
	}
	return found
}

// TestListenIsAsOnOneServer: who listens, when, and to what.
func TestListenIsAsOnOneServer(t *testing.T) {
	t.Parallel()
	stage{setup: "create table w (a int)"}.tell(t,
		story{name: "in a transaction", steps: "Q begin\nQ listen a\nQ notify a, '1'\nQ commit\nQ select pg_listening_channels()"},
		story{name: "rolled back", steps: "Q begin\nQ listen a\nQ rollback\nQ notify a\nQ select pg_listening_channels()"},
		story{name: "one of two in a savepoint", steps: "Q begin\nQ listen a\nQ savepoint s\nQ listen b\nQ rollback to s\nQ commit\nQ select pg_listening_channels()\nQ notify b\nQ notify a, '2'"},
		story{name: "unlisten one", mode: "outside", steps: "Q listen a\nQ listen b\nQ unlisten a\nQ select pg_listening_channels()\nQ notify a\nQ notify b"},
		story{name: "unlisten one in a block", steps: "Q listen a\nQ listen b\nQ begin\nQ insert into w values (1)\nQ unlisten a\nQ select * from pg_listening_channels() order by 1\nQ commit\nQ select pg_listening_channels()"},
		story{name: "unlisten one in a block that a string began", steps: "Q listen a\nQ begin; select 1\nQ unlisten a; select 2\nQ notify a\nQ commit\nQ select pg_listening_channels()"},
		story{name: "unlisten one behind a Flush", mode: "outside", steps: "Q listen a\nQ listen b\nP \"\" insert into w values (1)\nB \"\" \"\"\nE \"\"\nH\nP \"\" unlisten a\nB \"\" \"\"\nE \"\"\nS\n" +
			"Q notify a\nQ notify b\nQ select pg_listening_channels()"},
		story{name: "unlisten behind what is too long to be gathered", mode: "outside", steps: "Q listen a\nP \"\" insert into w values (length($1))\nB \"\" \"\" " + strings.Repeat("x", 300<<10) + "\nE \"\"\nP \"\" unlisten *\nB \"\" \"\"\nE \"\"\nP \"\" notify a\nB \"\" \"\"\nE \"\"\nS\n" +
			"Q notify a\nQ select pg_listening_channels()"},
		story{name: "unlisten without a Sync", mode: "outside", steps: "Q listen a\nP \"\" insert into w values (1)\nB \"\" \"\"\nE \"\"\nQ unlisten a\nQ notify a\nQ select pg_listening_channels()"},
		story{name: "asked behind a Flush", mode: "outside", steps: "Q listen a\nP \"\" insert into w values (1)\nB \"\" \"\"\nE \"\"\nH\nP \"\" select pg_listening_channels()\nB \"\" \"\"\nE \"\"\nS"},
		story{name: "unlisten, rolled back", steps: "Q listen a\nQ begin\nQ unlisten *\nQ rollback\nQ select pg_listening_channels()"},
		story{name: "discard all", mode: "outside", steps: "Q listen a\nQ discard all\nQ notify a\nQ select pg_listening_channels()"},
		story{name: "twice", mode: "outside", steps: "Q listen a\nQ listen a\nQ notify a, 'once'\nQ select pg_listening_channels()"},
		story{name: "names", mode: "outside", steps: "Q listen \"A \"\"b\"\nQ listen \"häß\"\nQ select * from pg_listening_channels() order by 1"},
		story{name: "names, on a connection with another encoding", steps: "Q listen \"häß\"\n@b\nQ set client_encoding = 'latin1'\nQ insert into w values (1)\n@a\nQ begin\nQ insert into w values (1)\nQ select pg_listening_channels()\nQ commit\nQ notify \"häß\""},
		story{name: "by a function", mode: "outside", steps: "Q do $$ begin execute 'listen a'; end $$\nQ select pg_listening_channels()"},
		story{name: "with a temporary table", mode: "outside", steps: "Q listen a\nQ create temp table x ()\nQ notify a, '1'\nQ drop table x\nQ notify a, '2'\nQ select pg_listening_channels()"},
		story{name: "prepared", mode: "outside", steps: "Q prepare p as select * from pg_listening_channels()\nQ listen a\nQ execute p"},
	)
}

// TestFencesAreNobodys: who listens to the channel that pgweir uses for itself, and leaves,
// takes nothing from others.
func TestFencesAreNobodys(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, poolSize(2))
	r, curious := raw(t, s.addr, database), raw(t, s.addr, database)
	r.query("listen a")
	curious.query(`listen "_pgweir_fence"`)
	curious.query("listen b")
	curious.query("unlisten *")
	curious.close()
	for i, ch := range []string{"b", "c"} {
		if got := r.query("listen " + ch); !slices.Contains(got, "C LISTEN") {
			t.Fatalf("%q", got)
		}
		r.query("notify " + ch)
		if got := r.waitNotified(i + 1); got[i] != ch+" " {
			t.Errorf("%q", got)
		}
	}
}

// TestNotifiesItself: a session that notifies itself knows itself by its process ID.
func TestNotifiesItself(t *testing.T) {
	database := newDatabase(t, "create table w (a int); create function n() returns trigger language plpgsql as $$ begin perform pg_notify('a', 'by trigger'); return new; end $$; create trigger t after insert on w for each row execute function n()")
	s := start(t, poolSize(2))
	r, other := raw(t, s.addr, database), raw(t, s.addr, database)
	r.query("listen a")
	other.query("notify a, 'of another'")
	r.waitNotified(1)
	r.query("notify a, 'own'")
	r.query("insert into w values (1)")
	r.query("begin")
	r.query("notify a, 'in a block'")
	r.query("insert into w values (1)")
	r.query("commit")
	other.query("insert into w values (1)")
	want := []string{"a of another", "a own", "a by trigger", "a in a block", "a by trigger", "a by trigger"}
	if got := r.waitNotified(len(want)); !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
	for i, own := range []bool{false, true, true, true, true, false} {
		if (r.pids[i] == r.pid) != own {
			t.Errorf("%q has process ID %d; the session's own is %d", want[i], r.pids[i], r.pid)
		}
	}
}

// TestHubIsLost: sessions that may have missed a notification end, as they would if their
// own connection were lost; others do not notice.
func TestHubIsLost(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t)
	idle, working, other := raw(t, s.addr, database), raw(t, s.addr, database), raw(t, s.addr, database)
	idle.query("listen a")
	working.query("listen a")
	until(t, "one connection listens", func() bool { return listening(t, database) == "1" })
	other.query("select 1")
	must(t, shared(t).Primary.Exec(bounded(t, patience), "postgres",
		"select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgweir' and query like 'LISTEN%' and datname = '"+database+"'"))
	for _, r := range []*rawConn{idle, working} {
		if got := r.wait("end"); !slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, "E FATAL FATAL 57P01") }) {
			t.Errorf("told %q", got)
		}
	}
	if got := other.query("select 2"); !slices.Contains(got, `D "2"`) {
		t.Errorf("another session: %q", got)
	}
	again := raw(t, s.addr, database)
	again.query("listen a")
	other.query("notify a, 'after'")
	if got := again.waitNotified(1); !slices.Equal(got, []string{"a after"}) {
		t.Errorf("%q", got)
	}
}
