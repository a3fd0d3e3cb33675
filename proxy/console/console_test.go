package console_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

func code(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

func hint(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Hint
	}
	return ""
}

// TestWhoMayUseIt: administrators command, others look, and nobody else is let in.
func TestWhoMayUseIt(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config.Config) { c.Auth.Method = "scram-sha-256" })
	for _, name := range []string{"pgweir", "pgbouncer"} {
		boss, watcher := s.connect(t, "boss", name), s.connect(t, "watcher", name)
		require.NotEmpty(t, show(t, watcher, "VERSION"))
		_, err := watcher.Exec(bounded(t), "RECONNECT")
		require.Equal(t, "42501", code(err))
		require.Contains(t, hint(err), "console.admin_users")
		command(t, boss, "RECONNECT")
	}
	_, err := pgx.Connect(bounded(t), s.dsn("boss", "pgweir", "password=wrong"))
	require.Equal(t, "28P01", code(err))
	told := s.logs.FilterMessage("console command").All()
	require.Len(t, told, 2)
	require.Equal(t, "boss", told[0].ContextMap()["by"])
	require.Equal(t, "RECONNECT", told[0].ContextMap()["command"])

	trusting := start(t)
	_, err = pgx.Connect(bounded(t), trusting.dsn(pgtest.Superuser, "pgweir"))
	require.Equal(t, "42501", code(err))
	none := start(t, func(c *config.Config) { c.Console = config.Console{} })
	_, err = pgx.Connect(bounded(t), none.dsn(pgtest.Superuser, "pgweir"))
	require.Equal(t, "3D000", code(err))
}

// TestEveryView: every SHOW answers, by both protocols and in both formats, with one number of columns.
func TestEveryView(t *testing.T) {
	t.Parallel()
	s := start(t)
	command(t, s.client(t), "select 1")
	conn := s.admin(t)
	views := 0
	for _, row := range show(t, conn, "HELP") {
		text := row["command"].(string)
		what, ok := strings.CutPrefix(text, "SHOW ")
		if !ok {
			continue
		}
		views++
		var counts []int
		for _, mode := range []pgx.QueryExecMode{
			pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeCacheStatement,
		} {
			rows, err := conn.Query(bounded(t), "SHOW "+what+";", mode)
			require.NoError(t, err, what)
			n := 0
			for rows.Next() {
				values, err := rows.Values()
				require.NoError(t, err, what)
				require.Len(t, values, len(rows.FieldDescriptions()))
				n++
			}
			require.NoError(t, rows.Err(), what)
			counts = append(counts, len(rows.FieldDescriptions()))
		}
		require.Len(t, slices.Compact(counts), 1, what)
	}
	require.Greater(t, views, 20)
}

// TestShowInsights: what sessions did is shown by statement, finding and route.
func TestShowInsights(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config.Config) { c.Insight.Enabled = true })
	conn := s.client(t, "application_name=web/1.2")
	for _, sql := range []string{"begin", "", "", "", "", "", "", "commit"} {
		if sql == "" {
			sql = fmt.Sprintf("select relname from pg_class where oid = %d /*route='/classes'*/", rand.IntN(1<<30))
		}
		_, err := conn.PgConn().Exec(bounded(t), sql).ReadAll()
		require.NoError(t, err)
	}
	admin := s.admin(t)
	statements := show(t, admin, "STATEMENTS")
	i := slices.IndexFunc(statements, func(row map[string]any) bool { return row["calls"] == int64(6) })
	require.GreaterOrEqual(t, i, 0, "%v", statements)
	require.Contains(t, statements[i]["statement"], "from pg_class where oid = $1")
	require.Positive(t, statements[i]["total_us"])
	require.Equal(t, statements[i]["target"] == "primary", statements[i]["reasons"] != nil, "%v", statements[i])
	findings := show(t, admin, "INSIGHTS")
	require.Equal(t, "warning n_plus_one pg_class /classes", fmt.Sprint(findings[0]["severity"], " ", findings[0]["kind"], " ", findings[0]["table"], " ", findings[0]["routes"]))
	routes := show(t, admin, "transactions by route")
	i = slices.IndexFunc(routes, func(row map[string]any) bool { return row["route"] == "/classes" })
	require.GreaterOrEqual(t, i, 0, "%v", routes)
	require.Equal(t, "web", routes[i]["application_name"])
	require.Equal(t, int64(1), routes[i]["transactions"])
	require.GreaterOrEqual(t, routes[i]["statements"], int64(6))
	_, err := admin.Exec(bounded(t), "show transactions by")
	require.Equal(t, "42704", code(err))
}

