package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/scram"
	"github.com/pgweir/pgweir/internal/wire"
)

// TLS is TLS towards clients, with its files read. It never changes: after a
// reload new connections use a new one, together with a new Verifier, and a client whose
// login is under way goes on with the two it began with. nil is no TLS; all methods
// work on nil.
type TLS struct {
	require  bool
	conf     *tls.Config
	endPoint []byte // channel binding data of the certificate
}

var tlsVersions = map[string]uint16{"": tls.VersionTLS12, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// LoadTLS reads the files c names; it returns nil for mode disable, which without a
// certificate is the default.
func LoadTLS(c config.ClientTLS) (*TLS, error) {
	mode := c.Mode
	if mode == "" {
		mode = "disable"
		if c.CertFile != "" {
			mode = "allow"
		}
	}
	t := &TLS{}
	auth := tls.NoClientCert
	if c.CAFile != "" {
		auth = tls.VerifyClientCertIfGiven
	}
	switch mode {
	case "disable":
		return nil, nil
	case "allow":
	case "require":
		t.require = true
	case "verify-client":
		t.require, auth = true, tls.RequireAndVerifyClientCert
		if c.CAFile == "" {
			return nil, errors.New("tls mode verify-client needs ca_file")
		}
	default:
		return nil, fmt.Errorf("tls mode %q is unknown", c.Mode)
	}
	version, ok := tlsVersions[c.MinVersion]
	if !ok {
		return nil, fmt.Errorf("tls min_version %q is unknown", c.MinVersion)
	}
	t.conf = &tls.Config{MinVersion: version, ClientAuth: auth, NextProtos: []string{alpn}}
	if err := t.loadFiles(c); err != nil {
		return nil, err
	}
	return t, nil
}

// alpn names the protocol in direct TLS.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
const alpn = "postgresql"

func (t *TLS) loadFiles(c config.ClientTLS) error {
	cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return fmt.Errorf("tls certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return fmt.Errorf("tls certificate %s: %w", c.CertFile, err)
	}
	t.conf.Certificates = []tls.Certificate{cert}
	t.endPoint = scram.EndPointData(leaf)
	if c.CAFile == "" {
		return nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return fmt.Errorf("tls ca_file: %w", err)
	}
	t.conf.ClientCAs = x509.NewCertPool()
	if !t.conf.ClientCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("tls ca_file %s: no certificate in it", c.CAFile)
	}
	return nil
}

// Config is for tls.Server; nil means to answer an SSLRequest with N. It must not be changed.
func (t *TLS) Config() *tls.Config {
	if t == nil {
		return nil
	}
	return t.conf
}

// Required reports whether a client over TCP must use TLS.
func (t *TLS) Required() bool { return t != nil && t.require }

// VerifiesClients reports whether client certificates are checked.
func (t *TLS) VerifiesClients() bool { return t != nil && t.conf.ClientCAs != nil }

// CheckDirect checks a connection that began with TLS and not with an SSLRequest: it
// must have agreed on the protocol, or another service's client could be led here.
func (t *TLS) CheckDirect(s tls.ConnectionState) error {
	if s.NegotiatedProtocol != alpn {
		return wire.Fatalf("08P01", "received direct SSL connection request without ALPN protocol negotiation extension")
	}
	return nil
}

// binding is the channel binding data to offer a client, nil for none.
func (t *TLS) binding(s *tls.ConnectionState) []byte {
	if t == nil || s == nil {
		return nil
	}
	return t.endPoint
}

// certificate checks the client's: who signed it, and unless that is all that is asked for,
// that its name is the user's, or mapped to it.
func (l *login) certificate() error {
	s := l.x.TLS()
	if s == nil || len(s.VerifiedChains) == 0 || len(s.PeerCertificates) == 0 {
		return wire.Fatalf("28000", "connection requires a valid client certificate")
	}
	if l.rule.ClientCert == "verify-ca" {
		return nil
	}
	subject := s.PeerCertificates[0].Subject
	name := subject.CommonName
	if l.rule.ClientName == "DN" {
		name = subject.String() // RFC 2253, as PostgreSQL has it
	}
	err := l.v.rules.mapped(l.ctx, l.rule, name, l.Client)
	if name == "" {
		err = errors.New("it has no name")
	}
	if err != nil {
		return fmt.Errorf("%w: the certificate: %w", wire.Fatalf("28000", "certificate authentication failed for user \"%s\"", l.User), err)
	}
	return nil
}
