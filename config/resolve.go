package config

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// shortCluster is the name of the cluster the short forms make.
const shortCluster = "default"

// DefaultAuthQuery finds a user's secret as a superuser, or as a member of a
// role that may read pg_shadow. A password that has expired is not found.
const DefaultAuthQuery = `SELECT usename, passwd FROM pg_catalog.pg_shadow
 WHERE usename = $1 AND (valuntil IS NULL OR valuntil > now())`

// Complete returns c with everything filled in that follows from other keys:
// the short forms become Clusters["default"], addresses get their port, and
// tls.mode, auth.query and a service account's database their defaults. c is not
// changed, and completing twice changes nothing more.
func (c Config) Complete() Config {
	c.Clusters = completeClusters(c)
	c.dropShort()
	c.Listen = slices.Clone(c.Listen)
	for i, a := range c.Listen {
		c.Listen[i] = complete(a, ListenPort)
	}
	c.Peers = slices.Clone(c.Peers)
	for i, a := range c.Peers {
		c.Peers[i] = complete(a, ListenPort)
	}
	if len(c.Peers) > 0 {
		c.Routing.SoleWriter = false
	}
	if c.TLS.Mode == "" {
		c.TLS.Mode = "disable"
		if c.TLS.CertFile != "" {
			c.TLS.Mode = "allow"
		}
	}
	if c.Auth.Query == "" && c.Auth.NeedsSecrets() && c.hasService() {
		c.Auth.Query = DefaultAuthQuery
	}
	return c
}

// short is the single cluster that the short forms describe.
func (c Config) short() Cluster {
	return Cluster{c.Sources, c.ServerTLS, c.Service}
}

func (c *Config) dropShort() {
	c.Sources, c.ServerTLS, c.Service = Sources{}, ServerTLS{}, Service{}
}

// told reports whether it is said where the servers are.
func (c Cluster) told() bool {
	return len(c.Servers)+len(c.DNS) > 0 || c.Patroni.given() || c.Kubernetes.given()
}

func completeClusters(c Config) map[string]Cluster {
	clusters := maps.Clone(c.Clusters)
	if short := c.short(); clusters == nil && short.told() {
		clusters = map[string]Cluster{shortCluster: short}
	}
	for name, cl := range clusters {
		cl.Servers = slices.Clone(cl.Servers)
		for i := range cl.Servers {
			cl.Servers[i].Address = complete(cl.Servers[i].Address, ServerPort)
		}
		cl.DNS = slices.Clone(cl.DNS)
		for i, name := range cl.DNS {
			cl.DNS[i] = complete(name, ServerPort)
		}
		cl.Flavour = cmp.Or(cl.Flavour, "auto")
		cl.TLS.Mode = cmp.Or(cl.TLS.Mode, "prefer")
		cl.Service.Database = cmp.Or(cl.Service.Database, "postgres")
		clusters[name] = cl
	}
	return clusters
}

// hasService reports whether every cluster has a service account.
func (c *Config) hasService() bool {
	for _, cl := range c.Clusters {
		if cl.Service.User == "" {
			return false
		}
	}
	return len(c.Clusters) > 0
}

// NeedsSecrets reports whether a method may compare with a stored secret.
func (a Auth) NeedsSecrets() bool {
	return a.HBAFile != "" || a.Method != "trust" && a.Method != "cert"
}

// ClusterNames are the names of the clusters, sorted.
func (c *Config) ClusterNames() []string { return slices.Sorted(maps.Keys(c.Clusters)) }

