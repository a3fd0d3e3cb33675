package backend

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/pgweir/pgweir/config"
)

// TLS is whether and how connections to servers are encrypted: libpq's sslmode
// with its files read. It never changes, and nil means mode disable.
type TLS struct {
	mode string
	base *tls.Config
}

// LoadTLS reads the files c names. An empty mode is prefer.
//
// The modes are libpq's: with a CA file, require verifies the chain as verify-ca
// does. https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
func LoadTLS(c config.ServerTLS) (*TLS, error) {
	t := &TLS{mode: c.Mode, base: &tls.Config{MinVersion: tls.VersionTLS12}}
	switch c.Mode {
	case "disable":
		return nil, nil
	case "":
		t.mode = "prefer"
	case "allow", "prefer", "require", "verify-ca", "verify-full":
	default:
		return nil, fmt.Errorf("server TLS mode %q is unknown", c.Mode)
	}
	if err := t.loadCA(c.CAFile); err != nil {
		return nil, err
	}
	if c.CertFile != "" || c.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("server TLS client certificate: %w", err)
		}
		t.base.Certificates = []tls.Certificate{cert}
	}
	if t.mode != "verify-full" {
		// The names in the certificate do not count; the chain may, see verifyChain.
		t.base.InsecureSkipVerify = true
		if t.mode == "verify-ca" {
			t.base.VerifyConnection = verifyChain(t.base.RootCAs)
		}
	}
	return t, nil
}

func (t *TLS) loadCA(file string) error {
	if file == "" {
		// verify-ca and verify-full then trust the system's authorities.
		return nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("server TLS CA file: %w", err)
	}
	t.base.RootCAs = x509.NewCertPool()
	if !t.base.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("server TLS CA file %s: no certificate in it", file)
	}
	if t.mode == "require" {
		t.mode = "verify-ca"
	}
	return nil
}

// verifyChain returns the check that verify-ca asks for. VerifyConnection, unlike VerifyPeerCertificate, also
// runs when a session is resumed.
func verifyChain(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the server sent no certificate")
		}
		opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, cert := range s.PeerCertificates[1:] {
			opts.Intermediates.AddCert(cert)
		}
		_, err := s.PeerCertificates[0].Verify(opts)
		return err
	}
}

// attempt is one way to connect.
type attempt struct {
	tls *tls.Config // nil is plain
	// orPlain lets a server that has no TLS go on without it.
	orPlain bool
}

// attempts returns the ways to connect to a, whose certificate is for host, in order. Like
// libpq, Unix-domain sockets never use TLS.
func (t *TLS) attempts(a Address, host string) []attempt {
	if t == nil || a.Unix() {
		return []attempt{{}}
	}
	conf := t.base.Clone()
	// Verification wants the name or the IP address alike; SNI is sent for names only.
	conf.ServerName = host
	if t.mode != "verify-full" && net.ParseIP(host) != nil {
		conf.ServerName = ""
	}
	switch t.mode {
	case "allow":
		return []attempt{{}, {tls: conf}}
	case "prefer":
		return []attempt{{tls: conf, orPlain: true}, {}}
	}
	return []attempt{{tls: conf}}
}
