package auth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/scram"
	"github.com/pgweir/pgweir/internal/wire"
)

// scramSecret is what PostgreSQL would store.
func scramSecret(t testing.TB, password string) string {
	t.Helper()
	keys, err := scram.Derive(sha256.New, password, []byte("0123456789abcdef"), 4096)
	if err != nil {
		t.Fatal(err)
	}
	return keys.Secret()
}

// testUsers has one user of each kind of secret; all passwords are "secret".
func testUsers(t testing.TB) map[string]config.User {
	return map[string]config.User{
		"plain":  {Password: "secret"},
		"hashed": {Password: "md5" + hexMD5("secrethashed")},
		"scram":  {Password: scramSecret(t, "secret")},
		"accent": {Password: "p\u00e4ss\u00a0\u2167w\u00adort"},
		"limits": {PoolSize: 3}, // no secret
	}
}

func testTLS(t testing.TB, mode string) (*TLS, *authority) {
	t.Helper()
	a := newAuthority(t, "test authority")
	cert, key := a.server(t)
	conf, err := LoadTLS(config.ClientTLS{Mode: mode, CertFile: cert, KeyFile: key, CAFile: a.ca()})
	if err != nil {
		t.Fatal(err)
	}
	return conf, a
}

func TestMethods(t *testing.T) {
	conf, _ := testTLS(t, "allow")
	const plain, secured, bound = "sslmode=disable", "sslmode=require", "sslmode=require channel_binding=require"
	type login struct{ user, password, options, want, secret string }
	for method, logins := range map[string][]login{
		"scram-sha-256": {
			{"plain", "secret", plain, "ok", "password"},
			{"plain", "secret", secured, "ok", "password"},
			{"plain", "secret", bound, "ok", "password"},
			{"scram", "secret", plain, "ok", "keys"},
			{"scram", "secret", bound, "ok", "keys"},
			{"scram", "secret", "sslmode=require channel_binding=disable", "ok", "keys"},
			{"accent", "pa\u0308ss VIIIwort", plain, "ok", "password"},
			{"plain", "wrong", plain, "28P01", ""},
			{"scram", "wrong", secured, "28P01", ""},
			{"hashed", "secret", plain, "28P01", ""}, // an md5 hash cannot serve SCRAM
			{"unknown", "secret", plain, "28P01", ""},
			{"unknown", "secret", bound, "28P01", ""},
			{"limits", "secret", plain, "28P01", ""},
		},
		"md5": {
			{"plain", "secret", plain, "ok", "password"},
			{"hashed", "secret", plain, "ok", "md5"},
			{"scram", "secret", bound, "ok", "keys"}, // upgraded to SCRAM
			{"plain", "wrong", plain, "28P01", ""},
			{"hashed", "wrong", plain, "28P01", ""},
			{"scram", "wrong", plain, "28P01", ""},
			{"unknown", "secret", plain, "28P01", ""},
		},
		"password": {
			{"plain", "secret", secured, "ok", "password"},
			{"hashed", "secret", secured, "ok", "password"},
			{"scram", "secret", secured, "ok", "password keys"},
			{"accent", "p\u00e4ss VIIIwort", secured, "ok", "password"},
			{"plain", "wrong", secured, "28P01", ""},
			{"hashed", "wrong", secured, "28P01", ""},
			{"scram", "wrong", secured, "28P01", ""},
			{"unknown", "secret", secured, "28P01", ""},
			{"plain", "", secured, "28P01", ""},
			{"plain", "secret", plain, "28000", ""},
		},
		"trust": {
			{"plain", "", plain, "ok", "password"},
			{"hashed", "", plain, "ok", "md5"},
			{"scram", "", plain, "ok", ""},
			{"unknown", "", plain, "ok", ""},
		},
	} {
		v := mustNew(t, config.Auth{Method: method}, testUsers(t), conf, nil)
		f := newFront(t, v, conf)
		for _, l := range logins {
			t.Run(method+" "+l.user+" "+l.password+" "+l.options, func(t *testing.T) {
				err := f.connect(t, l.user, l.password, l.options)
				if got := code(err); got != l.want {
					t.Fatalf("got %s (%v), want %s", got, err, l.want)
				}
				if err != nil {
					return
				}
				id := f.last(t)
				if got := kinds(id.Secret); id.User != l.user || got != l.secret {
					t.Errorf("identity %s with %q, want %s with %q", id.User, got, l.user, l.secret)
				}
			})
		}
	}
}

