package config

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Validate returns everything wrong with a complete configuration, files it
// names included, without lines: Parse adds those. It reads files and nothing
// else; no name is looked up and no server asked.
func (c *Config) Validate() Faults {
	var fs Faults
	c.checkListen(&fs)
	c.checkPeers(&fs)
	c.checkClusters(&fs)
	c.checkDatabases(&fs)
	c.checkUsers(&fs)
	c.checkAuth(&fs)
	c.checkTLS(&fs)
	c.checkPool(&fs)
	c.checkSlots(&fs)
	c.checkRouting(&fs)
	checkSettingNames(&fs, "settings.track", c.Settings.Track)
	checkSettingNames(&fs, "settings.assert", c.Settings.Assert)
	c.Tenant.check(&fs)
	c.Insight.check(&fs)
	c.Upgrade.check(&fs)
	c.checkConsole(&fs)
	return fs.sorted()
}

func (c *Config) checkListen(fs *Faults) {
	if len(c.Listen) == 0 {
		fs.add("listen", "no address; clients could not connect")
	}
	seen := map[string]string{}
	for i, a := range c.Listen {
		at := fmt.Sprintf("listen[%d]", i)
		network, target, err := SplitAddress(a, ListenPort)
		if err != nil {
			fs.add(at, "%s", err)
			continue
		}
		if seen[target] != "" {
			fs.add(at, "%s is given twice", a)
		}
		seen[target] = network
	}
	if c.HTTP == "" {
		return
	}
	host, port, err := splitHostPort(c.HTTP, 0)
	switch {
	case err != nil:
		fs.add("http", "%s", err)
	case strings.HasPrefix(host, "/"):
		fs.add("http", "must be host:port")
	case seen[net.JoinHostPort(host, port)] != "":
		fs.add("http", "%s is also a listen address", c.HTTP)
	}
}

func (c *Config) checkPeers(fs *Faults) {
	for i, a := range c.Peers {
		at := fmt.Sprintf("peers[%d]", i)
		if network, _, err := SplitAddress(a, ListenPort); err != nil {
			fs.add(at, "%s", err)
		} else if network != "tcp" {
			fs.add(at, "%s is no host:port", a)
		}
	}
}

func (c *Config) checkClusters(fs *Faults) {
	if len(c.Clusters) == 0 {
		fs.add("servers", "no server; give the list of their addresses, or where to find them: dns, patroni or kubernetes")
	}
	listens := map[string]bool{}
	for _, a := range c.Listen {
		listens[a] = true
	}
	seen := map[string]string{}
	for _, name := range c.ClusterNames() {
		cl, at := c.Clusters[name], "clusters."+name
		cl.checkSource(fs, at)
		for i, s := range cl.Servers {
			checkServer(fs, serverPath(name, i), s, seen, listens)
		}
		checkServerTLS(fs, at+".tls", cl.TLS)
		if cl.Service.User == "" && cl.Service.Password != "" {
			fs.add(at+".service.password", "a password without service.user")
		}
	}
}

// serverPath is where the i-th server of a cluster stands.
func serverPath(cluster string, i int) string {
	return fmt.Sprintf("clusters.%s.servers[%d]", cluster, i)
}

func checkServer(fs *Faults, at string, s Server, seen map[string]string, listens map[string]bool) {
	host, _, err := splitHostPort(s.Address, ServerPort)
	if err == nil {
		_, _, err = SplitAddress(s.Address, ServerPort)
	}
	switch {
	case err != nil:
		fs.add(at+".address", "%s", err)
	case host == "":
		fs.add(at+".address", "%q has no host", s.Address)
	case listens[s.Address]:
		fs.add(at+".address", "%s is where pgweir itself listens", s.Address)
	case seen[s.Address] != "":
		fs.add(at+".address", "%s is already %s", s.Address, seen[s.Address])
	default:
		seen[s.Address] = at
	}
	if s.Weight < 0 {
		fs.add(at+".weight", "must not be negative")
	}
}

