package config

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
)

// Sources tell which servers a cluster has; one of them is given besides Flavour.
type Sources struct {
	Servers []Server `yaml:"servers"`
	// DNS are names with ports, every address of which is one server.
	DNS        Addresses  `yaml:"dns" reload:"restart"`
	Patroni    Patroni    `yaml:"patroni" reload:"restart"`
	Kubernetes Kubernetes `yaml:"kubernetes" reload:"restart"`
	// Flavour is what answers: auto asks, aurora is Amazon's.
	Flavour string `yaml:"flavour" enum:"auto,aurora" reload:"restart"`
}

// Patroni is where to ask Patroni for the members of its cluster.
// https://patroni.readthedocs.io/en/latest/rest_api.html#monitoring-endpoint
type Patroni struct {
	// URLs are the REST APIs of members, such as http://10.0.0.1:8008. One that answers
	// is enough.
	URLs []string `yaml:"urls"`
	// CAFile holds the authorities that https is checked against; the system's by default.
	CAFile   string `yaml:"ca_file" file:"true"`
	CertFile string `yaml:"cert_file" file:"true"`
	KeyFile  string `yaml:"key_file" file:"true"`
}

// Kubernetes is which Services' EndpointSlices list the servers.
// https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
type Kubernetes struct {
	// Services are their names; together they hold every server of the cluster.
	Services []string `yaml:"services"`
	// Namespace is theirs; empty is the pod's own.
	Namespace string `yaml:"namespace"`
	// Port is the name or number of the endpoints' port; empty is the only one.
	Port string `yaml:"port"`
	// API is the URL of the API server; empty is the one every pod is told of. TokenFile
	// and CAFile are the service account's by default.
	API       string `yaml:"api"`
	TokenFile string `yaml:"token_file" file:"true"`
	CAFile    string `yaml:"ca_file" file:"true"`
}

// Whereabouts says in a line where the servers are.
func (c Sources) Whereabouts() string {
	switch {
	case len(c.DNS) > 0:
		return "every address of " + strings.Join(c.DNS, ", ")
	case len(c.Patroni.URLs) > 0:
		return "members that Patroni knows at " + strings.Join(c.Patroni.URLs, ", ")
	case len(c.Kubernetes.Services) > 0:
		return "endpoints of the services " + strings.Join(c.Kubernetes.Services, ", ")
	}
	var addresses []string
	for _, s := range c.Servers {
		addresses = append(addresses, s.Address)
	}
	return strings.Join(addresses, ", ")
}

// checkSource takes the one way by which a cluster's servers are told.
func (c Sources) checkSource(fs *Faults, at string) {
	var given []string
	for _, s := range []struct {
		key string
		on  bool
	}{
		{"servers", len(c.Servers) > 0}, {"dns", len(c.DNS) > 0},
		{"patroni", c.Patroni.given()}, {"kubernetes", c.Kubernetes.given()},
	} {
		if s.on {
			given = append(given, s.key)
		}
	}
	switch {
	case len(given) == 0:
		fs.add(at+".servers", "no server; give the list of their addresses, or where to find them: dns, patroni or kubernetes")
	case len(given) > 1:
		fs.add(at+"."+given[1], "the servers are told by %s already; keep one of %s", given[0], strings.Join(given, ", "))
	}
	for i, name := range c.DNS {
		where := fmt.Sprintf("%s.dns[%d]", at, i)
		if host, _, err := splitHostPort(name, ServerPort); err != nil {
			fs.add(where, "%s", err)
		} else if host == "" || strings.HasPrefix(host, "/") {
			fs.add(where, "%q is no name with addresses", name)
		}
	}
	c.Patroni.check(fs, at+".patroni")
	c.Kubernetes.check(fs, at+".kubernetes")
}

// given reports whether anything is said of it, if only what is not enough.
func (p Patroni) given() bool { return !reflect.ValueOf(p).IsZero() }

func (p Patroni) check(fs *Faults, at string) {
	if p.given() && len(p.URLs) == 0 {
		fs.add(at+".urls", "give the URL of one member at least, such as http://10.0.0.1:8008")
	}
	for i, u := range p.URLs {
		checkURL(fs, fmt.Sprintf("%s.urls[%d]", at, i), u)
	}
	checkPair(fs, at, p.CertFile, p.KeyFile)
	checkAuthorities(fs, at, p.CAFile)
}

// given is as for Patroni.
func (k Kubernetes) given() bool { return !reflect.ValueOf(k).IsZero() }

func (k Kubernetes) check(fs *Faults, at string) {
	if k.given() && len(k.Services) == 0 {
		fs.add(at+".services", "name one Service at least")
	}
	for i, name := range k.Services {
		if name == "" || strings.ContainsAny(name, "./,= ") {
			fs.add(fmt.Sprintf("%s.services[%d]", at, i), "%q is no Service's name; its namespace goes into namespace", name)
		}
	}
	if k.API != "" {
		checkURL(fs, at+".api", k.API)
	}
	if k.TokenFile != "" {
		if _, err := readSmall(k.TokenFile); err != nil {
			fs.add(at+".token_file", "%s", err)
		}
	}
	checkAuthorities(fs, at, k.CAFile)
}

func checkURL(fs *Faults, at, text string) {
	if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		fs.add(at, "%q is no URL such as https://host:port", text)
	}
}
