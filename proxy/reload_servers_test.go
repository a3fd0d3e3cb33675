package proxy_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// readers are the addresses of the servers that serve a session's reads.
func readers(c traced) (addresses []string) {
	for range 30 {
		for _, l := range c.query("select count(*) from items") {
			if m := where.FindStringSubmatch(l); m != nil && !slices.Contains(addresses, m[1]) {
				addresses = append(addresses, m[1])
			}
		}
	}
	slices.Sort(addresses)
	return addresses
}

func showServers(r *running) {
	r.begin()
	conn := trace(r.T, r.service, r.db)
	servers := r.cfg.Clusters["default"].Servers
	ports := []string{servers[1].Address, servers[2].Address}
	set := func(s ...config.Server) {
		r.reload(cluster(func(c *config.Cluster) { c.Servers = s }))
	}
	require.ElementsMatch(r, ports, readers(conn))

	light := slices.Clone(servers)
	light[1].Weight = 0
	set(light...)
	require.Equal(r, ports[1:], readers(conn))
	set(servers...)
	require.ElementsMatch(r, ports, readers(conn))

	set(servers[:2]...)
	require.Equal(r, ports[:1], readers(conn))
	gone := "server=" + servers[2].Address
	until(r, "it has left", func() bool { return r.metric(r, "pgweir_server_state", gone) == 0 })
	set(servers...)
	until(r, "it is back", func() bool { return r.metric(r, "pgweir_server_state", gone, "state=serving") == 1 })
	until(r, "it serves reads", func() bool { return len(readers(conn)) == 2 })

	other := slices.Clone(servers)
	_, port, _ := net.SplitHostPort(servers[2].Address)
	other[2].Address = net.JoinHostPort("localhost", port)
	set(other...)
	until(r, "it is known by its other name", func() bool {
		return r.metric(r, "pgweir_server_state", "server="+other[2].Address, "state=serving") == 1 && r.metric(r, "pgweir_server_state", gone) == 0
	})
	until(r, "it serves reads by it", func() bool { return slices.Contains(readers(conn), other[2].Address) })
}

// together is how many transactions can be open on the primary at once, of no more than 8.
func (r *running) together(params ...string) (n int) {
	r.Helper()
	var conns []*pgx.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close(context.Background())
		}
		r.settle(r)
	}()
	for n < 8 {
		conn, err := pgx.Connect(bounded(r, patience), r.dsn(r.db, params...))
		must(r, err)
		conns = append(conns, conn)
		if _, err := conn.Exec(bounded(r, patience), "begin; insert into w values (1)", pgx.QueryExecModeSimpleProtocol); err != nil {
			require.Equal(r, "53300", wantCode(err))
			return n
		}
		n++
	}
	return n
}

func showServerBounds(r *running) {
	r.begin(func(c *config.Config) {
		c.Pool.Reserve.Users, c.Pool.AcquireTimeout = []string{"boss"}, 50*time.Millisecond
	})
	for name, bound := range map[string]func(most int) func(*config.Config){
		"pool": func(most int) func(*config.Config) {
			return func(c *config.Config) { c.Pool.MaxServerConnections = most }
		},
		"servers": func(most int) func(*config.Config) {
			return cluster(func(c *config.Cluster) {
				for i := range c.Servers {
					c.Servers[i].MaxServerConnections = most
				}
			})
		},
		"databases": func(most int) func(*config.Config) {
			return r.database(func(d *config.Database) { d.MaxServerConnections = most })
		},
		"users": func(most int) func(*config.Config) {
			return superuser(func(u *config.User) { u.MaxServerConnections = most })
		},
		"reserve": func(most int) func(*config.Config) {
			return func(c *config.Config) {
				c.Pool.MaxServerConnections, c.Pool.Reserve.Connections = 5*most, 4*most
				if most == 0 {
					c.Pool.MaxServerConnections = 0
				}
			}
		},
	} {
		require.Equal(r, 8, r.together(), name)
		r.reload(bound(5))
		require.LessOrEqual(r, r.together(), 5, name)
		r.reload(bound(0))
	}
	require.Equal(r, 8, r.together())
}