// kinds names what a secret holds.
func kinds(s Secret) string {
	var have []string
	if s.Password != "" {
		have = append(have, "password")
	}
	if s.Keys.ClientKey != nil {
		have = append(have, "keys")
	}
	if s.MD5 != "" {
		have = append(have, "md5")
	}
	return strings.Join(have, " ")
}

func TestPlainPasswordWithoutTLS(t *testing.T) {
	v := mustNew(t, config.Auth{Method: "password", AllowPlainPassword: true}, testUsers(t), nil, nil)
	if err := newFront(t, v, nil).connect(t, "plain", "secret", "sslmode=disable"); err != nil {
		t.Error(err)
	}
}

func TestCert(t *testing.T) {
	other := newAuthority(t, "another authority")
	for _, mode := range []string{"allow", "verify-client"} {
		conf, a := testTLS(t, mode)
		v := mustNew(t, config.Auth{Method: "cert"}, testUsers(t), conf, nil)
		f := newFront(t, v, conf)
		cert, key := a.client(t, "plain")
		with := "sslmode=require sslcert=" + cert + " sslkey=" + key
		if err := f.connect(t, "plain", "", with); err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		if got := f.last(t).Secret.Password; got != "secret" {
			t.Errorf("%s: the configured secret is not passed on", mode)
		}
		if err := f.connect(t, "scram", "", with); code(err) != "28000" {
			t.Errorf("%s: the certificate of another user: %v", mode, err)
		}
		cert, key = other.client(t, "plain")
		if err := f.connect(t, "plain", "", "sslmode=require sslcert="+cert+" sslkey="+key); err == nil {
			t.Errorf("%s: a certificate of another authority is accepted", mode)
		}
		if mode == "allow" {
			for _, options := range []string{"sslmode=disable", "sslmode=require"} {
				if err := f.connect(t, "plain", "", options); code(err) != "28000" {
					t.Errorf("%s, no certificate: %v", options, err)
				}
			}
		} else if err := f.connect(t, "plain", "", "sslmode=require"); err == nil {
			t.Error("verify-client: accepted without a certificate")
		}
	}
}

func TestCertificateThatBindsNothing(t *testing.T) {
	cert, key := selfSignedEd25519(t)
	conf, err := LoadTLS(config.ClientTLS{CertFile: cert, KeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(t, mustNew(t, config.Auth{}, testUsers(t), conf, nil), conf)
	if err := f.connect(t, "scram", "secret", "sslmode=require"); err != nil {
		t.Error(err)
	}
}

func TestDirectTLS(t *testing.T) {
	conf, _ := testTLS(t, "require")
	if !conf.Required() || conf.Config().MinVersion != tls.VersionTLS12 {
		t.Error("TLS is not as configured")
	}
	for _, protocols := range [][]string{nil, {"postgresql"}} {
		client, server := net.Pipe()
		go func() {
			_ = tls.Client(client, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}).HandshakeContext(testContext(t))
			_, _ = io.Copy(io.Discard, client)
		}()
		secured := tls.Server(server, conf.Config())
		if err := secured.HandshakeContext(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if err := conf.CheckDirect(secured.ConnectionState()); (err == nil) != (protocols != nil) {
			t.Errorf("%v: %v", protocols, err)
		}
		server.Close()
		client.Close()
	}
}

func TestNewFaults(t *testing.T) {
	for _, c := range []struct {
		cfg   config.Auth
		users map[string]config.User
	}{
		{cfg: config.Auth{Method: "ldap"}},
		{cfg: config.Auth{Method: "cert"}},
		{cfg: config.Auth{UserFile: "/nonexistent/users"}},
		{users: map[string]config.User{"u": {Password: "SCRAM-SHA-256$nonsense"}}},
	} {
		if _, err := New(c.cfg, c.users, nil, Servers{}); err == nil {
			t.Errorf("%+v is accepted", c.cfg)
		}
	}
	for _, c := range []config.ClientTLS{
		{Mode: "sometimes"}, {Mode: "allow"}, {Mode: "verify-client", CertFile: "x"}, {Mode: "require", MinVersion: "2"},
	} {
		if conf, err := LoadTLS(c); err == nil || conf != nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	if conf, err := LoadTLS(config.ClientTLS{}); conf != nil || err != nil || conf.Required() || conf.Config() != nil {
		t.Errorf("no TLS is %v, %v", conf, err)
	}
}

func TestTheCallerLearnsWhy(t *testing.T) {
	v := mustNew(t, config.Auth{Method: "password", AllowPlainPassword: true}, testUsers(t), nil, nil)
	_, err := v.Authenticate(context.Background(), Client{User: "unknown", Database: "d", Address: ""}, password("x"))
	var toClient *wire.Error
	if !errors.As(err, &toClient) || strings.Contains(toClient.Message, "no such user") || !strings.Contains(err.Error(), "no such user") {
		t.Errorf("error %v", err)
	}
	if toClient.Severity != "FATAL" || toClient.Message != `password authentication failed for user "unknown"` {
		t.Errorf("the client is told %+v", toClient)
	}
}

func TestRedacted(t *testing.T) {
	keys, err := scram.Derive(sha256.New, "hunter2", []byte("salt"), 1)
	if err != nil {
		t.Fatal(err)
	}
	if !(Secret{}).IsZero() || (Secret{Keys: keys}).IsZero() {
		t.Error("IsZero")
	}
	keys.ClientKey = nil
	if !(Secret{Keys: keys}).IsZero() {
		t.Error("keys that cannot log in are something")
	}
	id := Identity{User: "u", Secret: Secret{Password: "hunter2", MD5: "md5hunter2", Keys: keys}}
	s, err := parseStored("hunter2")
	if err != nil {
		t.Fatal(err)
	}
	js, err := json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(js), fmt.Sprintf("%v %+v %#v %s", id, id, id, id.Secret), fmt.Sprintf("%v %+v %#v", s, s, s), fmt.Sprintf("%+v", answer{stored: s})} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("a secret is shown: %s", text)
		}
	}
}

