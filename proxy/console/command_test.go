package console_test

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// pgbench is pgbench over the proxy, to be run.
func (s *service) pgbench(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("pgbench")
	if err != nil {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
		require.NotEmpty(t, found, "\"make deps\" installs pgbench")
		path = found[0]
	}
	return exec.Command(path, append(args, "-h", s.host, "-p", s.port, "-U", pgtest.Superuser, s.db)...)
}

// TestPauseUnderLoad: PAUSE and RESUME again and again while pgbench writes and reads: nothing fails.
// While it is paused no client has a server connection.
func TestPauseUnderLoad(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config.Config) { c.Pool.Size = 4 })
	out, err := s.pgbench(t, "-i", "-q", "-s", "1").CombinedOutput()
	require.NoError(t, err, string(out))
	bench := s.pgbench(t, "-n", "-c", "6", "-T", "4", "-M", "prepared")
	var told strings.Builder
	bench.Stdout, bench.Stderr = &told, &told
	require.NoError(t, bench.Start())
	ended := make(chan error, 1)
	go func() { ended <- bench.Wait() }()
	conn := s.admin(t)
	until(t, "it runs", func() bool { return s.metric(t, "pgweir_clients") == 6 })
	pauses := 0
	for i, command := range []string{"PAUSE", "PAUSE " + s.db, "PAUSE"} {
		began := s.metric(t, "pgweir_statements_total")
		until(t, "it goes on", func() bool { return s.metric(t, "pgweir_statements_total") > began+50 || len(ended) > 0 })
		if len(ended) > 0 { // on a slow machine
			break
		}
		pauses++
		_, err := conn.Exec(bounded(t), command)
		require.NoError(t, err)
		until(t, "their processes have ended", func() bool { return len(s.backends(t)) == 0 })
		before := s.metric(t, "pgweir_statements_total")
		until(t, "all wait", func() bool {
			all := show(t, conn, "CLIENTS")
			return len(of(all, "state", "waiting")) == len(all)
		})
		require.Equal(t, before, s.metric(t, "pgweir_statements_total"))
		require.EqualValues(t, 1, of(show(t, conn, "DATABASES"), "name", s.db)[0]["paused"])
		require.Equal(t, i != 1, of(show(t, conn, "STATE"), "key", "paused")[0]["value"] == "yes")
		_, err = conn.Exec(bounded(t), "RESUME")
		require.NoError(t, err)
	}
	require.NoError(t, <-ended, told.String())
	require.Positive(t, pauses)
	require.Contains(t, told.String(), "number of failed transactions: 0 (0.000%)")
	require.NotContains(t, told.String(), "error")
}

// TestPause: a transaction that is under way goes on and is waited for; what begins waits; who gives
// PAUSE up has clients go on; other databases are not concerned.
func TestPause(t *testing.T) {
	t.Parallel()
	s := start(t)
	other := pgtest.Shared(t).Database(t)
	conn, inside, outside := s.admin(t), s.client(t), s.client(t)
	elsewhere := s.connect(t, pgtest.Superuser, other)
	command(t, inside, "begin")
	command(t, inside, "create table p (i int)")

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := s.admin(t).Exec(ctx, "PAUSE")
	require.Error(t, err) // a cancel request was sent
	until(t, "it is given up", func() bool { return of(show(t, conn, "STATE"), "key", "paused")[0]["value"] == "no" })
	command(t, outside, "select 1")

	paused := make(chan error, 1)
	go func() {
		_, err := conn.Exec(bounded(t), "PAUSE "+s.db)
		paused <- err
	}()
	second := s.admin(t)
	until(t, "it is said who does", func() bool {
		said := s.logs.FilterMessage("console command has begun").FilterField(zap.String("command", "PAUSE "+s.db)).All()
		return len(said) == 1 && said[0].ContextMap()["by"] == "boss"
	})
	until(t, "it is paused", func() bool { return of(show(t, second, "DATABASES"), "name", s.db)[0]["paused"] == int64(1) })
	waits := make(chan error, 1)
	go func() {
		_, err := outside.Exec(bounded(t), "select 2")
		waits <- err
	}()
	until(t, "it waits", func() bool { return len(of(show(t, second, "CLIENTS"), "state", "waiting")) == 1 })
	command(t, elsewhere, "select 1")
	command(t, inside, "insert into p values (1)")
	select {
	case err := <-paused:
		t.Fatal("PAUSE has answered while a transaction was open", err)
	default:
	}
	command(t, inside, "commit")
	require.NoError(t, <-paused)
	require.Len(t, waits, 0)
	command(t, second, "RESUME "+s.db)
	require.NoError(t, <-waits)

	command(t, second, "PAUSE")
	_, err = second.Exec(bounded(t), "RESUME "+s.db)
	require.Equal(t, "55000", code(err))
	command(t, second, "RESUME")
	command(t, outside, "select 3")
}