func (c *Config) checkDatabases(fs *Faults) {
	if len(c.Databases) == 0 && len(c.Clusters) > 1 {
		fs.add("databases", "with %d clusters, say which database is on which; \"*\" stands for all others", len(c.Clusters))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Databases)) {
		d, at := c.Databases[name], "databases."+name
		_, known := c.Clusters[d.Cluster]
		switch {
		case d.Cluster == "" && len(c.Clusters) > 1:
			fs.add(at+".cluster", "name one of the clusters: %s", strings.Join(c.ClusterNames(), ", "))
		case d.Cluster != "" && !known:
			fs.add(at+".cluster", "no cluster %q; there is %s", d.Cluster, strings.Join(c.ClusterNames(), ", "))
		}
		c.checkServerLogin(fs, at, d)
		c.checkLimits(fs, at, d.PoolSize, d.MaxServerConnections)
		checkMinIdle(fs, at, d.MinIdle, cmp.Or(d.PoolSize, c.Pool.Size))
	}
}

// checkServerLogin takes how a database logs in, and what finds its clients' secrets.
func (c *Config) checkServerLogin(fs *Faults, at string, d Database) {
	if d.ServerPassword != "" && d.ServerUser == "" {
		fs.add(at+".server_password", "needs server_user, whose password it is")
	}
	if hashed(d.ServerPassword) {
		fs.add(at+".server_password", "must be plain: it is sent to the servers")
	}
	if d.AuthQuery != "" {
		c.checkQuery(fs, at+".auth_query", d.AuthQuery, d.Cluster)
	}
}

// checkQuery takes a query for secrets on a cluster; an empty name is all of them.
func (c *Config) checkQuery(fs *Faults, at, query, cluster string) {
	if !strings.Contains(query, "$1") {
		fs.add(at, "must use $1, the user's name")
	}
	for _, name := range c.ClusterNames() {
		if (cluster == "" || name == cluster) && c.Clusters[name].Service.User == "" {
			fs.add(at, "needs service.user in cluster %s", name)
		}
	}
}

// checkLimits takes the limits a database or a user may have.
func (c *Config) checkLimits(fs *Faults, at string, size, connections int) {
	if size > 0 && connections > 0 && size > connections {
		fs.add(at+".pool_size", "%d is more than max_server_connections, %d", size, connections)
	}
}

func checkMinIdle(fs *Faults, at string, idle, size int) {
	if idle > size {
		fs.add(at+".min_idle", "%d is more than the pool's size, %d", idle, size)
	}
}

func (c *Config) checkUsers(fs *Faults) {
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		u, at := c.Users[name], "users."+name
		if err := c.Auth.checkSecret(u.Password); err != nil {
			fs.add(at+".password", "%s", err)
		}
		if len(u.OldPasswords) > 0 && u.Password == "" {
			fs.add(at+".old_passwords", "needs password, which logs in to the servers")
		}
		for i, old := range u.OldPasswords {
			err := c.Auth.checkSecret(old)
			if err == nil {
				err = sameSalt(append([]string{u.Password}, u.OldPasswords[:i]...), old)
			}
			if err != nil {
				fs.add(fmt.Sprintf("%s.old_passwords[%d]", at, i), "%s", err)
			}
		}
		if hashed(u.ServerPassword) {
			fs.add(at+".server_password", "must be plain: it is sent to the servers")
		}
		c.checkLimits(fs, at, u.PoolSize, u.MaxServerConnections)
		if u.PoolSize > 0 { // else it depends on the database
			checkMinIdle(fs, at, u.MinIdle, u.PoolSize)
		}
	}
}

var (
	md5Secret   = regexp.MustCompile(`^md5[0-9a-f]{32}$`)
	scramSecret = regexp.MustCompile(`^SCRAM-SHA-256\$\d+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$`)
)

func hashed(secret string) bool {
	return md5Secret.MatchString(secret) || scramSecret.MatchString(secret)
}

// checkSecret says whether clients can log in with a secret by the method.
func (a Auth) checkSecret(secret string) error {
	switch {
	case strings.HasPrefix(secret, "SCRAM-SHA-256$") && !scramSecret.MatchString(secret):
		return fmt.Errorf("is not a whole SCRAM secret; copy it as pg_authid shows it")
	case a.Method == "scram-sha-256" && md5Secret.MatchString(secret):
		return fmt.Errorf("is an md5 secret, which cannot serve auth.method scram-sha-256; give a SCRAM or plain one, or use method md5")
	}
	return nil
}