// TestColumns: those of PgBouncer's views are PgBouncer 1.25's, in its order; what is ours comes behind.
func TestColumns(t *testing.T) {
	t.Parallel()
	s := start(t)
	conn := s.admin(t)
	socket := "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us " +
		"close_needed ptr link remote_pid tls application_name prepared_statements id"
	counts := "server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time "
	for what, want := range map[string]string{
		"DATABASES": "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode " +
			"load_balance_hosts max_connections current_connections max_client_connections current_client_connections paused disabled reserve_pool",
		"POOLS": "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel " +
			"sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts",
		"STATS": "database total_server_assignment_count total_xact_count total_query_count total_received total_sent total_xact_time " +
			"total_query_time total_wait_time total_client_parse_count total_server_parse_count total_bind_count total_client_login_count " +
			"avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time avg_query_time avg_wait_time " +
			"avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count total_requests",
		"STATS_TOTALS":   "database " + counts + "client_parse_count server_parse_count bind_count client_login_count",
		"STATS_AVERAGES": "database " + counts + "avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count",
		"TOTALS":         "name value",
		"LISTS":          "list items",
		"CLIENTS":        socket,
		"SERVERS":        socket,
		"USERS": "name pool_size reserve_pool_size pool_mode max_user_connections current_connections max_user_client_connections " +
			"current_client_connections",
		"CONFIG":  "key value default changeable",
		"MEM":     "name size used free memtotal",
		"STATE":   "key value",
		"VERSION": "version",
		"PEERS":   "peer_id host port pool_size",
	} {
		rows, err := conn.Query(bounded(t), "SHOW "+what, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
		var names []string
		for _, f := range rows.FieldDescriptions() {
			names = append(names, f.Name)
		}
		rows.Close()
		require.Equal(t, want, strings.Join(names, " "), what)
	}
}

// TestConversation: what drivers and tools say as they connect is answered or refused with a next step,
// and the session goes on.
func TestConversation(t *testing.T) {
	t.Parallel()
	s := start(t)
	conn := s.admin(t)
	for _, text := range []string{
		"SET application_name = 'x'", "SET extra_float_digits TO 3", "SET client_encoding = 'UTF8'; SET DateStyle=ISO", "BEGIN", "COMMIT",
		"START TRANSACTION", "ROLLBACK", "", "-- ping", "DISCARD ALL", "show transaction_read_only", "SHOW TRANSACTION ISOLATION LEVEL",
		"show \"version\"; Show State",
	} {
		_, err := conn.Exec(bounded(t), text, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err, text)
	}
	for text, want := range map[string]string{
		"SELECT 1": "0A000", "SELECT d.datname as \"Name\" FROM pg_catalog.pg_database d": "0A000", "SELECT version()": "0A000",
		"SHOW nonsense": "42704", "SHOW 'a": "42601", "PAUSE nothing more": "42601", "KILL_CLIENT x": "22P02", "KILL_CLIENT 4711": "22023",
		"ROUTE SOMEWHERE": "42601", "SHUTDOWN MAYBE": "42601", "SET pool.size": "42601", "SET pool.sice = 3": "22023",
		"SET listen = '127.0.0.1:1'": "22023", "SET users.boss.password = 'x'": "22023", "SET pool.size = many": "22023", "SET pool.size = 0": "22023",
		"DISABLE SERVER nowhere:1": "42704",
		"KILL_CLIENT":              "42601", "DISABLE": "42601", "ENABLE": "42601", "DISABLE SERVER": "42601", "ENABLE SERVER": "42601", "RECONNECT SERVER": "42601",
		"ROUTE": "42601", "SET": "42601", "SET pool.size =": "42601", "DEALLOCATE": "42601",
	} {
		_, err := conn.Exec(bounded(t), text, pgx.QueryExecModeSimpleProtocol)
		require.Equal(t, want, code(err), "%s: %v", text, err)
		if want != "42601" && want != "22P02" {
			require.NotEmpty(t, hint(err), text)
		}
	}
	for _, text := range []string{"KILL_CLIENT", "DISABLE", "ENABLE", "DISABLE SERVER", "ENABLE SERVER", "RECONNECT SERVER", "ROUTE", "SET", "SET pool.size =", "DEALLOCATE"} {
		_, err := conn.Exec(bounded(t), text, pgx.QueryExecModeSimpleProtocol)
		require.Equal(t, "42601", code(err), "%s: %v", text, err)
		require.ErrorContains(t, err, "a value is missing: "+strings.TrimSuffix(text, " ="))
	}
	command(t, conn, `DISABLE "server"`) // a database
	command(t, conn, `ENABLE "server"`)
	_, err := conn.Exec(bounded(t), "SHOW STATE WHERE $1", 1)
	require.Error(t, err)
	require.NotEmpty(t, show(t, conn, "STATE"))
	psql, err := exec.LookPath("psql")
	require.NoError(t, err, "\"make deps\" installs it")
	out, err := exec.Command(psql, s.dsn("boss", "pgweir"), "-c", "show pools", "-c", "\\l").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "cl_waiting")
	require.Contains(t, string(out), "admin console of pgweir")
	for _, e := range s.logs.FilterMessage("console command").All() {
		require.NotContains(t, fmt.Sprint(e.ContextMap()["command"]), "'x'")
	}
}