// TestPauseIsBounded: who waits is refused after acquire_timeout, and told that it is because of PAUSE or KILL; so is who logs in.
func TestPauseIsBounded(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config.Config) { c.Pool.AcquireTimeout = 200 * time.Millisecond })
	conn, client := s.admin(t), s.client(t)
	refused := func(err error) {
		t.Helper()
		require.Equal(t, "53300", code(err))
		require.ErrorContains(t, err, "the database is paused at the admin console")
		require.Equal(t, "RESUME at the admin console has clients go on.", hint(err))
	}
	for _, pause := range []string{"PAUSE", "PAUSE " + s.db, "KILL " + s.db, "KILL"} {
		command(t, conn, pause)
		if strings.HasPrefix(pause, "PAUSE") {
			_, err := client.Exec(bounded(t), "select 1")
			refused(err)
		}
		late, err := pgx.Connect(bounded(t), s.dsn(pgtest.Superuser, s.db, "options='-c work_mem=4321kB'")) // which servers are asked for
		if err == nil {
			_, err = late.Exec(bounded(t), "select 1")
			require.NoError(t, late.Close(t.Context()))
		}
		refused(err)
		command(t, conn, "RESUME")
		client = s.client(t)
		command(t, client, "select 1")
	}
}

// TestKill: KILL ends the clients of a database and what runs for them, and pauses it; KILL_CLIENT ends
// one client.
func TestKill(t *testing.T) {
	t.Parallel()
	s := start(t)
	other := pgtest.Shared(t).Database(t)
	conn, idle, running, elsewhere := s.admin(t), s.client(t), s.client(t, "application_name=runner"), s.connect(t, pgtest.Superuser, other)
	failed := make(chan error, 1)
	go func() {
		_, err := running.Exec(t.Context(), "select pg_sleep(60)")
		failed <- err
	}()
	until(t, "it runs", func() bool { return s.running(t) == 1 })
	id := of(show(t, conn, "CLIENTS"), "application_name", "runner")[0]["id"]
	command(t, conn, fmt.Sprintf("KILL_CLIENT %d", id))
	require.Equal(t, "57014", code(<-failed))
	_, err := running.Exec(bounded(t), "select 1")
	require.Error(t, err)
	require.Empty(t, of(show(t, conn, "CLIENTS"), "application_name", "runner"))
	until(t, "its statement is canceled", func() bool { return s.running(t) == 0 })
	command(t, idle, "select 1")

	command(t, conn, "KILL "+s.db)
	require.Empty(t, of(show(t, conn, "CLIENTS"), "database", s.db))
	until(t, "their processes have ended", func() bool { return len(s.backends(t)) == 0 })
	_, err = idle.Exec(bounded(t), "select 1")
	require.Error(t, err)
	command(t, elsewhere, "select 1")
	command(t, conn, "RESUME "+s.db)
	command(t, s.client(t), "select 1")
}

// running is how many statements sleep on the servers.
func (s *service) running(t *testing.T) (n int) {
	t.Helper()
	for _, server := range pgtest.Shared(t).Servers() {
		conn, err := pgx.Connect(bounded(t), fmt.Sprintf("host=%s port=%d user=%s dbname=postgres sslmode=disable", server.Host, server.Port, pgtest.Superuser))
		require.NoError(t, err)
		var here int
		require.NoError(t, conn.QueryRow(bounded(t), "select count(*) from pg_stat_activity where datname = $1 and state = 'active' and query like '%pg_sleep%'", s.db).Scan(&here))
		n += here
		_ = conn.Close(t.Context())
	}
	return n
}

// TestReconnect: connections are replaced as they become free, those to one server alone if it is named.
func TestReconnect(t *testing.T) {
	t.Parallel()
	s := start(t)
	conn, client := s.admin(t), s.client(t)
	command(t, client, "create table r (x int, pid int)")
	pids := func() map[int64]bool {
		all := map[int64]bool{}
		for _, r := range of(show(t, conn, "SERVERS"), "database", s.db) {
			all[r["remote_pid"].(int64)] = true
		}
		return all
	}
	until(t, "there is one", func() bool { return len(pids()) > 0 })
	before := pids()
	command(t, conn, "RECONNECT SERVER "+replica(t, conn))
	until(t, "it is there still", func() bool { return maps.Equal(before, pids()) }) // none are listed while they are given back
	command(t, client, "begin")
	command(t, client, "insert into r values (1, 1)")
	command(t, conn, "RECONNECT "+s.db)
	command(t, client, "insert into r values (2, 2)")
	command(t, client, "commit")
	command(t, client, "insert into r values (3, 3)")
	until(t, "all are others", func() bool {
		for n := range pids() {
			if before[n] {
				return false
			}
		}
		return true
	})
}

