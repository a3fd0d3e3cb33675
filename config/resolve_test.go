package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample() Config {
	c := Default()
	c.Clusters = map[string]Cluster{
		"eu": {Sources: Sources{Servers: []Server{{Address: "eu1", Weight: 1}}}},
		"us": {Sources: Sources{Servers: []Server{{Address: "us1", Weight: 1}}}},
	}
	c.Databases = map[string]Database{
		"app": {Cluster: "eu", Name: "app_eu", PoolMode: "session", PoolSize: 5, MaxClients: 50, MaxServerConnections: 9, Route: "primary", Consistency: "strong"},
		"web": {Cluster: "us"},
	}
	c.Users = map[string]User{
		"report": {ServerUser: "reader", ServerPassword: "x", PoolMode: "transaction", PoolSize: 2, MaxClients: 3, MaxServerConnections: 4, Route: "replica", Consistency: "eventual"},
	}
	c.Pool.MinIdle = 3
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
		}},
		{"database over pool", "bob", "app", Effective{
			Cluster: "eu", Database: "app_eu", ServerUser: "bob", PoolMode: "session", PoolSize: 5, MinIdle: 3, Route: "primary",
			Consistency: "strong", DatabaseClients: 50, DatabaseConnections: 9,
		}},
		{"user over database", "report", "app", Effective{
			Cluster: "eu", Database: "app_eu", ServerUser: "reader", ServerPassword: "x", PoolMode: "transaction", PoolSize: 2, MinIdle: 2, Route: "replica",
			Consistency: "eventual", DatabaseClients: 50, DatabaseConnections: 9, UserClients: 3, UserConnections: 4,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := sample().Resolve(tc.user, tc.database)
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
