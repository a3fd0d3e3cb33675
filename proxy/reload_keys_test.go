package proxy_test

import (
	"context"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// effects show of every key that a running proxy follows what becomes of it. The keys are
// those that show changes, as the reload tells them.
var effects = []effect{
	{"clients", "max_clients databases.*.max_clients users.*.max_clients pool.reserve.clients", showClients},
	{"new sessions", "application_name_add_host pool.mode databases.*.pool_mode users.*.pool_mode", showNewSessions},
	{"unacknowledged", "tcp_user_timeout", showUserTimeout},
	{"peers", "peers", showPeers},
	{"servers", "servers servers[].weight servers[].address", showServers},
	{"server bounds", "pool.max_server_connections servers[].max_server_connections pool.reserve.connections databases.*.max_server_connections users.*.max_server_connections", showServerBounds},
	{"tls to servers", "server_tls.mode server_tls.ca_file server_tls.cert_file server_tls.key_file servers[].tls_name", showServerTLS},
	{"service account", "service.user service.password service.database", showService},
	{"where a database is", "databases.*.cluster databases.*.name", showWhere},
	{"logins to servers", "databases.*.server_user databases.*.server_password users.*.server_user users.*.server_password", showServerUsers},
	{"look-ups", "auth.query auth.query_ttl databases.*.auth_query", showLookups},
	{"passwords", "users.*.password users.*.old_passwords auth.user_file auth.method auth.failure_delay auth.timeout auth.allow_plain_password", showPasswords},
	{"rules of logins", "auth.hba_file auth.ident_file auth.ldap_ca_file", showHBA},
	{"tls of clients", "tls.mode tls.cert_file tls.key_file tls.ca_file tls.min_version", showClientTLS},
	{"pool sizes", "pool.size databases.*.pool_size users.*.pool_size pool.acquire_timeout databases.*.acquire_timeout users.*.acquire_timeout", showPoolSizes},
	{"idle connections", "pool.min_idle databases.*.min_idle users.*.min_idle pool.idle_timeout pool.max_lifetime pool.forget_after", showIdle},
	{"warm users", "databases.*.warm", showWarm},
	{"new connections", "pool.connect_timeout pool.max_statements", showNewConnections},
	{"timeouts", "timeouts.client_idle timeouts.idle_transaction timeouts.transaction timeouts.statement", showTimeouts(0)},
	{"timeouts of databases", "databases.*.timeouts.client_idle databases.*.timeouts.idle_transaction databases.*.timeouts.transaction databases.*.timeouts.statement", showTimeouts(1)},
	{"timeouts of users", "users.*.timeouts.client_idle users.*.timeouts.idle_transaction users.*.timeouts.transaction users.*.timeouts.statement", showTimeouts(2)},
	{"routes", "routing.route databases.*.route users.*.route routing.shadow routing.primary_reads", showRoutes},
	{"levels", "routing.consistency databases.*.consistency users.*.consistency routing.sole_writer routing.max_staleness routing.freshness_wait", showLevels},
	{"no primary", "routing.primary_wait", showPrimaryWait},
	{"catalog", "routing.catalog_interval routing.safe_functions routing.unsafe_functions routing.plan_cache", showCatalog},
	{"rules", "routing.rules routing.rules[].route routing.rules[].consistency routing.rules[].database routing.rules[].user routing.rules[].application routing.rules[].table routing.rules[].function routing.rules[].pattern", showRules},
	{"settings", "settings.track settings.assert settings.verify settings.verify_releases tenant.settings", showSettings},
	{"audit", "tenant.exempt.patterns tenant.exempt.users tenant.exempt.applications tenant.audit.mode tenant.audit.rules tenant.audit.rules[].mode tenant.audit.rules[].table tenant.audit.rules[].user tenant.audit.rules[].application tenant.audit.rules[].kind tenant.audit.rules[].severity tenant.audit.log_interval tenant.audit.max_statements tenant.audit.show_tenants", showAudit},
	{"log", "log.slow_statement log.connections", showLog},
	{"console", "console.admin_users console.stats_users", showConsole},
}

// ofTheProcess are keys that the process follows, not the proxy in it: the tests of the program show those.
var ofTheProcess = []string{"reload_on_change", "drain_delay", "shutdown_timeout", "upgrade.timeout", "log.level"}

type effect struct {
	name, keys string
	show       func(*running)
}

// running is a proxy whose configuration an effect changes.
type running struct {
	*testing.T
	*service
	cfg     config.Config // in force
	db      string        // of the test's own
	logs    *observer.ObservedLogs
	changed map[string]bool // keys that were
}

// TestEveryKeyIsFollowed: each key is followed by a running proxy, which shows, or is one that
// needs a restart. A new key needs an entry.
func TestEveryKeyIsFollowed(t *testing.T) {
	shown := map[string]bool{}
	for _, e := range effects {
		for _, k := range strings.Fields(e.keys) {
			shown[k] = true
		}
	}
	for _, k := range ofTheProcess {
		shown[k] = true
	}
	for _, k := range config.Keys() {
		heading := k.Type == "keys and values"
		if !heading && !k.Restart && !shown[ofCluster(k.Path)] {
			t.Errorf("%s is said to be live, and nothing shows that it is", k.Path)
		}
		if k.Restart && shown[k.Path] {
			t.Errorf("%s needs a restart, and is said to be shown", k.Path)
		}
	}
	for _, e := range effects {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := &running{T: t, changed: map[string]bool{}}
			e.show(r)
			for _, k := range strings.Fields(e.keys) {
				if !r.changed[k] {
					t.Errorf("%s was not changed, but %v", k, slices.Sorted(maps.Keys(r.changed)))
				}
			}
		})
	}
}