// replica is the address of a replica.
func replica(t *testing.T, conn *pgx.Conn) string {
	return of(show(t, conn, "TOPOLOGY"), "role", "replica")[0]["server"].(string)
}

// TestDisable: a disabled database lets nobody in, and serves those that are there.
func TestDisable(t *testing.T) {
	t.Parallel()
	s := start(t)
	conn, client := s.admin(t), s.client(t)
	command(t, conn, "DISABLE "+s.db)
	_, err := pgx.Connect(bounded(t), s.dsn(pgtest.Superuser, s.db))
	require.Equal(t, "57P03", code(err))
	command(t, client, "select 1")
	require.EqualValues(t, 1, of(show(t, conn, "DATABASES"), "name", s.db)[0]["disabled"])
	command(t, conn, "ENABLE "+s.db)
	command(t, s.client(t), "select 1")
}

// TestDisableServer: no reads go to a replica that is disabled; the primary cannot be.
func TestDisableServer(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config.Config) { c.Routing.Consistency = "eventual" })
	conn, client := s.admin(t), s.client(t)
	command(t, client, "select 1") // the catalog is known
	rows := show(t, conn, "TOPOLOGY")
	_, err := conn.Exec(bounded(t), "DISABLE SERVER "+of(rows, "role", "primary")[0]["server"].(string))
	require.Equal(t, "55000", code(err))
	replicas := of(rows, "role", "replica")
	require.Len(t, replicas, 2)
	first, second := replicas[0]["server"].(string), replicas[1]["server"].(string)
	served := func() map[string]bool {
		found := map[string]bool{}
		for range 20 {
			found[s.where(t, client)] = true
		}
		return found
	}
	require.Equal(t, map[string]bool{first: true, second: true}, served())
	command(t, conn, "DISABLE SERVER "+first)
	require.Equal(t, map[string]bool{second: true}, served())
	disabled := of(show(t, conn, "TOPOLOGY"), "server", first)[0]
	require.EqualValues(t, 1, disabled["disabled"])
	require.Contains(t, disabled["because"], "ENABLE SERVER")
	command(t, conn, "DISABLE SERVER "+second)
	require.Equal(t, map[string]bool{of(rows, "role", "primary")[0]["server"].(string): true}, served())
	command(t, conn, "ENABLE SERVER "+first)
	require.Equal(t, map[string]bool{first: true}, served())
}

// where is the server that a read runs on.
func (s *service) where(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	command(t, conn, "set pgweir.trace = on")
	command(t, conn, "select 1 from pg_class limit 1")
	return *s.traced.Load()
}

// TestRoute: ROUTE PRIMARY keeps everything on the primary, whatever sessions and hints say, until ROUTE AUTO.
func TestRoute(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config.Config) { c.Routing.Consistency = "eventual" })
	conn, client := s.admin(t), s.client(t)
	primary := of(show(t, conn, "TOPOLOGY"), "role", "primary")[0]["server"].(string)
	require.NotEqual(t, primary, s.where(t, client))
	command(t, conn, "ROUTE PRIMARY")
	require.Equal(t, primary, s.where(t, client))
	command(t, client, "set pgweir.route = 'replica'")
	require.Equal(t, primary, s.where(t, client))
	require.NotEmpty(t, of(show(t, conn, "ROUTES"), "reason", "route"))
	s.file.Pool.Size = 7
	command(t, conn, "RELOAD")
	require.Equal(t, primary, s.where(t, client))
	command(t, conn, "ROUTE AUTO")
	require.NotEqual(t, primary, s.where(t, client))
}

