package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func consoleConfig() Config {
	c := Default()
	c.Servers = []Server{{Address: "a:5432", Weight: 1}}
	c.Users = map[string]User{"ann": {Password: "secret", PoolSize: 3}, "bob": {}}
	return c.Complete()
}

// With changes one key of a copy, and nothing else.
func TestWith(t *testing.T) {
	before := consoleConfig()
	for _, c := range []struct {
		path, text string
		value      func(Config) any
		want       any
	}{
		{"pool.size", "7", func(c Config) any { return c.Pool.Size }, 7},
		{"routing.primary_wait", "3s", func(c Config) any { return c.Routing.PrimaryWait }, 3 * time.Second},
		{"users.ann.pool_size", "9", func(c Config) any { return c.Users["ann"].PoolSize }, 9},
		{"users.bob.route", "primary", func(c Config) any { return c.Users["bob"].Route }, "primary"},
		{"console.stats_users", "[x, y]", func(c Config) any { return strings.Join(c.Console.StatsUsers, " ") }, "x y"},
	} {
		after, err := before.With(c.path, c.text)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		if got := c.value(after); got != c.want {
			t.Errorf("%s: %v, want %v", c.path, got, c.want)
		}
		changes := after.Changes(before)
		if len(changes) != 1 || changes[0].Path != c.path {
			t.Errorf("%s: changed %v", c.path, changes)
		}
	}
	if changes := before.Changes(consoleConfig()); len(changes) > 0 {
		t.Errorf("what With was asked of has changed: %v", changes)
	}
	for _, c := range []struct{ path, text, want string }{
		{"pool.sice", "1", "did you mean size?"},
		{"pool", "1", "is no key with a value"},
		{"pool.size.more", "1", "is no key with a value"},
		{"pool.size", "many", "whole number"},
		{"pool.size", ": :", "is no value"},
		{"users.eve.pool_size", "1", "there is no eve"},
		{"users.ann.password", "x", "is a secret"},
		{"listen", "127.0.0.1:1", "needs a restart"},
		{"routing.route", "somewhere", "auto, primary or replica"},
	} {
		if _, err := before.With(c.path, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %s: %v, want %q", c.path, c.text, err, c.want)
		}
	}
}

// Entries are all keys with their values, none of them a secret.
func TestEntries(t *testing.T) {
	c := consoleConfig()
	c.Pool.Size = 7
	all := c.Entries()
	find := func(path string) Entry {
		i := slices.IndexFunc(all, func(e Entry) bool { return e.Path == path })
		if i < 0 {
			t.Fatalf("%s is missing", path)
		}
		return all[i]
	}
	for _, want := range []Entry{
		{"pool.size", "7", "20", false}, {"users.ann.pool_size", "3", "0", false}, {"users.ann.password", "(secret)", "", false},
		{"listen", "[127.0.0.1:6432]", "127.0.0.1:6432", true},
	} {
		if got := find(want.Path); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	for _, e := range all {
		if strings.Contains(e.Value, "secret") && e.Value != "(secret)" {
			t.Errorf("%s tells a secret", e.Path)
		}
	}
}
