package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// crowded is a cluster that lets in few, and a table and users to crowd it with.
func crowded(t *testing.T, connections, users int) *pgtest.Cluster {
	t.Helper()
	cluster := pgtest.New(t, pgtest.Options{Replicas: 1})
	for _, s := range cluster.Servers() { // a replica must not have less than its primary
		must(t, s.Exec(t.Context(), "postgres", "alter system set max_connections = "+strconv.Itoa(connections)))
		must(t, s.Restart(t.Context(), pgtest.Fast))
		must(t, cluster.Exec(t.Context(), "checkpoint"))
		must(t, cluster.WaitReplay(t.Context()))
	}
	must(t, cluster.Exec(t.Context(), "create table w (a int); create table items (a int); insert into items select generate_series(1, 10); grant all on w, items to public"))
	for i := range users {
		must(t, cluster.Exec(t.Context(), fmt.Sprintf("create role u%d login", i)))
	}
	must(t, cluster.WaitReplay(t.Context()))
	return cluster
}

// over is a configuration for a cluster of the test's own.
func over(t *testing.T, cluster *pgtest.Cluster, change ...func(*config.Config)) config.Config {
	t.Helper()
	cfg := baseConfig(t)
	cfg.Servers = nil
	for _, s := range cluster.Servers() {
		cfg.Servers = append(cfg.Servers, config.Server{Address: s.Addr(), Weight: 1})
	}
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

// crowd is many clients of many users at one time.
type crowd struct {
	s        *service
	answered atomic.Int64
	longest  atomic.Int64 // wait for an answer
}

// client says a few transactions and reads.
func (c *crowd) client(ctx context.Context, user string) error {
	conn, err := pgx.Connect(ctx, c.s.dsn("postgres", "user="+user))
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for range 2 {
		for _, q := range []string{"begin", "insert into w values (1)", "select pg_sleep(0.005)", "commit", "select count(*) from items"} {
			began := time.Now()
			if _, err := conn.Exec(ctx, q, pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("%s: %w", q, err)
			}
			for took := int64(time.Since(began)); ; {
				if longest := c.longest.Load(); took <= longest || c.longest.CompareAndSwap(longest, took) {
					break
				}
			}
		}
	}
	c.answered.Add(1)
	return nil
}

// come has so many clients of so many users come at once, and waits for all.
func (c *crowd) come(t *testing.T, users, clients int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var all sync.WaitGroup
	began := time.Now()
	for i := range users * clients {
		all.Go(func() {
			if err := c.client(ctx, fmt.Sprintf("u%d", i%users)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	t.Logf("%d of %d answered in %v; the longest waited %v", c.answered.Load(), users*clients, time.Since(began).Round(time.Millisecond),
		time.Duration(c.longest.Load()).Round(time.Millisecond))
}

// Clients that together want more connections than their servers let in wait for each other:
// none is refused.
func TestFullServers(t *testing.T) {
	const users, clients = 8, 20
	service := func(*config.Config) {}
	none := func(c *config.Config) { c.Service.User = "" }
	plain := func(c *config.Config) { c.Service.User = "u0" }
	bounded := func(c *config.Config) { c.Pool.MaxServerConnections = 10 }
	for connections, cases := range map[int]map[string]func(*config.Config){
		20:  {"no service account": none, "plain account": plain, "bounded": bounded},
		100: {"service account": service},
	} {
		cluster := crowded(t, connections, users)
		for name, change := range cases {
			t.Run(fmt.Sprintf("%d, %s", connections, name), func(t *testing.T) {
				s := launch(t, over(t, cluster, change))
				(&crowd{s: s}).come(t, users, clients)
				for _, server := range cluster.Servers() {
					refused := s.metric(t, "pgweir_server_full_total", "server="+server.Addr())
					t.Logf("%s refused %v logins", server.Name, refused)
					if name == "bounded" && refused > 0 {
						t.Errorf("%v logins were refused", refused)
					}
				}
			})
		}
	}
}

// Where others have the slots, one who waits for too long is told so.
func TestNoSlotInTime(t *testing.T) {
	const limit = 3 * time.Second
	cluster := crowded(t, 20, 2)
	s := startConfig(t, over(t, cluster, func(c *config.Config) { c.Users = map[string]config.User{"u1": {AcquireTimeout: limit}} }))
	conn := s.connect(t, "postgres", "user=u1")
	run := func() error {
		_, err := conn.Exec(t.Context(), "insert into w values (1)", pgx.QueryExecModeSimpleProtocol)
		return err
	}
	must(t, cluster.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'u1'"))
	until(t, "its connection is missed", func() bool { return s.metric(t, "pgweir_pool_connections", "user=u1") == 0 })
	held := occupyServer(t, cluster.Primary, "u0")
	began := time.Now()
	err := run()
	var told *pgconn.PgError
	if !errors.As(err, &told) || told.Code != "53300" || !strings.Contains(told.Detail, "remaining connection slots") && !strings.Contains(told.Detail, "too many clients") {
		t.Errorf("told %+v", err)
	}
	if took := time.Since(began); took < limit {
		t.Errorf("it waited for %v only", took)
	}
	// As soon as there is one, it is answered.
	answered := make(chan error, 1)
	go func() { answered <- run() }()
	time.Sleep(300 * time.Millisecond) // that it waits
	for _, other := range held {
		must(t, other.Close(t.Context()))
	}
	must(t, <-answered)
}

// occupyServer takes all slots of a server that a user may have, those too that become free
// for a while.
func occupyServer(t *testing.T, s *pgtest.Server, user string) (held []*pgx.Conn) {
	t.Helper()
	for refusals := 0; ; {
		conn, err := pgx.Connect(t.Context(), s.ConnString("postgres", user))
		if err != nil {
			if wantCode(err) != "53300" {
				t.Fatal(err)
			}
			if refusals++; refusals == 30 {
				return held
			}
			time.Sleep(50 * time.Millisecond) // that somebody leaves
			continue
		}
		refusals = 0
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		held = append(held, conn)
	}
}

// A server that has no slot for another login of the monitor is there: transactions on it go on.
func TestFullServerIsUp(t *testing.T) {
	cluster := crowded(t, 20, 2)
	s := startConfig(t, over(t, cluster, func(c *config.Config) {
		c.Service.User = "u0"
		c.Routing.MonitorInterval, c.Routing.SlowAfter, c.Pool.ConnectTimeout = 100*time.Millisecond, 400*time.Millisecond, 400*time.Millisecond
	}))
	conn := s.connect(t, "postgres", "user=u1")
	run := func(sql string) {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		must(t, err)
	}
	run("begin")
	run("insert into w values (1)")
	occupyServer(t, cluster.Primary, "u0")
	refused := func() float64 {
		return s.metric(t, "pgweir_server_full_total", "server="+cluster.Primary.Addr())
	}
	before := refused()
	until(t, "the monitor has been refused for a while", func() bool { return refused() > before+10 })
	run("commit")
}

// The limits of roles and databases are waited for as those of servers are.
func TestConnectionLimits(t *testing.T) {
	cluster := crowded(t, 60, 2)
	must(t, cluster.Exec(t.Context(), "create database other connection limit 5"))
	must(t, cluster.Exec(t.Context(), "alter role u1 connection limit 3"))
	must(t, cluster.Primary.Exec(t.Context(), "other", "create table w (a int); grant all on w to public"))
	must(t, cluster.WaitReplay(t.Context()))
	s := startConfig(t, over(t, cluster))
	for _, v := range []struct{ user, database string }{{"u0", "other"}, {"u1", "postgres"}} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				conn, err := pgx.Connect(ctx, s.dsn(v.database, "user="+v.user))
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = conn.Close(ctx) }()
				for range 3 {
					if _, err := conn.Exec(ctx, "begin; insert into w values (1); select pg_sleep(0.01); commit", pgx.QueryExecModeSimpleProtocol); err != nil {
						t.Errorf("%s on %s: %v", v.user, v.database, err)
					}
				}
			})
		}
		all.Wait()
	}
}

// Whom something is reserved for gets in, and is answered, while the rest is full.
func TestReserve(t *testing.T) {
	cluster := crowded(t, 60, 2)
	must(t, cluster.Exec(t.Context(), "create role boss login; grant all on w to boss"))
	must(t, cluster.WaitReplay(t.Context()))
	s := startConfig(t, over(t, cluster, func(c *config.Config) {
		c.MaxClients = 8
		c.Pool.MaxServerConnections, c.Pool.AcquireTimeout = 8, time.Minute
		c.Pool.Reserve = config.Reserve{Users: []string{"boss"}, Connections: 1, Clients: 1}
	}))
	const write = "insert into w values (1)"
	held := map[string][]*pgx.Conn{}
	for i := range 7 {
		user := fmt.Sprintf("u%d", i%2)
		held[user] = append(held[user], s.connect(t, "postgres", "user="+user))
	}
	if _, err := pgx.Connect(t.Context(), s.dsn("postgres", "user=u0")); wantCode(err) != "53300" {
		t.Errorf("another client is told %v", err)
	}
	var waiting sync.WaitGroup
	release := make(chan struct{})
	for _, conns := range held {
		for _, conn := range conns {
			waiting.Go(func() {
				_, err := conn.Exec(t.Context(), "begin; "+write, pgx.QueryExecModeSimpleProtocol)
				<-release
				if err == nil {
					_, err = conn.Exec(t.Context(), "commit")
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	until(t, "nobody else can have a connection", func() bool { return s.metric(t, "pgweir_pool_waiting") > 0 })
	boss := s.connect(t, "postgres", "user=boss")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := boss.Exec(ctx, write); err != nil {
		t.Error(err)
	}
	if n := s.metric(t, "pgweir_server_connections", "server="+cluster.Primary.Addr()); n > 8 {
		t.Errorf("%v connections to the primary", n)
	}
	close(release)
	waiting.Wait()
}

// Connections of a warm user are there before his first client, and stay. The log tells what
// servers let in.
func TestWarmUsers(t *testing.T) {
	cluster := crowded(t, 60, 1)
	core, logs := observer.New(zap.InfoLevel)
	s := launchLogging(t, over(t, cluster, func(c *config.Config) {
		c.Pool.MaxServerConnections = 100
		c.Pool.ForgetAfter, c.Pool.MinIdle = time.Nanosecond, 1
		c.Databases = map[string]config.Database{"postgres": {MinIdle: 3, Warm: []string{"u0"}}}
	}), zap.New(core))
	warm := func() bool {
		for _, server := range cluster.Servers() {
			if s.metric(t, "pgweir_pool_connections", "user=u0", "state=idle", "server="+server.Addr()) != 3 {
				return false
			}
		}
		return true
	}
	until(t, "its connections are open", warm)
	conn := s.connect(t, "postgres", "user=u0")
	_, err := conn.Exec(t.Context(), "insert into w values (1)")
	must(t, err)
	must(t, conn.Close(t.Context()))
	time.Sleep(2 * time.Second) // that it is not forgotten
	until(t, "they are open still", warm)
	for _, server := range cluster.Servers() {
		told := logs.FilterField(zap.String("server", server.Addr())).FilterField(zap.Int("slots", 57)).All()
		if len(told) != 1 || told[0].Level != zap.WarnLevel || !strings.Contains(told[0].Message, "max_server_connections is 100, but the server lets in 57") {
			t.Errorf("%s: %v", server.Name, told)
		}
	}
}