// ofCluster is the short form of a cluster's key: both come to the same (Config.Complete).
func ofCluster(path string) string {
	short, ok := strings.CutPrefix(path, "clusters.*.")
	if ok && (short == "tls" || strings.HasPrefix(short, "tls.")) {
		return "server_" + short
	}
	return short
}

// begin starts the proxy, with entries for the database and the superuser.
func (r *running) begin(change ...func(*config.Config)) {
	r.Helper()
	if r.db == "" {
		r.db = newDatabase(r, items)
	}
	cfg := baseConfig(r)
	cfg.Routing.Consistency = "eventual"
	cfg.Databases = map[string]config.Database{r.db: {}, "*": {}}
	cfg.Users = map[string]config.User{pgtest.Superuser: {}}
	for _, f := range change {
		f(&cfg)
	}
	r.cfg = cfg.Complete()
	core, logs := observer.New(zap.InfoLevel)
	r.logs, r.service = logs, launchLogging(r, r.cfg, zap.New(core))
	if r.cfg.Clusters["default"].Service.User == "" {
		return // they are known with the first client
	}
	until(r, "all servers are up", func() bool {
		return r.metric(r, "pgweir_server_up") >= float64(len(r.cfg.Clusters["default"].Servers))
	})
}

var (
	numbered = regexp.MustCompile(`\[\d+\]`)
	named    = regexp.MustCompile(`^(clusters|databases|users)\.[^.]+`)
)

// reload has the proxy follow a change of its configuration.
func (r *running) reload(change ...func(*config.Config)) []config.Change {
	r.Helper()
	next := copyOf(r.cfg)
	for _, f := range change {
		f(&next)
	}
	next = next.Complete()
	changes, err := r.Reload(next)
	require.NoError(r, err)
	r.cfg = next
	for _, c := range changes {
		require.False(r, c.Restart, c.Path)
		r.changed[keyOf(c.Path)] = true
	}
	return changes
}

// keyOf is the key of what a path leads to, in its short form.
func keyOf(path string) string {
	return ofCluster(named.ReplaceAllString(numbered.ReplaceAllString(path, "[]"), "$1.*"))
}

// copyOf is a configuration that may be changed.
func copyOf(c config.Config) config.Config {
	c.Clusters, c.Databases, c.Users = maps.Clone(c.Clusters), maps.Clone(c.Databases), maps.Clone(c.Users)
	for name, cl := range c.Clusters {
		cl.Servers = slices.Clone(cl.Servers)
		c.Clusters[name] = cl
	}
	c.Routing.Rules, c.Tenant.Audit.Rules = slices.Clone(c.Routing.Rules), slices.Clone(c.Tenant.Audit.Rules)
	return c
}

