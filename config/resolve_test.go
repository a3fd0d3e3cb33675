package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sample() Config {
	c := Default()
	c.Clusters = map[string]Cluster{
		"eu": {Sources: Sources{Servers: []Server{{Address: "eu1", Weight: 1}}}},
		"us": {Sources: Sources{Servers: []Server{{Address: "us1", Weight: 1}}}},
	}
	c.Databases = map[string]Database{
		"app": {Cluster: "eu", Name: "app_eu", PoolMode: "session", PoolSize: 5, MaxClients: 50, MaxServerConnections: 9, Route: "primary", Consistency: "strong",
			MinIdle: 1, AcquireTimeout: Off, Timeouts: Timeouts{Statement: time.Minute, Transaction: Off, ClientIdle: time.Hour}},
		"web": {Cluster: "us"},
	}
	c.Users = map[string]User{
		"report": {ServerUser: "reader", ServerPassword: "x", PoolMode: "transaction", PoolSize: 2, MaxClients: 3, MaxServerConnections: 4, Route: "replica", Consistency: "eventual",
			MinIdle: 2, AcquireTimeout: time.Second, Timeouts: Timeouts{Statement: Off, Transaction: time.Hour}},
	}
	c.Pool.MinIdle = 3
	c.Timeouts = Timeouts{Transaction: time.Minute, IdleTransaction: time.Second}
	c.Pool.Reserve = Reserve{Users: []string{"report"}, Connections: 1}
	c.Routing.Rules = []Rule{
		{Route: "primary", Database: "app", Table: "t"},
		{Route: "primary", User: "report", Function: "f"},
		{Route: "replica", Application: "export", Pattern: "x"},
	}
	return c.Complete()
}

func TestResolve(t *testing.T) {
	for _, tc := range []struct {
		name           string
		user, database string
		want           Effective
	}{
		{"defaults", "bob", "web", Effective{
			Cluster: "us", Database: "web", ServerUser: "bob", PoolMode: "transaction", PoolSize: 20, MinIdle: 3, Route: "auto", Consistency: "database",
			AcquireTimeout: 30 * time.Second, Timeouts: Timeouts{Transaction: time.Minute, IdleTransaction: time.Second},
		}},
		{"database over pool", "bob", "app", Effective{
			Cluster: "eu", Database: "app_eu", ServerUser: "bob", PoolMode: "session", PoolSize: 5, MinIdle: 1, Route: "primary",
			Timeouts:    Timeouts{Statement: time.Minute, IdleTransaction: time.Second, ClientIdle: time.Hour},
			Consistency: "strong", DatabaseClients: 50, DatabaseConnections: 9,
		}},
		{"user over database", "report", "app", Effective{
			Cluster: "eu", Database: "app_eu", ServerUser: "reader", ServerPassword: "x", PoolMode: "transaction", PoolSize: 2, MinIdle: 2, Route: "replica",
			Consistency: "eventual", DatabaseClients: 50, DatabaseConnections: 9, UserClients: 3, UserConnections: 4,
			AcquireTimeout: time.Second, Timeouts: Timeouts{Transaction: time.Hour, IdleTransaction: time.Second, ClientIdle: time.Hour}, Privileged: true,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := sample()
			got, ok := c.Resolve(tc.user, tc.database)
			if diff := cmp.Diff(tc.want, got); diff != "" || !ok {
				t.Error(ok, diff)
			}
		})
	}
}

func TestResolveDatabases(t *testing.T) {
	c := sample()
	if _, ok := c.Resolve("bob", "other"); ok {
		t.Error("a database without an entry was found")
	}
	c.Databases["*"] = Database{Cluster: "us"}
	if e, ok := c.Resolve("bob", "other"); !ok || e.Database != "other" || e.Cluster != "us" {
		t.Errorf("with *: %+v %v", e, ok)
	}
	c = Default()
	c.Servers = []Server{{Address: "db1", Weight: 1}}
	c = c.Complete()
	if e, ok := c.Resolve("bob", "any"); !ok || e.Cluster != "default" || e.Database != "any" {
		t.Errorf("without databases: %+v %v", e, ok)
	}
}

func TestRulesFor(t *testing.T) {
	c := sample()
	all := []Rule{
		{Route: "primary", Table: "t"},
		{Route: "primary", User: "report", Function: "f"},
		{Route: "replica", Application: "export", Pattern: "x"},
	}
	if diff := cmp.Diff(all, c.RulesFor("app")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(all[1:], c.RulesFor("web")); diff != "" {
		t.Error(diff)
	}
	if c.Routing.Rules[0].Database != "app" {
		t.Error("the configuration was changed")
	}
}

// TestPeersCommit: who has peers is not the only one that commits.
func TestPeersCommit(t *testing.T) {
	c := Default()
	if !c.Complete().Routing.SoleWriter {
		t.Error("alone it is not the sole writer")
	}
	c.Peers = Addresses{"pgweir"}
	if c = c.Complete(); c.Routing.SoleWriter || c.Peers[0] != "pgweir:6432" {
		t.Errorf("%v, sole writer %v", c.Peers, c.Routing.SoleWriter)
	}
}
