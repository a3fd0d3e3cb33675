package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/pgtest"
)

const fleetSchema = `
	create table organizations (id int primary key, name text);
	create table vehicles (id int primary key, organization_id int not null, plate text);
	create table couriers (id int primary key, organization_id int not null, vehicle_id int references vehicles, status text);
	create table deliveries (id int primary key, organization_id int not null, courier_id int references couriers, status text, fee numeric);
	insert into organizations values (1, 'one');
	insert into vehicles select i, 1, 'B ' || i from generate_series(1, 40) i;
	insert into couriers select i, 1, i, case when i % 3 = 0 then 'ON_LEAVE' else 'ACTIVE' end from generate_series(1, 40) i;
	insert into deliveries select i, 1, i % 40 + 1, (array['NEW', 'ON_THE_WAY', 'DONE', 'LOST'])[i % 4 + 1], i % 10 from generate_series(1, 2000) i;
	analyze`

// TestFindingsOfSQLAlchemy: each of an application's patterns that cost more than they need to is
// found, with the request it comes from and the statement that shows it, and nothing is found once
// it is cured.
func TestFindingsOfSQLAlchemy(t *testing.T) {
	cluster := newCluster(t, noLag)
	database := newDatabase(t, cluster)
	execute(t, cluster, database, fleetSchema+"; grant all on all tables in schema public to "+role)
	bad := findingsOf(t, sent(t, cluster, database, "bad"))
	for _, want := range []struct{ kind, route, table, statement, with, sql string }{
		{"n_plus_one", "/vehicles", "couriers", "= couriers.vehicle_id", "FROM vehicles", "WHERE organization_id = ANY ($1)"},
		{"n_plus_one", "/couriers/vehicle", "vehicles", "vehicles.id = $2", "FROM couriers", "WHERE id = ANY ($1)"},
		{"duplicate", "/settings", "organizations", "where id = $1", "", "once"},
		{"count_fan_out", "/dashboard", "deliveries", "deliveries.status = $2", "", "count(*) FILTER (WHERE …)"},
		{"page_and_count", "/deliveries/page", "deliveries", "LIMIT $3", "count(*)", "count(*) OVER ()"},
		{"idle_in_transaction", "/deliveries/notify", "", "UPDATE deliveries", "", "COMMIT"},
		{"unbounded", "/deliveries/statistics", "deliveries", "deliveries.fee", "", "the sums"},
		{"offset", "/deliveries/archive", "deliveries", "OFFSET $3", "", "ORDER BY id LIMIT"},
		{"read_on_primary", "/couriers/report", "couriers", "couriers.status = $2", "", ""},
		{"unfiltered", "/vehicles/search", "vehicles", "LIKE", "", "name the tenant"},
	} {
		key := want.kind + " " + want.route
		f, ok := bad[key]
		if !ok {
			t.Errorf("%s is not found", key)
			continue
		}
		delete(bad, key)
		for _, x := range [][2]string{{f.Table, want.table}, {f.Statement, want.statement}, {strings.Join(f.With, "\n"), want.with}, {f.SQL, want.sql}} {
			if !strings.Contains(x[0], x[1]) {
				t.Errorf("%s: %q lacks %q", key, x[0], x[1])
			}
		}
		if apps := fmt.Sprint(f.Apps); want.kind != "read_on_primary" && apps != "[fleet/1.0]" {
			t.Errorf("%s: sent by %s", key, apps)
		}
	}
	report := func(of string, all map[string]insight.Finding) {
		for key, f := range all {
			t.Errorf("%s: found besides: %s: %s: %s", of, key, f.Statement, f.Detail)
		}
	}
	report("bad", bad)
	report("cured", findingsOf(t, sent(t, cluster, database, "cured")))
}

// findingsOf are findings by kind and route. Those of statements that no route sent, as drivers
// do when they connect, are left out, and those of a moment without a replica.
func findingsOf(t *testing.T, sum insight.Summary) map[string]insight.Finding {
	t.Helper()
	all := map[string]insight.Finding{}
	for _, f := range sum.Findings {
		if strings.HasSuffix(f.Detail, "because of no_replica") {
			continue
		}
		for _, route := range f.Routes {
			all[f.Kind+" "+route] = f
		}
	}
	return all
}

// sent has the application send its requests through a proxy, and returns what was counted there.
func sent(t *testing.T, cluster *pgtest.Cluster, database, which string) (sum insight.Summary) {
	t.Helper()
	running := runProxy(t, cluster, func(c *config.Config) {
		c.Insight.Enabled, c.Insight.Idle = true, 300*time.Millisecond
		c.Tenant.Columns = []string{"organization_id"}
		c.Routing.Consistency = "eventual" // a read behind a write is no pattern of the application's
	})
	transcript := runProcess(t, target{running.Proxy.Addrs()[0].String(), database}, "testdata/python", python, "fleet_requests.py", which)
	if !slices.Contains(transcript, "all requests were sent") {
		t.Fatalf("%s:\n%s", which, strings.Join(transcript, "\n"))
	}
	var out bytes.Buffer
	if err := running.Proxy.WriteInsights(&out); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &sum); err != nil {
		t.Fatal(err)
	}
	return sum
}
