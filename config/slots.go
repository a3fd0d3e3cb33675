package config

import (
	"cmp"
	"fmt"
	"slices"
)

// Reserve is what is kept for a few users while the rest is full.
type Reserve struct {
	// Users may have it. Their statements also go before those of others where
	// connections are waited for.
	Users []string `yaml:"users" reload:"restart"`
	// Connections are those of each server's, Clients those of max_clients.
	Connections int `yaml:"connections"`
	Clients     int `yaml:"clients"`
}

// Bound is how many connections there may be to a server; 0 is no bound.
func (s Server) Bound(p Pool) int { return cmp.Or(s.MaxServerConnections, p.MaxServerConnections) }

// ownConnections is how many connections to one server the proxy may need for itself,
// besides one for each database where sessions listen: two watch it, one asks for logins,
// one reads a catalog.
const ownConnections = 4

func (c *Config) checkSlots(fs *Faults) {
	r := c.Pool.Reserve
	least := ownConnections + 1 + r.Connections
	check := func(at string, most int) {
		if most > 0 && most < least {
			fs.add(at, "must be %d or more: pgweir itself needs %d, pool.reserve.connections keeps %d back, found %d", least, ownConnections, r.Connections, most)
		}
	}
	check("pool.max_server_connections", c.Pool.MaxServerConnections)
	for _, name := range c.ClusterNames() {
		for i, s := range c.Clusters[name].Servers {
			check(serverPath(name, i)+".max_server_connections", s.MaxServerConnections)
		}
	}
	switch {
	case len(r.Users) == 0 && r.Connections+r.Clients > 0:
		fs.add("pool.reserve.users", "nobody may use what is reserved; name the users")
	case c.MaxClients > 0 && r.Clients >= c.MaxClients:
		fs.add("pool.reserve.clients", "%d leaves nothing of max_clients, %d, for others", r.Clients, c.MaxClients)
	}
	for name, d := range c.Databases {
		at := "databases." + name + ".warm"
		if name == "*" && len(d.Warm) > 0 {
			fs.add(at, "give it for a database by its name: \"*\" is any")
		}
		for _, user := range d.Warm {
			switch e, _ := c.Resolve(user, name); {
			case e.MinIdle == 0 && name != "*":
				fs.add(at, "there is nothing to open for %s: min_idle is 0; set pool.min_idle, or that of the database or the user", user)
			case !c.canWarm(user):
				fs.add(at, "%s needs a password that servers take before its first client comes: give users.%s.server_password, or a plain password", user, user)
			}
		}
	}
}

// canWarm reports whether connections for a user can log in before a client did.
func (c *Config) canWarm(user string) bool {
	u, given := c.Users[user]
	switch {
	case u.ServerPassword != "", given && u.Password != "" && !hashed(u.Password) && (u.ServerUser == "" || u.ServerUser == user):
		return true
	}
	return !c.Auth.NeedsSecrets() // the servers trust the proxy
}

// Privileged reports whether a user may have what is reserved.
func (r Reserve) Privileged(user string) bool { return slices.Contains(r.Users, user) }

// Demand compares what pools may open on a server with the slots it has for ordinary roles:
// in words, and whether all of them find one.
func (p Pool) Demand(s Server, slots int) (words string, fits bool) {
	switch most := s.Bound(p); {
	case most > slots:
		return fmt.Sprintf("max_server_connections is %d, but the server lets in %d: clients will wait for slots; lower the one or raise max_connections", most, slots), false
	case most > 0:
		return fmt.Sprintf("pools may open %d in all, and the server lets in %d", most-ownConnections, slots), true
	case p.Size+ownConnections > slots:
		return fmt.Sprintf("the pool of one user and database may have %d connections, but the server lets in %d: clients will wait for slots; lower pool.size or raise max_connections", p.Size, slots), false
	}
	pools := "1 full pool"
	if n := (slots - ownConnections) / p.Size; n > 1 {
		pools = fmt.Sprintf("%d full pools", n)
	}
	return fmt.Sprintf("the server lets in %d: room for %s (pool.size %d). To leave some to others set pool.max_server_connections", slots, pools, p.Size), true
}