// cluster changes what is said of the only cluster.
func cluster(f func(*config.Cluster)) func(*config.Config) {
	return func(c *config.Config) {
		cl := c.Clusters["default"]
		f(&cl)
		c.Clusters["default"] = cl
	}
}

// database changes what is said of the test's database.
func (r *running) database(f func(*config.Database)) func(*config.Config) {
	return func(c *config.Config) {
		d := c.Databases[r.db]
		f(&d)
		c.Databases[r.db] = d
	}
}

// ofUser changes what is said of a user.
func ofUser(name string, f func(*config.User)) func(*config.Config) {
	return func(c *config.Config) {
		u := c.Users[name]
		f(&u)
		c.Users[name] = u
	}
}

// superuser changes what is said of the user whom sessions have.
func superuser(f func(*config.User)) func(*config.Config) { return ofUser(pgtest.Superuser, f) }

// login is the SQLSTATE with which a client is refused, empty if it is let in.
func (r *running) login(params ...string) string {
	r.Helper()
	conn, err := pgx.Connect(bounded(r, patience), r.dsn(r.db, params...))
	if err != nil {
		if code := wantCode(err); code != "" {
			return code
		}
		return err.Error()
	}
	_ = conn.Close(context.Background())
	return ""
}

// role makes a role for the test that may do everything.
func (r *running) role(suffix string) string {
	r.Helper()
	name := "r" + suffix + "_" + r.db
	run(r, "postgres", "create role "+name+" superuser login password '"+suffix+"'")
	r.Cleanup(func() { run(r, "postgres", "drop role "+name) })
	return name
}

// value is what a statement returns to a new client.
func (r *running) value(sql string, params ...string) string {
	r.Helper()
	conn, err := pgx.Connect(bounded(r, patience), r.dsn(r.db, params...))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close(context.Background()) }()
	return valueOn(r.T, conn, sql)
}

func valueOn(t *testing.T, conn *pgx.Conn, sql string) string {
	var v string
	if err := conn.QueryRow(bounded(t, patience), sql, pgx.QueryExecModeSimpleProtocol).Scan(&v); err != nil {
		return err.Error()
	}
	return v
}

// TestWhatNeedsARestart: a key that does is named and keeps its value.
func TestWhatNeedsARestart(t *testing.T) {
	cfg := baseConfig(t)
	cfg.Tenant.Columns, cfg.Tenant.Settings = []string{"tenant_id"}, []string{"app.tenant"}
	cfg = cfg.Complete()
	s := launch(t, cfg)
	next := copyOf(cfg)
	var want []string
	for _, k := range config.Keys() {
		short, of := strings.CutPrefix(k.Path, "clusters.*.")
		switch {
		case !k.Restart || strings.Contains(k.Path, "[]") || k.Type == "keys and values":
		case of:
			cl := next.Clusters["default"]
			alter(reflect.ValueOf(&cl).Elem(), short)
			next.Clusters["default"] = cl
			want = append(want, "clusters.default."+short)
		case slices.ContainsFunc(config.Keys(), func(other config.Key) bool { return other.Path == "clusters.*."+k.Path }):
		default:
			alter(reflect.ValueOf(&next).Elem(), k.Path)
			want = append(want, k.Path)
		}
	}
	next.Clusters["other"] = config.Cluster{}
	want = append(want, "clusters.other")
	changes, err := s.Reload(next)
	require.NoError(t, err)
	var got []string
	for _, c := range changes {
		require.True(t, c.Restart, c.Path)
		got = append(got, c.Path)
	}
	require.ElementsMatch(t, want, got)
	require.Equal(t, cfg, s.Config())
}

// alter makes what is at a path of keys something else.
func alter(v reflect.Value, path string) {
	key, rest, within := strings.Cut(path, ".")
	for _, f := range reflect.VisibleFields(v.Type()) {
		if f.Tag.Get("yaml") != key || f.Anonymous {
			continue
		}
		switch at := v.FieldByIndex(f.Index); {
		case within:
			alter(at, rest)
		case at.Kind() == reflect.String:
			at.SetString(at.String() + "x")
		case at.Kind() == reflect.Bool:
			at.SetBool(!at.Bool())
		case at.Kind() == reflect.Slice:
			at.Set(reflect.Append(at, reflect.Zero(at.Type().Elem())))
		default:
			at.SetInt(at.Int() + int64(time.Second))
		}
	}
}
