package config

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"
)

// Warnings are what works but is likely not meant, in a valid configuration.
func (c *Config) Warnings() []Fault {
	var fs Faults
	for i, a := range c.Listen {
		at := fmt.Sprintf("listen[%d]", i)
		switch {
		case loopback(a):
		case c.Auth.HBAFile != "":
		case c.Auth.Method == "trust":
			fs.add(at, "%s can be reached from other machines and auth.method trust asks for no password", a)
		case c.Auth.Method == "password" && c.TLS.Mode != "require" && c.TLS.Mode != "verify-client":
			fs.add(at, "%s can be reached from other machines and passwords arrive there in clear", a)
		}
	}
	if fault, closed := c.Closed(); closed {
		fs = append(fs, fault)
	}
	if c.Auth.UserFile != "" {
		faults, _ := c.Auth.userFileFaults() // what cannot be read is no warning
		for _, fault := range faults {
			fs.add("auth.user_file", "%s", fault)
		}
		if info, err := os.Stat(c.Auth.UserFile); err == nil && info.Mode().Perm()&0o004 != 0 {
			fs.add("auth.user_file", "%s can be read by every user of this machine", c.Auth.UserFile)
		}
	}
	if c.Auth.HBAFile != "" {
		c.hbaWarnings(&fs)
	}
	for _, cert := range c.Certificates() { // expired, they are refused by the other side
		if time.Now().After(cert.Expires) {
			fs.add(cert.Key, "%s has expired on %s", cert.File, cert.Expires.Format(time.DateOnly))
		}
	}
	for _, name := range c.ClusterNames() {
		if len(c.Clusters[name].Servers) == 1 {
			fs.add("clusters."+name+".servers", "one server only: there is no replica to read from")
		}
	}
	if c.Tenant.Audited() && len(c.Tenant.Settings) == 0 {
		fs.add("tenant.settings", "none is given: every statement without a tenant filter counts as sent without a tenant")
	}
	if names := c.ClusterNames(); len(names) == 1 && names[0] == shortCluster {
		for i := range fs {
			fs[i].Path = unmoved(fs[i].Path)
		}
	}
	return fs
}

// Certificate is one that pgweir shows to others.
type Certificate struct {
	Key, File string // where it is configured, and its file
	Expires   time.Time
}

// Certificates are those of the configuration as their files are now, but for what cannot be read.
func (c Config) Certificates() (all []Certificate) {
	add := func(key, file string) {
		if file == "" {
			return
		}
		data, _ := readSmall(file)
		block, _ := pem.Decode(data)
		if block == nil {
			return
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, Certificate{key, file, cert.NotAfter})
		}
	}
	add("tls.cert_file", c.TLS.CertFile)
	for _, name := range c.ClusterNames() {
		cl := c.Clusters[name]
		add("clusters."+name+".tls.cert_file", cl.TLS.CertFile)
		add("clusters."+name+".patroni.cert_file", cl.Patroni.CertFile)
	}
	return all
}

// Closed reports whether nobody at all could log in, and says so: a file in which nothing is
// wrong, and which is of no use.
func (c *Config) Closed() (Fault, bool) {
	return Fault{Path: "auth", Text: "nobody can log in: give a service account (service.user), users, or auth.user_file"}, !c.canLogIn()
}

// canLogIn reports whether the method can find a secret for anybody.
func (c *Config) canLogIn() bool {
	return !c.Auth.NeedsSecrets() || c.Auth.HBAFile != "" || c.Auth.UserFile != "" || slices.ContainsFunc(c.ClusterNames(), func(name string) bool { return len(c.AuthQueries(name)) > 0 }) ||
		slices.ContainsFunc(slices.Collect(maps.Values(c.Users)), func(u User) bool { return u.Password != "" })
}