// TestExtended: messages of the extended protocol that drivers seldom send are answered or refused.
func TestExtended(t *testing.T) {
	t.Parallel()
	s := start(t)
	conn := s.admin(t).PgConn()
	for _, c := range []struct {
		text    string
		formats []int16
		want    string
	}{
		{"", nil, ""}, {"", []int16{0, 1}, "08P01"}, {"SHOW STATE", []int16{1}, ""}, {"SHOW STATE", []int16{0, 1}, ""},
		{"SHOW STATE", []int16{0, 0, 0}, "08P01"}, {"SHOW LISTS", []int16{1, 1}, ""}, {"RECONNECT", nil, ""}, {"RECONNECT", []int16{0, 0}, "08P01"},
		{"SHOW STATE; SHOW STATE", nil, "42601"}, {"SHOW nothing", nil, "42704"}, {"SELECT $1", nil, "0A000"},
	} {
		r := conn.ExecParams(bounded(t), c.text, nil, nil, nil, c.formats).Read()
		require.Equal(t, c.want, code(r.Err), "%s %v: %v", c.text, c.formats, r.Err)
		if c.want == "" && strings.HasPrefix(c.text, "SHOW") {
			require.NotEmpty(t, r.Rows, c.text)
		}
	}
	_, err := conn.Prepare(bounded(t), "p", "SHOW STATE", nil)
	require.NoError(t, err)
	require.Len(t, conn.ExecPrepared(bounded(t), "p", nil, nil, nil).Read().Rows, 3)
	require.NoError(t, conn.Deallocate(bounded(t), "p"))
	require.Equal(t, "26000", code(conn.ExecPrepared(bounded(t), "p", nil, nil, nil).Read().Err))
	require.Equal(t, "08P01", code(conn.ExecParams(bounded(t), "SHOW STATE", [][]byte{[]byte("x")}, nil, nil, nil).Read().Err))
	rows := conn.ExecParams(bounded(t), "SHOW CONFIG", nil, nil, nil, nil).Read()
	require.NoError(t, rows.Err)
}