func (c *Config) checkAuth(fs *Faults) {
	a := c.Auth
	encrypted := c.TLS.Mode == "require" || c.TLS.Mode == "verify-client"
	switch {
	case a.Method == "":
		fs.add("auth.method", "must not be empty")
	case a.HBAFile != "":
		c.checkHBA(fs)
	case a.Method == "password" && !encrypted && !a.AllowPlainPassword:
		fs.add("auth.method", "password sends secrets in clear; set tls.mode to require, or auth.allow_plain_password")
	case a.Method == "cert" && c.TLS.Mode != "verify-client":
		fs.add("auth.method", "cert needs tls.mode verify-client")
	}
	if a.Query != "" {
		c.checkQuery(fs, "auth.query", a.Query, "")
	}
	if a.IdentFile != "" && a.HBAFile == "" {
		fs.add("auth.ident_file", "needs auth.hba_file, whose maps it has")
	}
	checkCertificates(fs, "auth.ldap_ca_file", a.LDAPCAFile)
	if a.Timeout <= 0 {
		fs.add("auth.timeout", "must be more than 0")
	}
	if a.UserFile != "" {
		if _, err := a.userFileFaults(); err != nil {
			fs.add("auth.user_file", "%s", err)
		}
	}
}

func (c *Config) checkPool(fs *Faults) {
	p := c.Pool
	if p.Mode == "" {
		fs.add("pool.mode", "must be transaction or session")
	}
	if p.Size < 1 {
		fs.add("pool.size", "must be 1 or more, found %d", p.Size)
	} else if p.MinIdle > p.Size {
		fs.add("pool.min_idle", "%d is more than pool.size, %d", p.MinIdle, p.Size)
	}
	if p.ConnectTimeout <= 0 {
		fs.add("pool.connect_timeout", "must be more than 0")
	}
	if p.MaxStatements < 1 {
		fs.add("pool.max_statements", "must be 1 or more, found %d", p.MaxStatements)
	}
}

func (c *Config) checkRouting(fs *Faults) {
	r := c.Routing
	if r.Route == "" || r.PrimaryReads == "" || r.Consistency == "" {
		fs.add("routing", "route, primary_reads and consistency must not be empty")
	}
	if r.MonitorInterval < 10*time.Millisecond {
		fs.add("routing.monitor_interval", "must be 10ms or more")
	}
	if r.DiscoveryInterval < 100*time.Millisecond {
		fs.add("routing.discovery_interval", "must be 100ms or more")
	}
	if r.SlowAfter < 10*time.Millisecond {
		fs.add("routing.slow_after", "must be 10ms or more")
	}
	if r.PlanCache < 1<<20 {
		fs.add("routing.plan_cache", "must be 1MiB or more")
	}
	for i, f := range r.UnsafeFunctions {
		if slices.Contains(r.SafeFunctions, f) {
			fs.add(fmt.Sprintf("routing.unsafe_functions[%d]", i), "%q is also in safe_functions", f)
		}
	}
	for i, rule := range r.Rules {
		rule.check(fs, fmt.Sprintf("routing.rules[%d]", i))
	}
}

func (r Rule) check(fs *Faults, at string) {
	if r.Route == "" && r.Consistency == "" {
		fs.add(at, "a rule needs route: primary, replica or auto; or consistency")
	}
	if r == (Rule{Route: r.Route, Consistency: r.Consistency}) {
		fs.add(at, "a rule needs a condition; for everything, set routing.route or routing.consistency")
	}
	if _, err := regexp.Compile(r.Pattern); err != nil {
		fs.add(at+".pattern", "%s", err)
	}
}

// customName is a custom setting: valid identifiers with a dot between them.
// https://www.postgresql.org/docs/current/runtime-config-custom.html
var customName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)+$`)

func checkSettingNames(fs *Faults, at string, names []string) {
	for i, n := range names {
		where := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case !customName.MatchString(n):
			fs.add(where, "%q is no custom setting; such names have a dot, as in app.current_org_id", n)
		case strings.HasPrefix(strings.ToLower(n), "pgweir."):
			fs.add(where, "%q is a setting of pgweir itself", n)
		case slices.Contains(names[:i], n):
			fs.add(where, "%q is given twice", n)
		}
	}
}
