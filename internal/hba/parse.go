package hba

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Parse reads a file of the format of pg_hba.conf. With faults there are no rules.
func Parse(path string, read Read) (Rules, []Fault) {
	r := reader{read: read}
	r.file(path, 0)
	var rules Rules
	for _, l := range r.lines {
		rule, err := l.rule()
		if err != nil {
			r.fault(l.file, l.number, "%v", err)
			continue
		}
		rules = append(rules, rule)
	}
	if len(r.faults) > 0 {
		slices.SortStableFunc(r.faults, func(a, b Fault) int { return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) })
		return nil, r.faults
	}
	if len(rules) == 0 {
		return nil, []Fault{{File: path, Text: "no line: nobody could log in"}}
	}
	return rules, nil
}

var kinds = []string{"local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"}

// rule reads the fields of a line.
func (l line) rule() (*Rule, error) {
	r := &Rule{File: l.file, Line: l.number, Text: l.text, ClientName: "CN"}
	f := l.fields
	if len(f[0]) != 1 || !slices.Contains(kinds, f[0][0].text) {
		return nil, fmt.Errorf("a line begins with one of %s", strings.Join(kinds, ", "))
	}
	if r.kind = f[0][0].text; len(f) < 4 {
		return nil, fmt.Errorf("want %s", r.shape())
	}
	r.databases, r.users = f[1], f[2]
	f = f[3:]
	if r.kind != "local" {
		used, err := r.address(f)
		if err != nil {
			return nil, err
		}
		if f = f[used:]; len(f) == 0 {
			return nil, fmt.Errorf("want %s", r.shape())
		}
	}
	if len(f[0]) != 1 {
		return nil, fmt.Errorf("want one method")
	}
	if r.Method = f[0][0].text; r.Method == "ident" && r.kind == "local" {
		r.Method = Peer // as PostgreSQL takes it
	}
	return r, r.options(f[1:])
}

// shape is what a line of the kind looks like.
func (r *Rule) shape() string {
	if r.kind == "local" {
		return "local DATABASE USER METHOD [OPTIONS]"
	}
	return r.kind + " DATABASE USER ADDRESS METHOD [OPTIONS]"
}

// address reads an address, and tells how many fields it takes: a mask may be the second.
func (r *Rule) address(f [][]token) (used int, err error) {
	if len(f[0]) != 1 {
		return 0, fmt.Errorf("want one address")
	}
	text := f[0][0].text
	if slices.ContainsFunc([]string{"all", "samehost", "samenet"}, f[0][0].is) {
		r.special = text
		return 1, nil
	}
	if n, err := netip.ParsePrefix(text); err == nil {
		r.networks = []netip.Prefix{n.Masked()}
		return 1, nil
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		if strings.Contains(text, "/") {
			return 0, fmt.Errorf("%q is no network, as in 10.0.0.0/8", text)
		}
		return 0, fmt.Errorf("%q is a host name; those are not served: give the addresses", text)
	}
	if len(f) < 2 || len(f[1]) != 1 {
		return 0, fmt.Errorf("%s wants a mask: write %s/%d for it alone", text, text, ip.BitLen())
	}
	mask, err := netip.ParseAddr(f[1][0].text)
	if err != nil || mask.BitLen() != ip.BitLen() {
		return 0, fmt.Errorf("%s wants a mask: write %s/%d for it alone", text, text, ip.BitLen())
	}
	bits := 0
	for _, b := range mask.AsSlice() {
		for ; b&0x80 != 0; b <<= 1 {
			bits++
		}
	}
	n := netip.PrefixFrom(ip, bits)
	r.networks = []netip.Prefix{n.Masked()}
	return 2, nil
}

// options reads what stands behind the method, and whether both fit the line.
func (r *Rule) options(f [][]token) error {
	switch {
	case !slices.Contains(methods, r.Method):
		return fmt.Errorf("method %q is not served; there are %s", r.Method, strings.Join(methods, ", "))
	case r.Method == Peer && r.kind != "local":
		return fmt.Errorf("peer is for lines that begin with local")
	case r.Method == Cert && r.kind != "hostssl":
		return fmt.Errorf("cert is for lines that begin with hostssl")
	}
	ldap := map[string]string{}
	for _, field := range f {
		for _, t := range field {
			name, value, ok := strings.Cut(t.text, "=")
			if !ok {
				return fmt.Errorf("want name=value, found %q", t.text)
			}
			if r.Method == LDAP && strings.HasPrefix(name, "ldap") {
				ldap[name] = value
				continue
			}
			if err := r.option(name, value); err != nil {
				return err
			}
		}
	}
	if r.Method != LDAP {
		return nil
	}
	var err error
	r.LDAP, err = parseDirectory(ldap)
	return err
}

func (r *Rule) option(name, value string) error {
	switch {
	case name == "map" && (r.Method == Peer || r.Method == Cert || r.ClientCert == "verify-full"):
		r.Map = value
	case name == "clientname" && r.kind == "hostssl" && (value == "CN" || value == "DN"):
		r.ClientName = value
	case name == "clientcert" && r.kind == "hostssl" && r.Method != Cert && (value == "verify-ca" || value == "verify-full"):
		r.ClientCert = value
	case name == "clientcert" && r.Method == Cert && value == "verify-full":
	case name == "map", name == "clientname", name == "clientcert":
		return fmt.Errorf("%s=%s is nothing for method %s of %s", name, value, r.Method, r.kind)
	default:
		return fmt.Errorf("option %s is unknown", name)
	}
	return nil
}