// TestFull: the console answers when no client is let in any more.
func TestFull(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config.Config) { c.MaxClients = 1 })
	s.client(t)
	_, err := pgx.Connect(bounded(t), s.dsn(pgtest.Superuser, s.db))
	require.Equal(t, "53300", code(err))
	require.Len(t, show(t, s.admin(t), "CLIENTS"), 1)
	var all []*pgx.Conn
	for range 100 {
		conn, err := pgx.Connect(bounded(t), s.dsn("watcher", "pgweir"))
		if err != nil {
			require.Equal(t, "53300", code(err))
			break
		}
		all = append(all, conn)
	}
	require.Len(t, all, 24) // the others are for who may command
	for _, conn := range all {
		_ = conn.Close(t.Context())
	}
}

// TestAgreement: what is shown agrees with the metrics, and both with what the servers say.
func TestAgreement(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config.Config) { c.Pool.Size = 3 })
	conn := s.admin(t)
	busy := make([]*pgx.Conn, 5)
	for i := range busy {
		busy[i] = s.client(t, fmt.Sprintf("application_name=busy%d", i))
	}
	agree := func(active, waiting int) {
		t.Helper()
		clients := of(show(t, conn, "CLIENTS"), "database", s.db)
		require.Len(t, of(clients, "state", "active"), active)
		require.Len(t, of(clients, "state", "waiting"), waiting)
		pools := of(show(t, conn, "POOLS"), "database", s.db)
		require.Len(t, pools, 1)
		p := pools[0]
		require.EqualValues(t, len(busy)-waiting, p["cl_active"])
		require.EqualValues(t, waiting, p["cl_waiting"])
		label := "database=" + s.db
		require.EqualValues(t, s.metric(t, "pgweir_pool_connections", label, "state=used"), p["sv_active"])
		require.EqualValues(t, s.metric(t, "pgweir_pool_connections", label, "state=idle"), p["sv_idle"])
		require.EqualValues(t, s.metric(t, "pgweir_pool_waiting", label), waiting)
		require.EqualValues(t, s.metric(t, "pgweir_clients"), len(show(t, conn, "CLIENTS")))
		servers := of(show(t, conn, "SERVERS"), "database", s.db)
		require.EqualValues(t, p["sv_active"].(int64)+p["sv_idle"].(int64), len(servers))
		require.Len(t, of(servers, "state", "active"), active)
		require.ElementsMatch(t, s.backends(t), pids(servers))
		d := of(show(t, conn, "DATABASES"), "name", s.db)[0]
		require.EqualValues(t, len(servers), d["current_connections"])
		require.EqualValues(t, len(busy), d["current_client_connections"])
		require.EqualValues(t, len(clients), of(show(t, conn, "LISTS"), "list", "used_clients")[0]["items"])
	}
	agree(0, 0)
	for i, c := range busy[:3] {
		command(t, c, "begin")
		command(t, c, "create temporary table t"+fmt.Sprint(i)+" on commit drop as select 1")
	}
	agree(3, 0)
	open := show(t, conn, "TRANSACTIONS")
	require.Len(t, open, 3)
	require.Equal(t, "write", strings.Fields(open[0]["first_statement"].(string))[0])
	var waiting sync.WaitGroup
	for _, c := range busy[3:] {
		waiting.Go(func() { _, _ = c.Exec(t.Context(), "create table if not exists w (i int)") })
	}
	until(t, "two wait", func() bool { return s.metric(t, "pgweir_pool_waiting") == 2 })
	agree(3, 2)
	for _, c := range busy[:3] {
		command(t, c, "commit")
	}
	waiting.Wait()
	until(t, "all is at rest", func() bool { return s.metric(t, "pgweir_pool_connections", "database="+s.db, "state=used") == 0 })
	agree(0, 0)
	totals := of(show(t, conn, "STATS_TOTALS"), "database", s.db)[0]
	require.EqualValues(t, s.metric(t, "pgweir_statements_total"), totals["query_count"])
	routed := int64(0)
	for _, r := range show(t, conn, "ROUTES") {
		routed += r["statements"].(int64)
	}
	require.EqualValues(t, routed, totals["query_count"])
	require.EqualValues(t, 5, totals["client_login_count"])
	require.EqualValues(t, 5, totals["xact_count"])
	for _, c := range []string{"bytes_received", "bytes_sent", "xact_time", "query_time", "wait_time"} {
		require.Positive(t, totals[c], c)
	}
	require.GreaterOrEqual(t, totals["xact_time"], totals["query_time"])
}

