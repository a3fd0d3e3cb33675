package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair makes a self-signed certificate and its key in dir.
func writePair(t *testing.T, dir, name string) {
	t.Helper()
	writePairUntil(t, dir, name, time.Now().Add(time.Hour))
}

func writePairUntil(t *testing.T, dir, name string, end time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: end.Add(-2 * time.Hour), NotAfter: end,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestExpired: a certificate that is none any more is warned of, for clients and for servers.
func TestExpired(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "good")
	writePairUntil(t, dir, "old", time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC))
	for name, want := range map[string]int{"good": 0, "old": 2} {
		text := fmt.Sprintf("servers: [db1, db2]\nauth: {method: trust}\ntls: {cert_file: %[1]s.pem, key_file: %[1]s.key}\nserver_tls: {cert_file: %[1]s.pem, key_file: %[1]s.key}\n", name)
		c, err := Parse(filepath.Join(dir, "pgweir.yaml"), []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		warnings := c.Warnings()
		for _, w := range warnings {
			if !strings.HasSuffix(w.Text, "has expired on 2020-01-02") {
				t.Errorf("warning %v", w)
			}
		}
		if len(warnings) != want {
			t.Errorf("%s: %d warnings, want %d", name, len(warnings), want)
		}
	}
}

// TestTLSFiles: relative paths start at the file's directory, a matching pair
// gives TLS its default mode, and another certificate's key is a fault.
func TestTLSFiles(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "a")
	writePair(t, dir, "b")
	parse := func(cert, key string) (Config, error) {
		text := fmt.Sprintf("servers: [db1]\ntls: {cert_file: %s, key_file: %s, ca_file: a.pem}\nserver_tls: {ca_file: b.pem}\n", cert, key)
		return Parse(filepath.Join(dir, "pgweir.yaml"), []byte(text), nil)
	}
	c, err := parse("a.pem", filepath.Join(dir, "a.key"))
	if err != nil {
		t.Fatal(err)
	}
	if c.TLS.Mode != "allow" || c.TLS.CertFile != filepath.Join(dir, "a.pem") {
		t.Errorf("TLS is %+v", c.TLS)
	}
	if _, err := parse("a.pem", "b.key"); err == nil || !strings.Contains(err.Error(), "private key does not match") {
		t.Errorf("another's key: %v", err)
	}
	if _, err := parse(`""`, "b.key"); err == nil || !strings.Contains(err.Error(), "tls.cert_file: key_file needs it") {
		t.Errorf("a key alone: %v", err)
	}
}

// TestUserFile: a line that is wrong is a warning with its number, and only a file that cannot
// be read a fault.
func TestUserFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.txt")
	const scram = "SCRAM-SHA-256$4096:c2FsdA==$aaaa:bbbb"
	for text, want := range map[string]string{
		"; comment\n# another\n\n\"a\" \"secret\"\n\"b \"\"c\"\"\" \"md5\" and more\n": "",
		"\"\" \"x\"\n": "line 1 lets nobody in: the name is empty",
		"\"a\" \"md5d41d8cd98f00b204e9800998ecf8427e\"\n":                                      "line 1 lets nobody in: is an md5 secret, which cannot serve",
		strings.Repeat("x", 70000):                                                             "line 1",
		"\n\"a\" \"SCRAM-SHA-256$1\"\n":                                                        "line 2",
		"\"a\" \"" + scram + "\"\n\"a\" \"plain\"\n\"a\" \"" + scram + "\"\n":                  "",
		"\"a\" \"" + scram + "\"\n\"a\" \"" + strings.Replace(scram, "c2F", "d2F", 1) + "\"\n": "line 2 lets nobody in: has another salt",
	} {
		write(t, path, text)
		faults, err := Auth{Method: "scram-sha-256", UserFile: path}.userFileFaults()
		if got := strings.Join(faults, "|"); err != nil || (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%.40q: %q, %v, want %q", text, got, err, want)
		}
	}
	if _, err := (Auth{UserFile: path + "x"}).userFileFaults(); err == nil {
		t.Error("no file is no error")
	}
}
