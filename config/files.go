package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/internal/userlist"
)

func (c *Config) checkTLS(fs *Faults) {
	t := c.TLS
	if t.Mode != "disable" && t.CertFile == "" {
		fs.add("tls.mode", "%s needs tls.cert_file and tls.key_file", t.Mode)
	}
	checkPair(fs, "tls", t.CertFile, t.KeyFile)
	if t.Mode == "verify-client" && t.CAFile == "" {
		fs.add("tls.ca_file", "verify-client needs the authorities client certificates are checked against")
	}
	checkAuthorities(fs, "tls", t.CAFile)
}

func checkServerTLS(fs *Faults, at string, t ServerTLS) {
	checkPair(fs, at, t.CertFile, t.KeyFile)
	checkAuthorities(fs, at, t.CAFile)
}

// checkPair tries a certificate with its key.
func checkPair(fs *Faults, at, cert, key string) {
	switch {
	case cert == "" && key == "":
		return
	case key == "":
		fs.add(at+".key_file", "cert_file needs it")
		return
	case cert == "":
		fs.add(at+".cert_file", "key_file needs it")
		return
	}
	certPEM, err := readSmall(cert)
	if err != nil {
		fs.add(at+".cert_file", "%s", err)
	}
	keyPEM, keyErr := readSmall(key)
	if keyErr != nil {
		fs.add(at+".key_file", "%s", keyErr)
	}
	if err != nil || keyErr != nil {
		return
	}
	if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
		fs.add(at+".cert_file", "%s with %s: %s", cert, key, err)
	}
}

func checkAuthorities(fs *Faults, at, file string) { checkCertificates(fs, at+".ca_file", file) }

// checkCertificates takes a file of certificates, of which there may be none.
func checkCertificates(fs *Faults, key, file string) {
	if file == "" {
		return
	}
	pem, err := readSmall(file)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s holds no certificate in PEM", file)
	}
	if err != nil {
		fs.add(key, "%s", err)
	}
}

// userFileFaults are the lines of the user file by which nobody can log in; the error is why
// it cannot be read at all.
func (a Auth) userFileFaults() (faults []string, err error) {
	data, err := readSmall(a.UserFile)
	if err != nil {
		return nil, err
	}
	entries, bad := userlist.Parse(string(data))
	secrets := map[string][]string{}
	for _, e := range entries {
		err := a.checkSecret(e.Secret)
		if err == nil {
			err = sameSalt(secrets[e.Name], e.Secret)
		}
		if err != nil {
			bad = append(bad, userlist.Bad{Line: e.Line, Name: e.Name, Why: err})
			continue
		}
		secrets[e.Name] = append(secrets[e.Name], e.Secret)
	}
	slices.SortFunc(bad, func(a, b userlist.Bad) int { return a.Line - b.Line })
	for _, b := range bad {
		faults = append(faults, fmt.Sprintf("%s line %d lets nobody in: %v", a.UserFile, b.Line, b.Why))
	}
	return faults, nil
}

// sameSalt says whether a secret can serve beside those before it: a client is told the salt
// before it proves anything.
func sameSalt(before []string, secret string) error {
	salt := func(s string) string {
		iterations, _, _ := strings.Cut(strings.TrimPrefix(s, "SCRAM-SHA-256$"), "$")
		return iterations
	}
	if !scramSecret.MatchString(secret) {
		return nil
	}
	for _, b := range before {
		if scramSecret.MatchString(b) && salt(b) != salt(secret) {
			return errors.New("has another salt than the user's SCRAM secret before it, so that no client can use it; give the plain password")
		}
	}
	return nil
}