// TestPins: a session that is tied to its server connection is shown, with why and where.
func TestPins(t *testing.T) {
	t.Parallel()
	s := start(t)
	conn, client := s.admin(t), s.client(t, "application_name=locker")
	require.Empty(t, show(t, conn, "PINS"))
	command(t, client, "select pg_advisory_lock(1)")
	// It is told after the answer that tied it.
	until(t, "it is pinned", func() bool { return len(show(t, conn, "PINS")) == 1 })
	pins := show(t, conn, "PINS")
	require.Equal(t, "locker", pins[0]["application_name"])
	require.Contains(t, pins[0]["pins"], "lock")
	require.Equal(t, of(show(t, conn, "TOPOLOGY"), "role", "primary")[0]["server"], pins[0]["server"])
	require.EqualValues(t, 1, s.metric(t, "pgweir_pinned_sessions", "reason="+pins[0]["pins"].(string)))
	command(t, client, "select pg_advisory_unlock(1)")
	until(t, "it is free", func() bool { return len(show(t, conn, "PINS")) == 0 })
}

// backends are the server processes of the test's database that serve clients of the proxy.
func (s *service) backends(t *testing.T) (all []int64) {
	t.Helper()
	for _, server := range pgtest.Shared(t).Servers() {
		conn, err := pgx.Connect(bounded(t), fmt.Sprintf("host=%s port=%d user=%s dbname=postgres sslmode=disable", server.Host, server.Port, pgtest.Superuser))
		require.NoError(t, err)
		rows, err := conn.Query(bounded(t), "select pid from pg_stat_activity where datname = $1 and application_name <> 'pgweir'", s.db)
		require.NoError(t, err)
		found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		require.NoError(t, err)
		all = append(all, found...)
		_ = conn.Close(t.Context())
	}
	return all
}

func pids(servers []map[string]any) (all []int64) {
	for _, r := range servers {
		all = append(all, r["remote_pid"].(int64))
	}
	return all
}

// TestGoExporter: what prometheus-community's exporter asks and reads, with its driver.
func TestGoExporter(t *testing.T) {
	t.Parallel()
	s := start(t)
	command(t, s.client(t), "select 1")
	db, err := sql.Open("postgres", s.dsn("watcher", "pgbouncer"))
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	for what, want := range map[string]string{
		"databases": "name host port database force_user pool_size reserve_pool_size pool_mode max_connections current_connections paused disabled",
		"stats_totals": "database query_count query_time bytes_received bytes_sent wait_time xact_count xact_time client_parse_count " +
			"server_parse_count bind_count server_assignment_count",
		"pools": "database user cl_active cl_active_cancel_req cl_waiting cl_waiting_cancel_req sv_active sv_active_cancel " +
			"sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait",
	} {
		rows, err := db.QueryContext(bounded(t), "SHOW "+what+";")
		require.NoError(t, err)
		names, err := rows.Columns()
		require.NoError(t, err)
		require.Subset(t, names, strings.Fields(want), what)
		n := 0
		for rows.Next() {
			values := make([]any, len(names))
			to := make([]any, len(names))
			for i := range values {
				to[i] = &values[i]
			}
			require.NoError(t, rows.Scan(to...))
			for i, v := range values {
				switch v.(type) { // the types it converts
				case int64, string, nil:
				default:
					t.Errorf("%s: %s is a %T", what, names[i], v)
				}
			}
			n++
		}
		require.NoError(t, rows.Err())
		require.Positive(t, n, what)
	}
	items := readPairs(t, db, "lists")
	for _, name := range strings.Fields("databases users pools free_clients used_clients login_clients free_servers used_servers dns_names dns_zones dns_queries") {
		require.Contains(t, items, name)
	}
	keys := readPairs(t, db, "config")
	require.Equal(t, "10000", keys["max_client_conn"])
	require.Equal(t, "0", keys["max_user_connections"])
	require.Len(t, readPairs(t, db, "version"), 1)
}