// TestSetAndReload: SET changes a key until the configuration is read again; RELOAD tells what is wrong.
func TestSetAndReload(t *testing.T) {
	t.Parallel()
	s := start(t)
	conn := s.admin(t)
	value := func() any { return of(show(t, conn, "SETTINGS"), "key", "pool.size")[0]["value"] }
	require.Equal(t, "20", value())
	command(t, conn, "SET pool.size = 7")
	require.Equal(t, "7", value())
	require.Equal(t, 7, s.Proxy.Config().Pool.Size)
	require.Equal(t, "7", of(show(t, conn, "CONFIG"), "key", "default_pool_size")[0]["value"])
	command(t, conn, "SET routing.primary_wait TO 3s")
	command(t, conn, "SET users.watcher.pool_size = 3")
	require.Equal(t, 3, s.Proxy.Config().Users["watcher"].PoolSize)
	require.Equal(t, "secret", s.Proxy.Config().Users["watcher"].Password)
	command(t, conn, "SET console.stats_users = [watcher, third]")
	require.Equal(t, []string{"watcher", "third"}, s.Proxy.Config().Console.StatsUsers)
	command(t, conn, "RELOAD")
	require.Equal(t, "20", value())
	s.file.Pool.Size = -1
	_, err := conn.Exec(bounded(t), "RELOAD")
	require.Equal(t, "F0000", code(err))
	require.Contains(t, err.Error(), "pool.size")
	require.Equal(t, "20", value())
	for _, r := range show(t, conn, "SETTINGS") {
		require.NotEqual(t, "secret", r["value"], r["key"])
	}
}

// TestShutdown: SHUTDOWN ends the service at once; with WAIT_FOR_SERVERS when transactions have ended,
// with WAIT_FOR_CLIENTS when clients have left.
func TestShutdown(t *testing.T) {
	t.Parallel()
	t.Run("now", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		conn, client := s.admin(t), s.client(t)
		var running sync.WaitGroup
		running.Go(func() { _, _ = client.Exec(t.Context(), "select pg_sleep(60)") })
		until(t, "it runs", func() bool { return len(of(show(t, conn, "CLIENTS"), "state", "active")) == 1 })
		_, _ = conn.Exec(bounded(t), "SHUTDOWN")
		s.ends(t)
		running.Wait()
	})
	t.Run("servers", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		conn, idle, client := s.admin(t), s.client(t), s.client(t)
		command(t, client, "begin")
		command(t, client, "create table s (i int)")
		command(t, conn, "SHUTDOWN WAIT_FOR_SERVERS")
		until(t, "idle clients are ended", func() bool {
			_, err := idle.Exec(bounded(t), "select 1")
			return err != nil
		})
		command(t, client, "commit")
		s.ends(t)
	})
	t.Run("clients", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		conn, client := s.admin(t), s.client(t)
		command(t, conn, "SHUTDOWN WAIT_FOR_CLIENTS")
		until(t, "nobody is let in", func() bool {
			again, err := pgconn.Connect(bounded(t), s.dsn(pgtest.Superuser, s.db))
			if err == nil {
				_ = again.Close(t.Context())
			}
			return err != nil
		})
		command(t, client, "select 1")
		require.NotEmpty(t, show(t, conn, "CLIENTS"))
		require.NoError(t, client.Close(t.Context()))
		s.ends(t)
	})
}

func (s *service) ends(t *testing.T) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatal("the service does not end")
	}
}

// TestPrimaryThatIsNotListed: it is used as long as no other primary is known, and it is said that it is.
func TestPrimaryThatIsNotListed(t *testing.T) {
	t.Parallel()
	s := start(t)
	conn, client, cluster := s.admin(t), s.client(t), pgtest.Shared(t)
	command(t, client, "create table w (a int)")
	all, primary := s.file.Clusters, cluster.Primary.Addr()
	without := all["default"]
	without.Servers = slices.DeleteFunc(slices.Clone(without.Servers), func(s config.Server) bool { return s.Address == primary })
	require.Len(t, without.Servers, len(cluster.Servers())-1)
	because := func() any { return of(show(t, conn, "TOPOLOGY"), "server", primary)[0]["because"] }
	require.Nil(t, because())
	s.file.Clusters = map[string]config.Cluster{"default": without}
	command(t, conn, "RELOAD")
	require.Equal(t, "it is not listed any more, but still used: no other primary is known", because())
	time.Sleep(1100 * time.Millisecond) // it would have been forgotten
	command(t, client, "insert into w values (1)")
	said := func() int {
		return s.logs.FilterLevelExact(zap.WarnLevel).FilterMessage("the primary is not listed any more, but still used: no other primary is known").Len()
	}
	until(t, "it is said", func() bool { return said() == 1 })
	s.file.Clusters = all
	command(t, conn, "RELOAD")
	require.Nil(t, because())
	require.Equal(t, 1, said())
	command(t, client, "insert into w values (2)")
}
