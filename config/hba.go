package config

import "github.com/pgweir/pgweir/internal/hba"

// checkHBA reads the files that say by which method clients prove who they are.
func (c *Config) checkHBA(fs *Faults) {
	rules, faults := hba.Parse(c.Auth.HBAFile, readSmall)
	for _, f := range faults {
		fs.add("auth.hba_file", "%s", f)
	}
	var maps hba.Maps
	if c.Auth.IdentFile != "" {
		var faults []hba.Fault
		maps, faults = hba.ParseMaps(c.Auth.IdentFile, readSmall)
		for _, f := range faults {
			fs.add("auth.ident_file", "%s", f)
		}
	}
	for _, f := range rules.Unknown(maps) {
		fs.add("auth.hba_file", "%s", f)
	}
	if rules.NeedsCertificates() && c.TLS.CAFile == "" {
		fs.add("auth.hba_file", "a line asks for client certificates, which need tls.ca_file")
	}
	for _, name := range c.ClusterNames() {
		if rules.NeedsRoles() && c.Clusters[name].Service.User == "" {
			fs.add("auth.hba_file", "a line asks who is a member of what, which needs service.user in cluster %s", name)
		}
	}
}

// hbaWarnings are lines that nobody can use.
func (c *Config) hbaWarnings(fs *Faults) {
	rules, _ := hba.Parse(c.Auth.HBAFile, readSmall) // faults are Validate's
	encrypted := c.TLS.Mode == "require" || c.TLS.Mode == "verify-client"
	if rules.Uses(hba.Password, hba.LDAP) && !encrypted && !c.Auth.AllowPlainPassword {
		fs.add("auth.hba_file", "methods password and ldap send secrets in clear and are refused over TCP without TLS; set tls.mode to require, or auth.allow_plain_password")
	}
}