// readPairs are the first two columns of a view, or one.
func readPairs(t *testing.T, db *sql.DB, what string) map[string]string {
	t.Helper()
	rows, err := db.QueryContext(bounded(t), "SHOW "+what+";")
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	require.NoError(t, err)
	found := map[string]string{}
	for rows.Next() {
		values := make([]sql.RawBytes, len(names))
		to := make([]any, len(names))
		for i := range values {
			to[i] = &values[i]
		}
		require.NoError(t, rows.Scan(to...))
		found[string(values[0])] = string(values[min(1, len(values)-1)])
	}
	require.NoError(t, rows.Err())
	return found
}

// TestDebiansExporter: Debian's prometheus-pgbouncer-exporter scrapes the console.
func TestDebiansExporter(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("prometheus-pgbouncer-exporter")
	require.NoError(t, err, "\"make deps\" installs it")
	s := start(t)
	command(t, s.client(t), "select 1")
	_, port, _ := strings.Cut(pgtest.FreeAddress(t), ":")
	cmd := exec.Command(path, "--host", "127.0.0.1", "--port", port, "--pgbouncer-user", "watcher", "--pgbouncer-host", s.host, "--pgbouncer-port", s.port)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	var text string
	until(t, "it answers", func() bool {
		text = get("http://127.0.0.1:" + port + "/metrics")
		return strings.Contains(text, "pgbouncer_pools ")
	})
	require.Contains(t, text, fmt.Sprintf("pgbouncer_active_clients{database=%q,user=%q} 1.0", s.db, pgtest.Superuser))
	require.Contains(t, text, fmt.Sprintf("pgbouncer_requests_total{database=%q} 1.0", s.db))
	require.Contains(t, text, fmt.Sprintf("pgbouncer_pool_size{database=%q} 20.0", s.db))
}

// TestFirstStatement: of an open transaction is told what a server was sent first of it, without
// a literal, and nothing of the one before.
func TestFirstStatement(t *testing.T) {
	s := start(t, func(c *config.Config) { c.Insight.Enabled = true })
	admin, c := s.admin(t), s.client(t)
	first := func() any { return show(t, admin, "TRANSACTIONS")[0]["first_statement"] }
	for range 2 {
		command(t, c, "begin")
		until(t, "it is open", func() bool { return len(show(t, admin, "TRANSACTIONS")) == 1 })
		require.Nil(t, first())
		command(t, c, "select 'secret'")
		command(t, c, "select 2, 3")
		require.Equal(t, "select $1", first())
		command(t, c, "commit")
		until(t, "it is over", func() bool { return len(show(t, admin, "TRANSACTIONS")) == 0 })
	}
}

// TestManySessions: users who only look leave room for those who command, and a session keeps a
// bounded number of statements.
func TestManySessions(t *testing.T) {
	s := start(t)
	var watchers []*pgx.Conn
	for range 24 {
		watchers = append(watchers, s.connect(t, "watcher", "pgweir"))
	}
	_, err := pgx.Connect(bounded(t), s.dsn("watcher", "pgweir"))
	require.ErrorContains(t, err, "53300")
	admin := s.admin(t)
	require.NotEmpty(t, show(t, admin, "VERSION"))
	require.NoError(t, watchers[0].Close(bounded(t)))
	until(t, "there is room again", func() bool {
		c, err := pgx.Connect(bounded(t), s.dsn("watcher", "pgweir"))
		if err == nil {
			watchers[0] = c
		}
		return err == nil
	})
	defer func() { _ = watchers[0].Close(context.Background()) }()

	prepare := func(i int) error {
		_, err := admin.PgConn().Prepare(bounded(t), fmt.Sprint("p", i), "SHOW VERSION", nil)
		return err
	}
	n := 0
	for ; err == nil || n == 0; n++ {
		if err = prepare(n); n > 300 {
			break
		}
	}
	require.ErrorContains(t, err, "54000")
	require.NoError(t, prepare(0), "one that is there may be replaced")
	require.NotEmpty(t, show(t, watchers[1], "VERSION"))
}