// Effective is all that holds for one client: what the keys of its user, its
// database and the whole file come to. It is comparable.
type Effective struct {
	Cluster  string // a key of Clusters
	Database string // its name on the servers

	// ServerUser is the name to log in with on the servers. ServerPassword is its
	// secret; empty means the client's own.
	ServerUser     string
	ServerPassword string

	AuthQuery string // finds secrets of clients; empty for none

	PoolMode string // transaction or session
	PoolSize int    // connections to one server for this user and database
	MinIdle  int    // never more than PoolSize
	Warm     bool   // MinIdle connections are opened before the first client comes

	AcquireTimeout time.Duration // how long a statement waits for a connection; 0 is no bound
	Timeouts       Timeouts
	// Privileged is that it may have what is reserved.
	Privileged bool

	Route       string // auto, primary or replica; the session's own pgweir.route is stronger
	Consistency string // as routing.consistency; pgweir.consistency is stronger

	// Bounds on all clients, and on all connections to one server, of this
	// database and of this user; 0 is none.
	DatabaseClients, UserClients         int
	DatabaseConnections, UserConnections int
}

// Resolve says what holds for a client: the user's key if it has one, else the
// database's, else that of pool and routing. A database without an entry uses
// the entry "*"; with no entries at all every name means itself on the only
// cluster. ok is false for a database that is not there: clients get 3D000.
func (c *Config) Resolve(user, database string) (e Effective, ok bool) {
	d, ok := c.database(database)
	if !ok {
		return Effective{}, false
	}
	u := c.Users[user]
	e = Effective{
		Cluster:             d.Cluster,
		Database:            d.Name,
		AuthQuery:           cmp.Or(d.AuthQuery, c.Auth.Query),
		PoolMode:            cmp.Or(u.PoolMode, d.PoolMode, c.Pool.Mode),
		PoolSize:            cmp.Or(u.PoolSize, d.PoolSize, c.Pool.Size),
		Route:               cmp.Or(u.Route, d.Route, c.Routing.Route),
		Consistency:         cmp.Or(u.Consistency, d.Consistency, c.Routing.Consistency),
		DatabaseClients:     d.MaxClients,
		UserClients:         u.MaxClients,
		DatabaseConnections: d.MaxServerConnections,
		UserConnections:     u.MaxServerConnections,
	}
	e.MinIdle = min(cmp.Or(u.MinIdle, d.MinIdle, c.Pool.MinIdle), e.PoolSize)
	e.ServerUser, e.ServerPassword = u.ServerUser, u.ServerPassword
	if u.ServerUser == "" && u.ServerPassword == "" {
		e.ServerUser, e.ServerPassword = d.ServerUser, d.ServerPassword
	}
	e.ServerUser = cmp.Or(e.ServerUser, user)
	e.AcquireTimeout = max(cmp.Or(u.AcquireTimeout, d.AcquireTimeout, c.Pool.AcquireTimeout), 0)
	e.Timeouts = effective(u.Timeouts, d.Timeouts, c.Timeouts)
	e.Warm = slices.Contains(d.Warm, user)
	e.Privileged = c.Pool.Reserve.Privileged(user)
	return e, true
}

// AuthQueries are the queries that find secrets on a cluster, each once.
func (c *Config) AuthQueries(cluster string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(c.Databases)) {
		if d, _ := c.database(name); d.Cluster == cluster {
			all = append(all, cmp.Or(d.AuthQuery, c.Auth.Query))
		}
	}
	if len(all) == 0 {
		all = append(all, c.Auth.Query)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(q string) bool { return q == "" })
}

// RulesFor are the rules for a database as clients name it, in order. Rule.Database
// is empty in them; users and applications are left to look at.
func (c *Config) RulesFor(database string) []Rule {
	var rules []Rule
	for _, r := range c.Routing.Rules {
		if r.Database == "" || r.Database == database {
			r.Database = ""
			rules = append(rules, r)
		}
	}
	return rules
}

// database is the entry for a name with its cluster and server name filled in.
func (c *Config) database(name string) (Database, bool) {
	d, ok := c.Databases[name]
	if !ok {
		d, ok = c.Databases["*"]
	}
	if !ok && len(c.Databases) > 0 {
		return Database{}, false
	}
	if d.Cluster == "" {
		if len(c.Clusters) != 1 {
			return Database{}, false
		}
		d.Cluster = c.ClusterNames()[0]
	}
	d.Name = cmp.Or(d.Name, name)
	return d, true
}
