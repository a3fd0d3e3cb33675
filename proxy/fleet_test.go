package proxy_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// testdata/fleet is the traffic of a fleet management application (SQLAlchemy on
// psycopg2) with row-level security: a dump of its database, and what each of 924
// HTTP requests sent to it, in order. Every request is in transactions; 743 only
// read. Some statements fail by the application's own faults and abort theirs.

// fleetUser owns the fleet's database. Its tables' policies are forced on it.
const fleetUser = "barq_app"

// request is the statements of one HTTP request.
type request struct {
	Req    int
	Route  string
	Events []string
}

// reads reports whether a request only reads.
func (r *request) reads() bool {
	return !slices.ContainsFunc(r.Events, func(e string) bool {
		word, _, _ := strings.Cut(e, " ")
		return word == "INSERT" || word == "UPDATE" || word == "DELETE"
	})
}

// fleet is a cluster with the application's database, and its requests.
type fleet struct {
	*pgtest.Cluster
	requests []request
	copies   int
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	// Which rows LIMIT without ORDER BY finds depends on what vacuum has done.
	f := &fleet{Cluster: pgtest.New(t, pgtest.Options{Replicas: 2, Conf: map[string]string{"autovacuum": "off", "synchronous_standby_names": "FIRST 2 (*)"}})}
	f.exec(t, "postgres", "create role "+fleetUser+" login")
	f.exec(t, "postgres", "create database fleet owner "+fleetUser)
	f.load(t)
	f.exec(t, "fleet", "vacuum freeze analyze")
	for line := range strings.Lines(unzipped(t, "testdata/fleet/trace.jsonl.gz")) {
		var r request
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		f.requests = append(f.requests, r)
	}
	if len(f.requests) != 924 {
		t.Fatalf("%d requests", len(f.requests))
	}
	return f
}

func unzipped(t testing.TB, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzip, err := gzip.NewReader(bufio.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(unzip)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (f *fleet) exec(t *testing.T, database, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Primary.Exec(ctx, database, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// load runs the dump as psql would. It holds one foreign key its own rows violate.
func (f *fleet) load(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, f.Primary.ConnString("fleet", pgtest.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	err = pgtest.Restore(ctx, conn.PgConn(), unzipped(t, "testdata/fleet/fleet.sql.gz"), func(sql, sqlstate string) bool {
		return sqlstate == "23503" && strings.Contains(sql, "sla_events")
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fresh makes a copy of the database as it was loaded. With apply, commits in it
// wait until both replicas show them.
func (f *fleet) fresh(t *testing.T, apply bool) string {
	t.Helper()
	f.copies++
	name := fmt.Sprintf("fleet%d", f.copies)
	f.exec(t, "postgres", "create database "+name+" template fleet owner "+fleetUser)
	if apply {
		f.exec(t, "postgres", "alter database "+name+" set synchronous_commit = remote_apply")
	}
	t.Cleanup(func() { f.exec(t, "postgres", "drop database "+name+" with (force)") })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.WaitReplay(ctx); err != nil {
		t.Fatal(err)
	}
	return name
}

// proxy starts a proxy in front of the fleet's servers.
func (f *fleet) proxy(t *testing.T, change ...func(*config.Config)) *service {
	t.Helper()
	cfg := config.Default()
	cfg.Listen, cfg.HTTP = config.Addresses{freeAddress(t)}, ""
	for _, s := range f.Servers() {
		cfg.Servers = append(cfg.Servers, config.Server{Address: s.Addr(), Weight: 1})
	}
	cfg.ServerTLS.Mode, cfg.Service.User, cfg.Auth.Method = "disable", pgtest.Superuser, "trust"
	cfg.Tenant.Settings = []string{"app.current_org_id"}
	for _, c := range change {
		c(&cfg)
	}
	return startConfig(t, cfg)
}

// habit is how an application tells its tenant.
type habit struct {
	name string
	// set is sent behind BEGIN, with %s the tenant: behind the first of a request, or
	// behind every one if the setting ends with its transaction.
	set   []string
	every bool
	// bound: the tenant is sent as $1 of the extended protocol.
	bound bool
	// reset is sent before the end of the request's last transaction. Where that is a
	// ROLLBACK, and the request has committed before, the tenant stays set: the
	// application's own leak, which must be there through the proxy too.
	reset []string
	// outside: set goes before the request and reset behind it.
	outside bool
}

var (
	bySet    = habit{name: "SET", set: setTenant, reset: resetTenant}
	byPool   = habit{name: "SET outside the transaction", set: setTenant, reset: resetTenant, outside: true}
	byLocal  = habit{name: "SET LOCAL", every: true, set: []string{"SET LOCAL app.current_org_id = '%s'", "SET LOCAL app.is_superuser = 'false'"}}
	byConfig = habit{name: "set_config",
		set:   []string{"SELECT set_config('app.current_org_id', '%s', false), set_config('app.is_superuser', 'false', false)"},
		reset: []string{"SELECT set_config('app.current_org_id', '', false), set_config('app.is_superuser', 'false', false)"}}
	byBound = habit{name: "bound set_config", bound: true, reset: resetTenant,
		set: []string{"SELECT set_config('app.current_org_id', $1, false), set_config('app.is_superuser', 'false', false)"}}
	byBoundLocal = habit{name: "bound local set_config", bound: true, every: true,
		set: []string{"SELECT set_config('app.current_org_id', $1, true), set_config('app.is_superuser', 'false', true)"}}
	everyHabit = []habit{bySet, byPool, byLocal, byConfig, byBound, byBoundLocal}

	setTenant   = []string{"SET app.current_org_id = '%s'", "SET app.is_superuser = 'false'"}
	resetTenant = []string{"RESET app.current_org_id", "RESET app.is_superuser"}
)

// of are the statements that set the tenant.
func (h *habit) of(tenant int) (all []statement) {
	name := fmt.Sprint(tenant)
	for _, sql := range h.set {
		if h.bound {
			all = append(all, statement{sql: sql, bound: []byte(name)})
		} else {
			all = append(all, statement{sql: strings.ReplaceAll(sql, "%s", name)})
		}
	}
	return all
}

// statement is what a request sends up to one ReadyForQuery.
type statement struct {
	sql   string
	bound []byte // nil: a simple query
	own   bool   // of the request, not the habit's
}

// as are the statements of a request made for a tenant.
func (r *request) as(h habit, tenant int) (all []statement) {
	var reset []statement
	for _, sql := range h.reset {
		reset = append(reset, statement{sql: sql})
	}
	if h.outside {
		all = h.of(tenant)
	}
	set := h.outside
	for i, e := range r.Events {
		if i == len(r.Events)-1 && !h.outside {
			all = append(all, reset...)
		}
		all = append(all, statement{sql: e, own: true})
		if e == "BEGIN" && (!set || h.every) {
			all, set = append(all, h.of(tenant)...), true
		}
	}
	if h.outside {
		all = append(all, reset...)
	}
	return all
}
