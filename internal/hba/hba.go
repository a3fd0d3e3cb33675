// Package hba reads files of PostgreSQL's pg_hba.conf and pg_ident.conf formats, and says by
// which method a client must prove who it is: that of the first line that matches its kind of
// connection, its database, its user and its address. Nothing else is tried, whatever becomes
// of it.
//
// What is read never changes and may be used concurrently. Host names in the place of
// addresses are not served, nor methods that need PostgreSQL itself; a line with one is a
// fault that says so.
// https://www.postgresql.org/docs/current/auth-pg-hba-conf.html
package hba

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Methods that are served.
const (
	Trust    = "trust"
	Reject   = "reject"
	SCRAM    = "scram-sha-256"
	MD5      = "md5"
	Password = "password"
	Cert     = "cert"
	Peer     = "peer"
	LDAP     = "ldap"
)

var methods = []string{Trust, Reject, SCRAM, MD5, Password, Cert, Peer, LDAP}

// Fault is one thing wrong with a file.
type Fault struct {
	File string
	Line int // 0 for the whole file
	Text string
}

// String is the fault on one line.
func (f Fault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Text
	}
	return fmt.Sprintf("%s line %d: %s", f.File, f.Line, f.Text)
}

// Rule is one line.
type Rule struct {
	File string
	Line int
	Text string // as written, on one line

	Method string
	Map    string // of user names, empty for none
	// ClientCert is empty, verify-ca or verify-full: what the client's certificate must be
	// besides the method.
	ClientCert string
	ClientName string // CN or DN: what of a certificate is the system's name of the user
	LDAP       *Directory

	kind             string // local, host, hostssl, …
	databases, users []token
	networks         []netip.Prefix
	special          string // all, samehost or samenet, in place of networks
}

// String says where the line is and what it says. Of LDAP it shows no options: one is a password.
func (r *Rule) String() string {
	text := r.Text
	if r.LDAP != nil {
		text = text[:strings.Index(text, " "+LDAP)+len(LDAP)+1] + " …"
	}
	return fmt.Sprintf("%s line %d: %s", r.File, r.Line, text)
}

// Rules are the lines of a file in order.
type Rules []*Rule

// Connection is what lines are compared with.
type Connection struct {
	User, Database string
	Physical       bool // replication without a database
	Local          bool // over a Unix-domain socket
	Encrypted      bool
	Address        netip.Addr // unless Local
	// MemberOf reports whether the user is a member of a role, directly or not. It is asked only
	// where a line makes a difference of it.
	MemberOf func(role string) (bool, error)
}

// Match is the first line that matches, nil if none does. The error is MemberOf's.
func (rules Rules) Match(c Connection) (*Rule, error) {
	for _, r := range rules {
		if !r.reaches(c) {
			continue
		}
		yes, err := r.database(c)
		if yes && err == nil {
			yes, err = matches(r.users, c, c.User)
		}
		if err != nil {
			return nil, fmt.Errorf("%s line %d: %w", r.File, r.Line, err)
		}
		if yes {
			return r, nil
		}
	}
	return nil, nil
}

// NeedsRoles reports whether some line asks who is a member of what.
func (rules Rules) NeedsRoles() bool {
	return slices.ContainsFunc(rules, func(r *Rule) bool {
		return slices.ContainsFunc(r.users, token.isRole) || slices.ContainsFunc(r.databases, token.isSameRole)
	})
}

// Uses reports whether a line has one of the methods.
func (rules Rules) Uses(methods ...string) bool {
	return slices.ContainsFunc(rules, func(r *Rule) bool { return slices.Contains(methods, r.Method) })
}

// NeedsCertificates reports whether some line asks for a client's certificate.
func (rules Rules) NeedsCertificates() bool {
	return slices.ContainsFunc(rules, func(r *Rule) bool { return r.Method == Cert || r.ClientCert != "" })
}

// NoMatch is what PostgreSQL says where no line matches.
func (c Connection) NoMatch() string {
	if c.Physical {
		return "no pg_hba.conf entry for replication connection from " + c.String()
	}
	return "no pg_hba.conf entry for " + c.String()
}

// Rejected is what PostgreSQL says where a line rejects.
func (c Connection) Rejected() string {
	if c.Physical {
		return "pg_hba.conf rejects replication connection for " + c.String()
	}
	return "pg_hba.conf rejects connection for " + c.String()
}

// String is the connection as PostgreSQL's messages put it.
func (c Connection) String() string {
	host, how := "[local]", "no encryption"
	if !c.Local {
		host = c.Address.String()
	}
	if c.Encrypted {
		how = "SSL encryption"
	}
	if c.Physical {
		return fmt.Sprintf("host %q, user %q, %s", host, c.User, how)
	}
	return fmt.Sprintf("host %q, user %q, database %q, %s", host, c.User, c.Database, how)
}

// reaches compares the kind of connection and the address.
func (r *Rule) reaches(c Connection) bool {
	if c.Local || r.kind == "local" {
		return c.Local && r.kind == "local"
	}
	switch r.kind {
	case "hostssl":
		if !c.Encrypted {
			return false
		}
	case "hostnossl":
		if c.Encrypted {
			return false
		}
	case "hostgssenc": // never spoken here
		return false
	}
	networks := r.networks
	switch r.special {
	case "all":
		return true
	case "samehost", "samenet":
		networks = own(r.special)
	}
	address := c.Address.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(address) })
}

// own are the addresses of this machine, or the networks it is in.
func own(which string) (out []netip.Prefix) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		bits, _ := n.Mask.Size()
		if which == "samehost" || bits > ip.BitLen() {
			bits = ip.BitLen()
		}
		out = append(out, netip.PrefixFrom(ip, bits).Masked())
	}
	return out
}

// database compares the database.
func (r *Rule) database(c Connection) (bool, error) {
	for _, t := range r.databases {
		switch {
		case c.Physical:
			if t.is("replication") {
				return true, nil
			}
		case t.is("all"), t.is("sameuser") && c.User == c.Database:
			return true, nil
		case t.is("sameuser"), t.is("replication"):
		case t.isSameRole():
			if yes, err := c.MemberOf(c.Database); yes || err != nil {
				return yes, err
			}
		case t.equals(c.Database):
			return true, nil
		}
	}
	return false, nil
}

// matches compares a user's name with a list of names, groups and expressions.
func matches(list []token, c Connection, name string) (bool, error) {
	for _, t := range list {
		switch {
		case t.isRole():
			if yes, err := c.MemberOf(t.text[1:]); yes || err != nil {
				return yes, err
			}
		case t.is("all"), t.equals(name):
			return true, nil
		}
	}
	return false, nil
}

// token is a word of a file.
type token struct {
	text    string
	quoted  bool // then it is no keyword
	pattern *regexp.Regexp
}

func (t token) is(keyword string) bool { return !t.quoted && t.text == keyword }
func (t token) isRole() bool           { return !t.quoted && len(t.text) > 1 && t.text[0] == '+' }
func (t token) isSameRole() bool       { return t.is("samerole") || t.is("samegroup") }

func (t token) equals(name string) bool {
	if t.pattern != nil {
		return t.pattern.MatchString(name)
	}
	return t.text == name
}
