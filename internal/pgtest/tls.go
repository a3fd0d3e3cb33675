package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs the certificates of one cluster.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// CA is the file of the authority that signed the servers' certificates, in PEM;
// "" without Options.TLS.
func (c *Cluster) CA() string {
	if c.ca == nil {
		return ""
	}
	return filepath.Join(c.ca.dir, "ca.crt")
}

// ClientCert makes a client certificate whose common name is name and returns the
// files of certificate and key. The servers accept it for "cert" lines of pg_hba.conf.
func (c *Cluster) ClientCert(name string) (certFile, keyFile string, err error) {
	return c.certificate("client-"+name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// ServerCert makes a server certificate for the given names and addresses, for
// instance for the proxy under test, and returns the files of certificate and key.
func (c *Cluster) ServerCert(hosts ...string) (certFile, keyFile string, err error) {
	return c.certificate("server-"+hosts[0], serverTemplate(hosts...))
}

func (c *Cluster) certificate(name string, template *x509.Certificate) (certFile, keyFile string, err error) {
	if c.ca == nil {
		return "", "", errors.New("the cluster was started without TLS")
	}
	cert, key, err := c.ca.sign(template)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(c.ca.dir, name+".crt"), filepath.Join(c.ca.dir, name+".key")
	return certFile, keyFile, errors.Join(os.WriteFile(certFile, cert, 0o644), os.WriteFile(keyFile, key, 0o600))
}

func serverTemplate(hosts ...string) *x509.Certificate {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: hosts[0]},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return t
}

func newAuthority(dir string) (*authority, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := stamp(&x509.Certificate{
		Subject:               pkix.Name{CommonName: "pgweir test authority"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	})
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir, cert: cert, key: key}
	return a, os.WriteFile(filepath.Join(dir, "ca.crt"), a.pem(), 0o644)
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// stamp fills in what every certificate has.
func stamp(t *x509.Certificate) *x509.Certificate {
	t.SerialNumber = big.NewInt(time.Now().UnixNano())
	t.NotBefore = time.Now().Add(-time.Hour)
	t.NotAfter = time.Now().Add(240 * time.Hour)
	t.KeyUsage |= x509.KeyUsageDigitalSignature
	return t
}

// sign returns a new certificate and its key in PEM.
func (a *authority) sign(t *x509.Certificate) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, stamp(t), a.cert, &private.PublicKey, a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign a certificate: %w", err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), nil
}

// serverFiles puts a certificate where PostgreSQL looks for it by default.
func (a *authority) serverFiles(user account, dataDir string) error {
	cert, key, err := a.sign(serverTemplate("127.0.0.1", "localhost"))
	if err != nil {
		return err
	}
	return errors.Join(
		user.writeFile(filepath.Join(dataDir, "server.crt"), cert),
		user.writeFile(filepath.Join(dataDir, "server.key"), key),
		user.writeFile(filepath.Join(dataDir, "root.crt"), a.pem()),
	)
}