func showServerTLS(r *running) {
	c := pgtest.New(r, pgtest.Options{TLS: true, HBA: []string{"host all all 127.0.0.1/32 trust", "host all all ::1/128 trust"}})
	certs := map[string][2]string{}
	for _, name := range []string{"one", "two"} {
		cert, key, err := c.ClientCert(name)
		must(r, err)
		certs[name] = [2]string{cert, key}
	}
	foreign := config.Config{}
	withCertificate(r.T)(&foreign)
	for i := range 10 { // connections are made by TLS of then: each user has new ones
		must(r, c.Exec(r.Context(), fmt.Sprintf("create role u%d login superuser", i)))
	}
	r.db = "postgres"
	r.begin(func(cfg *config.Config) {
		cfg.Servers = []config.Server{{Address: c.Primary.Addr(), Weight: 1}}
		cfg.Routing.PrimaryWait = 500 * time.Millisecond
	})
	n := 0
	seen := func() string {
		n++
		return r.value("select ssl || coalesce(client_dn, '') from pg_stat_ssl where pid = pg_backend_pid()", fmt.Sprintf("user=u%d", n))
	}
	tls := func(f func(*config.ServerTLS)) {
		r.reload(cluster(func(c *config.Cluster) { f(&c.TLS) }))
	}
	require.Equal(r, "false", seen())
	tls(func(t *config.ServerTLS) { t.Mode = "require" })
	require.Equal(r, "true", seen())
	tls(func(t *config.ServerTLS) { t.Mode, t.CAFile = "verify-ca", foreign.TLS.CertFile })
	require.Contains(r, seen(), "certificate")
	tls(func(t *config.ServerTLS) { t.Mode, t.CAFile = "verify-full", c.CA() })
	require.Equal(r, "true", seen())
	for _, name := range []string{"one", "two"} {
		tls(func(t *config.ServerTLS) { t.CertFile, t.KeyFile = certs[name][0], certs[name][1] })
		require.Equal(r, "true/CN="+name, seen())
	}
	named := func(name string) {
		r.reload(cluster(func(c *config.Cluster) { c.Servers[0].TLSName = name }))
	}
	named("another.example")
	require.Contains(r, seen(), "certificate")
	named("localhost")
	until(r, "the primary is known", func() bool { return r.metric(r, "pgweir_cluster_has_primary") == 1 })
	require.Equal(r, "true/CN=two", seen())
}

// showService: the query for secrets tells who asks it, and where.
func showService(r *running) {
	c := pgtest.New(r, pgtest.Options{HBA: []string{"host all one,two 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"}})
	for _, sql := range []string{"create role one superuser login password 'x'", "create role two superuser login password 'x'", "create database other"} {
		must(r, c.Exec(r.Context(), sql))
	}
	r.db = "postgres"
	r.begin(func(cfg *config.Config) {
		cfg.Servers = []config.Server{{Address: c.Primary.Addr(), Weight: 1}}
		cfg.Service = config.Service{User: "one", Password: "x", Database: "postgres"}
		cfg.Auth.Method, cfg.Auth.FailureDelay, cfg.Auth.QueryTTL = "scram-sha-256", 0, time.Millisecond
		cfg.Auth.Query = "select $1::text, current_user || '@' || current_database()"
		cfg.Databases["postgres"] = config.Database{ServerUser: pgtest.Superuser, ServerPassword: "x"}
	})
	asks := func(who string) string { return r.login("user=u", "password="+who) }
	require.Empty(r, asks("one@postgres"))
	service := func(f func(*config.Service)) {
		r.reload(cluster(func(c *config.Cluster) { f(&c.Service) }))
	}
	service(func(s *config.Service) { s.Database = "other" })
	require.Empty(r, asks("one@other"))
	service(func(s *config.Service) { s.User = "two" })
	require.Empty(r, asks("two@other"))
	service(func(s *config.Service) { s.Password = "wrong" })
	require.Equal(r, "57P03", asks("two@other"))
	must(r, c.Exec(r.Context(), "alter role two password 'wrong'"))
	until(r, "its password is right", func() bool { return asks("two@other") == "" })
	for _, who := range []string{"one", "two"} { // those that watch the server, too
		until(r, who+" has its connections", func() bool {
			n, err := c.Primary.Value(r.Context(), "postgres", "select count(*) from pg_stat_activity where usename = $1", who)
			must(r, err)
			return (n != "0") == (who == "two")
		})
	}
}

