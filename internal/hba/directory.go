package hba

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Directory is the LDAP server of a line and how it is asked.
// https://www.postgresql.org/docs/current/auth-ldap.html
type Directory struct {
	URLs     []string // ldap:// or ldaps://, tried in order
	StartTLS bool

	// Simple bind: the user's name stands between them.
	Prefix, Suffix string

	// Search and bind, if Base is not empty.
	Base                 string
	BindDN, BindPassword string // who searches; empty is nobody
	Attribute, Filter    string // Filter has $username where the user's name comes
	Scope                string // base, one or sub
}

// String shows no secret.
func (d *Directory) String() string { return strings.Join(d.URLs, " ") }

var directoryOptions = []string{
	"ldapserver", "ldapport", "ldapscheme", "ldaptls", "ldapprefix", "ldapsuffix", "ldapbasedn",
	"ldapbinddn", "ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter", "ldapurl",
}

// parseDirectory reads the options of a line and applies PostgreSQL's rules to them.
func parseDirectory(o map[string]string) (*Directory, error) {
	for name := range o {
		if !slices.Contains(directoryOptions, name) {
			return nil, fmt.Errorf("option %s is unknown", name)
		}
	}
	if err := splitURL(o); err != nil {
		return nil, err
	}
	d := &Directory{
		StartTLS: o["ldaptls"] == "1", Prefix: o["ldapprefix"], Suffix: o["ldapsuffix"],
		Base: o["ldapbasedn"], BindDN: o["ldapbinddn"], BindPassword: o["ldapbindpasswd"],
		Attribute: o["ldapsearchattribute"], Filter: o["ldapsearchfilter"], Scope: o["scope"],
	}
	scheme, port := o["ldapscheme"], o["ldapport"]
	if scheme == "" {
		scheme = "ldap"
	}
	if port == "" {
		port = map[string]string{"ldap": "389", "ldaps": "636"}[scheme]
	}
	for _, host := range strings.Fields(o["ldapserver"]) {
		d.URLs = append(d.URLs, scheme+"://"+strings.TrimSuffix(host, ":"+port)+":"+port)
	}
	search := d.Base != "" || d.BindDN != "" || d.BindPassword != "" || d.Attribute != "" || d.Filter != ""
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case scheme != "ldap" && scheme != "ldaps":
		return nil, fmt.Errorf("ldapscheme %q is neither ldap nor ldaps", scheme)
	case err != nil || n == 0:
		return nil, fmt.Errorf("ldapport %q is no port", port)
	case len(d.URLs) == 0:
		return nil, fmt.Errorf("ldap wants ldapserver or ldapurl")
	case (d.Prefix != "" || d.Suffix != "") && search:
		return nil, fmt.Errorf("ldapprefix and ldapsuffix do not go with what searches: ldapbasedn, ldapbinddn, ldapbindpasswd, ldapsearchattribute, ldapsearchfilter, ldapurl")
	case d.Prefix == "" && d.Suffix == "" && d.Base == "":
		return nil, fmt.Errorf("ldap wants ldapbasedn, ldapprefix or ldapsuffix")
	case d.Attribute != "" && d.Filter != "":
		return nil, fmt.Errorf("ldapsearchattribute and ldapsearchfilter do not go together")
	case d.StartTLS && scheme == "ldaps":
		return nil, fmt.Errorf("ldaptls and ldapscheme=ldaps do not go together")
	}
	if d.Filter == "" {
		attribute := d.Attribute
		if attribute == "" {
			attribute = "uid"
		}
		d.Filter = "(" + attribute + "=$username)"
	}
	return d, nil
}

// splitURL puts the parts of ldapurl (RFC 4516) in the place of the other options.
func splitURL(o map[string]string) error {
	o["scope"] = "sub"
	text := o["ldapurl"]
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" {
		return fmt.Errorf("ldapurl %q is no ldap:// or ldaps:// address", text)
	}
	o["ldapscheme"], o["ldapserver"], o["ldapport"] = u.Scheme, u.Hostname(), u.Port()
	o["ldapbasedn"] = strings.TrimPrefix(u.Path, "/")
	parts := strings.SplitN(u.RawQuery, "?", 4)
	for i, part := range parts {
		value, err := url.PathUnescape(part)
		switch {
		case err != nil:
			return fmt.Errorf("ldapurl: %w", err)
		case value == "":
		case i == 0:
			o["ldapsearchattribute"] = value
		case i == 1 && (value == "base" || value == "one" || value == "sub"):
			o["scope"] = value
		case i == 2:
			o["ldapsearchfilter"] = value
		default:
			return fmt.Errorf("ldapurl: %q is not understood", value)
		}
	}
	return nil
}