// TestCertificateByRule: lines of a file ask for certificates, beside another method or alone,
// and map their names.
func TestCertificateByRule(t *testing.T) {
	conf, a := testTLS(t, "allow")
	dir := t.TempDir()
	hbaFile, ident := filepath.Join(dir, "hba"), filepath.Join(dir, "ident")
	writeFile(t, hbaFile, `
hostssl d plain all cert
hostssl d scram all cert map=m
hostssl d md5   all cert map=dn clientname=DN
hostssl d both  all scram-sha-256 clientcert=verify-full
hostssl d any   all trust clientcert=verify-ca
hostnossl d any all trust
`)
	writeFile(t, ident, "m  /^(.*)-app$  \\1\ndn CN=admin md5\n")
	users := testUsers(t)
	users["both"] = config.User{Password: "secret"}
	f := newFront(t, mustNew(t, config.Auth{HBAFile: hbaFile, IdentFile: ident}, users, conf, nil), conf)
	with := func(name string) string {
		cert, key := a.client(t, name)
		return "sslmode=require sslcert=" + cert + " sslkey=" + key
	}
	for _, c := range []struct{ user, password, options, want string }{
		{"plain", "", with("plain"), "ok"},
		{"plain", "", with("other"), "28000"},
		{"plain", "", "sslmode=require", "28000"},
		{"plain", "", "sslmode=disable", "28000"},
		{"scram", "", with("scram-app"), "ok"},
		{"scram", "", with("scram"), "28000"},
		{"md5", "", with("admin"), "ok"},
		{"both", "secret", with("both"), "ok"},
		{"both", "wrong", with("both"), "28P01"},
		{"both", "secret", with("other"), "28000"},
		{"both", "secret", "sslmode=require", "28000"},
		{"any", "", with("whoever"), "ok"},
		{"any", "", "sslmode=require", "28000"},
		{"any", "", "sslmode=disable", "ok"},
	} {
		if got := code(f.connect(t, c.user, c.password, c.options)); got != c.want {
			t.Errorf("%s with %q: %s, want %s", c.user, c.options, got, c.want)
		}
	}
	for _, file := range []string{"hostssl all all all cert map=none\n", "host all all example.com trust\n"} {
		writeFile(t, hbaFile, file)
		if _, err := New(config.Auth{HBAFile: hbaFile, IdentFile: ident}, nil, conf, Servers{}); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%s: %v", file, err)
		}
	}
}