func showWhere(r *running) {
	r.db = newDatabase(r, "create table here as select 'one' as at")
	other := newDatabase(r, "create table here as select 'two' as at")
	elsewhere := pgtest.New(r, pgtest.Options{})
	must(r, elsewhere.Exec(r.Context(), `create database "`+other+`"`))
	must(r, elsewhere.Primary.Exec(r.Context(), other, "create table here as select 'three' as at"))
	r.begin(func(c *config.Config) {
		short := config.Cluster{Sources: c.Sources, TLS: c.ServerTLS, Service: c.Service}
		second := short
		second.Servers = []config.Server{{Address: elsewhere.Primary.Addr(), Weight: 1}}
		c.Clusters = map[string]config.Cluster{"default": short, "second": second}
		c.Sources, c.ServerTLS, c.Service = config.Sources{}, config.ServerTLS{}, config.Service{}
		c.Databases = map[string]config.Database{r.db: {Cluster: "default"}}
	})
	where := func() string { return r.value("select at from here") }
	idle, busy := r.connect(r, r.db), r.connect(r, r.db)
	require.Equal(r, "one", where())
	exec(r.T, busy, "begin")
	require.Equal(r, "one", valueOn(r.T, busy, "select at from here"))
	r.reload(r.database(func(d *config.Database) { d.Name = other }))
	require.Equal(r, "two", where())
	require.Contains(r, valueOn(r.T, idle, "select at from here"), "57P01")
	require.Equal(r, "one", valueOn(r.T, busy, "select at from here"))
	exec(r.T, busy, "commit")
	require.Contains(r, valueOn(r.T, busy, "select at from here"), "57P01")
	r.reload(r.database(func(d *config.Database) { d.Cluster = "second" }))
	require.Equal(r, "three", where())
	until(r, "nothing is left at the first place", func() bool {
		n, err := shared(r).Primary.Value(r.Context(), "postgres", "select count(*) from pg_stat_activity where datname = $1", r.db)
		must(r, err)
		return n == "0"
	})
}

func showPoolSizes(r *running) {
	r.begin(func(c *config.Config) { c.Pool.AcquireTimeout = time.Minute })
	holder, other := r.connect(r, r.db), r.connect(r, r.db)
	exec(r.T, holder, "begin; insert into w values (1)")
	sizes := []func(size int, wait time.Duration) func(*config.Config){
		func(size int, wait time.Duration) func(*config.Config) {
			return func(c *config.Config) { c.Pool.Size, c.Pool.AcquireTimeout = size, wait }
		},
		func(size int, wait time.Duration) func(*config.Config) {
			return r.database(func(d *config.Database) { d.PoolSize, d.AcquireTimeout = size, wait })
		},
		func(size int, wait time.Duration) func(*config.Config) {
			return superuser(func(u *config.User) { u.PoolSize, u.AcquireTimeout = size, wait })
		},
	}
	for _, size := range sizes {
		until(r, "it holds nothing", func() bool { return r.metric(r, "pgweir_server_connections_in_use") == 1 })
		r.reload(size(1, 100*time.Millisecond))
		_, err := other.Exec(bounded(r, patience), "insert into w values (1)", pgx.QueryExecModeSimpleProtocol)
		require.Equal(r, "53300", wantCode(err))
		// One that waits is served as soon as there may be more.
		r.reload(size(1, time.Minute))
		answered := make(chan error, 1)
		go func() {
			_, err := other.Exec(bounded(r, patience), "insert into w values (1)", pgx.QueryExecModeSimpleProtocol)
			answered <- err
		}()
		until(r, "it waits", func() bool { return r.metric(r, "pgweir_pool_waiting") == 1 })
		r.reload(size(2, 0))
		must(r, <-answered)
	}
}

