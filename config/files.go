package config

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

func (c Config) checkTLS(fs *Faults) {
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

func checkAuthorities(fs *Faults, at, file string) {
	if file == "" {
		return
	}
	pem, err := readSmall(file)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s holds no certificate in PEM", file)
	}
	if err != nil {
		fs.add(at+".ca_file", "%s", err)
	}
}

// userLine is one line of a userlist file: two quoted words, a quote doubled
// inside them, and whatever follows. Empty lines and those starting with ; or #
// are comments.
var userLine = regexp.MustCompile(`^\s*"((?:[^"]|"")*)"\s+"((?:[^"]|"")*)"`)

func (a Auth) checkUserFile() error {
	data, err := readSmall(a.UserFile)
	if err != nil {
		return err
	}
	in := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == ';' || line[0] == '#' {
			continue
		}
		m := userLine.FindStringSubmatch(line)
		if m == nil || m[1] == "" {
			return fmt.Errorf(`%s line %d: want "name" "secret"`, a.UserFile, n)
		}
		if err := a.checkSecret(strings.ReplaceAll(m[2], `""`, `"`)); err != nil {
			return fmt.Errorf("%s line %d: the secret of %q %w", a.UserFile, n, m[1], err)
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("%s holds a line of more than 64 KiB", a.UserFile)
	}
	return in.Err()
}
