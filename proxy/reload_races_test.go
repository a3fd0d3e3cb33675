package proxy_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
)

// TestReloadWhileItEnds: whatever a reload and the end of the service do at the same time, all of
// it has ended then, and a later one is refused.
func TestReloadWhileItEnds(t *testing.T) {
	for _, end := range []func(*service){
		func(s *service) { s.Close() },
		func(s *service) { s.Shutdown(context.Background()) },
	} {
		r := runningUnder(t)
		other := copyOf(r.cfg)
		other.Pool.Size, other.Pool.MinIdle = 5, 3
		other.Databases = map[string]config.Database{"*": {Name: r.db, MaxClients: 100}, "x": {}}
		conn := r.connect(t, r.db)
		exec(t, conn, "insert into w values (1)")
		var reloads sync.WaitGroup
		var done atomic.Int64
		for range 2 {
			reloads.Go(func() {
				for i := 0; ; i++ {
					if _, err := r.Reload([]config.Config{other, r.cfg}[i%2]); err != nil {
						return // it has ended
					}
					done.Add(1)
				}
			})
		}
		until(t, "some are done", func() bool { return done.Load() > 10 })
		end(r.service)
		reloads.Wait()
		_, err := r.Reload(r.cfg)
		require.ErrorContains(t, err, "has ended")
	}
}

// TestReloadWhereServersAreFound: a reload leaves servers alone that are found, not listed.
func TestReloadWhereServersAreFound(t *testing.T) {
	_, port, err := net.SplitHostPort(freeAddress(t))
	must(t, err)
	reg := byName(t)
	for i, s := range shared(t).Servers()[:2] {
		forward(t, net.JoinHostPort([]string{"127.0.0.21", "127.0.0.22"}[i], port), s)
	}
	reg.set("127.0.0.21", "127.0.0.22")
	r := &running{T: t, changed: map[string]bool{}}
	r.begin(func(c *config.Config) {
		c.Servers = nil
		reg.configure(c, port)
		c.Routing.DiscoveryInterval = 100 * time.Millisecond
	})
	up := func(n int) func() bool {
		return func() bool { return r.metric(t, "pgweir_server_up") == float64(n) }
	}
	until(t, "both are up", up(2))
	conn := r.connect(t, r.db)
	for i := range 20 {
		r.reload(func(c *config.Config) { c.Pool.Size, c.Pool.MaxServerConnections = 5+i%2, 20+i })
		exec(t, conn, "insert into w values (1)")
		require.True(t, up(2)())
		switch i {
		case 7:
			reg.set("127.0.0.21")
			until(t, "one has left", up(1))
			reg.set("127.0.0.21", "127.0.0.22")
			until(t, "it is back", up(2))
		case 14:
			require.EqualValues(t, 34, r.metric(t, "pgweir_server_connections_bound", "server=127.0.0.21:"+port))
		}
	}
}

// TestDatabaseMovesToAndFro: clients come, work and are told to go while their database is now here,
// now there: none sees the one under the other's configuration, and nothing is counted that has left.
func TestDatabaseMovesToAndFro(t *testing.T) {
	names := []string{newDatabase(t, items), newDatabase(t, items)}
	r := &running{T: t, changed: map[string]bool{}, db: names[0]}
	r.begin(func(c *config.Config) {
		c.Databases = map[string]config.Database{"shop": {Name: names[0]}}
		c.Pool.ForgetAfter = 50 * time.Millisecond
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stop atomic.Bool
	var told, answered atomic.Int64
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() {
			for !stop.Load() {
				conn, err := pgx.Connect(ctx, r.dsn("shop"))
				for err == nil && !stop.Load() {
					var here, there string
					if err = conn.QueryRow(ctx, "select current_database() from items", pgx.QueryExecModeSimpleProtocol).Scan(&here); err == nil {
						err = conn.QueryRow(ctx, "/* pgweir:primary */ select current_database() from items", pgx.QueryExecModeSimpleProtocol).Scan(&there)
					}
					if err == nil && here != there {
						t.Errorf("one session is in %s and %s", here, there)
					}
					if err == nil {
						answered.Add(1)
					}
				}
				if err != nil && wantCode(err) != "57P01" {
					t.Errorf("told %v", err)
					return
				}
				if err != nil {
					told.Add(1)
				}
				if conn != nil {
					_ = conn.Close(ctx)
				}
			}
		})
	}
	for i := range 15 {
		before := answered.Load()
		r.reload(func(c *config.Config) { c.Databases["shop"] = config.Database{Name: names[(i+1)%2]} })
		until(t, "somebody is served", func() bool { return answered.Load() > before+20 || ctx.Err() != nil })
		r.metric(t, "pgweir_clients") // all can be collected
	}
	stop.Store(true)
	clients.Wait()
	t.Logf("%d answers, told to go %d times", answered.Load(), told.Load())
	r.settle(t)
	r.reload(superuser(func(u *config.User) { u.MaxClients = 1 }), func(c *config.Config) { c.MaxClients = 1 },
		func(c *config.Config) { c.Databases["shop"] = config.Database{Name: names[0], MaxClients: 1} })
	conn, err := pgx.Connect(ctx, r.dsn("shop"))
	must(t, err)
	must(t, conn.Close(ctx))
	until(t, "no connection is left", func() bool {
		n, err := shared(t).Primary.Value(ctx, "postgres", "select count(*) from pg_stat_activity where datname in ($1, $2)", names[0], names[1])
		must(t, err)
		return n == "0"
	})
}