func showIdle(r *running) {
	r.begin(func(c *config.Config) { c.Pool.IdleTimeout = time.Hour })
	primary := "server=" + shared(r).Primary.Addr()
	idle := func() int {
		return int(r.metric(r, "pgweir_pool_connections", primary, "state=idle", "user="+pgtest.Superuser))
	}
	conn := r.connect(r, r.db)
	exec(r.T, conn, "insert into w values (1)")
	for i, set := range []func(n int) func(*config.Config){
		func(n int) func(*config.Config) { return func(c *config.Config) { c.Pool.MinIdle = n } },
		func(n int) func(*config.Config) { return r.database(func(d *config.Database) { d.MinIdle = n }) },
		func(n int) func(*config.Config) { return superuser(func(u *config.User) { u.MinIdle = n }) },
	} {
		r.reload(set(3 + i))
		until(r, "idle connections are there", func() bool { return idle() == 3+i })
	}
	for _, set := range []func(n int) func(*config.Config){
		func(n int) func(*config.Config) { return r.database(func(d *config.Database) { d.MinIdle = n }) },
		func(n int) func(*config.Config) { return superuser(func(u *config.User) { u.MinIdle = n }) },
	} {
		r.reload(set(0))
	}
	require.Equal(r, 5, idle()) // nobody closes them before their time
	r.reload(func(c *config.Config) { c.Pool.IdleTimeout = 50 * time.Millisecond })
	until(r, "idle ones are closed", func() bool { return idle() == 3 })
	r.reload(func(c *config.Config) { c.Pool.IdleTimeout = time.Hour })
	pids := func() string {
		v, err := shared(r).Primary.Value(r.Context(), r.db, "select coalesce(string_agg(pid::text, ' ' order by pid), '') from pg_stat_activity where datname = $1 and application_name <> 'pgweir' and pid <> pg_backend_pid()", r.db)
		must(r, err)
		return v
	}
	before := strings.Fields(pids())
	require.Len(r, before, 3)
	r.reload(func(c *config.Config) { c.Pool.MaxLifetime = 300 * time.Millisecond })
	until(r, "old ones are replaced", func() bool {
		return !slices.ContainsFunc(strings.Fields(pids()), func(p string) bool { return slices.Contains(before, p) })
	})
	require.NoError(r, conn.Close(r.Context()))
	require.NotZero(r, r.metric(r, "pgweir_pool_size", "user="+pgtest.Superuser))
	r.reload(func(c *config.Config) { c.Pool.ForgetAfter = 50 * time.Millisecond })
	until(r, "its pools are forgotten", func() bool { return r.metric(r, "pgweir_pool_size", "user="+pgtest.Superuser) == 0 })
}

func showWarm(r *running) {
	r.db = newDatabase(r, items)
	w := r.role("w")
	r.begin(func(c *config.Config) { c.Pool.MinIdle = 2 })
	idle := func() float64 { return r.metric(r, "pgweir_pool_connections", "state=idle", "user="+w) }
	require.Zero(r, idle())
	r.reload(r.database(func(d *config.Database) { d.Warm = []string{w} }))
	until(r, "his connections are there", func() bool { return idle() == 2*float64(len(shared(r).Servers())) })
	r.reload(r.database(func(d *config.Database) { d.Warm = nil }), func(c *config.Config) { c.Pool.ForgetAfter = 50 * time.Millisecond })
	until(r, "they are given up", func() bool { return idle() == 0 })
}

func showNewConnections(r *running) {
	r.db = newDatabase(r, items)
	one, two := r.role("one"), r.role("two")
	r.begin()
	prepared := func(as string) int {
		conn := r.connect(r, r.db, "user="+as)
		for i := range 6 {
			exec(r.T, conn, fmt.Sprintf("/* pgweir:primary */ select $1::int + %d", i), i)
		}
		n, err := strconv.Atoi(valueOn(r.T, conn, "/* pgweir:primary */ select count(*)::text from pg_prepared_statements"))
		must(r, err)
		return n
	}
	require.Greater(r, prepared(one), 5)
	r.reload(func(c *config.Config) { c.Pool.MaxStatements = 2 })
	require.LessOrEqual(r, prepared(two), 3) // with one of the proxy's own

	// A server that does not answer is given up in time.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(r, err)
	r.Cleanup(func() { _ = l.Close() })
	r.reload(func(c *config.Config) { c.Pool.ConnectTimeout = 300 * time.Millisecond })
	r.reload(cluster(func(c *config.Cluster) {
		c.Servers = append(c.Servers, config.Server{Address: l.Addr().String(), Weight: 1})
	}))
	began := time.Now()
	until(r, "it is given up", func() bool {
		return r.metric(r, "pgweir_server_state", "server="+l.Addr().String(), "state=down") == 1
	})
	require.Less(r, time.Since(began), 3*time.Second) // the time of before is 5 s
}
