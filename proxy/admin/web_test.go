package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// users has one user, whose password is opensesame.
const users = "basic_auth_users: {ops: $2a$04$JoaHbaRzJ/qAXyl2zXrvTOP.wutCBw1BiYhkjOOb1wTR1tR4CB4EG}\n"

// certificate writes a certificate of 127.0.0.1 and its key into dir, and returns who trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	own := s.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: own.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key}} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

// With a file of users and TLS nothing is served without both, whatever the path; what the file says is followed
// from the next request on.
func TestWeb(t *testing.T) {
	dir := t.TempDir()
	trusted := certificate(t, dir)
	file := filepath.Join(dir, "web.yml")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n" + users)
	s, err := Start(Options{
		Address: "127.0.0.1:0", Web: file, Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil }, Profiles: true,
		Reload: func() error { return nil }, Insights: func(w io.Writer) error { return nil },
		Page: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }),
	})
	require.NoError(t, err)
	defer s.Close(context.Background())
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	get := func(path, password string) int {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, "https://"+s.Addr().String()+path, nil)
		require.NoError(t, err)
		r.SetBasicAuth("ops", password)
		resp, err := client.Do(r)
		require.NoError(t, err)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for path, status := range map[string]int{
		"/": 418, "/events": 418, "/metrics": 200, "/healthz": 200, "/readyz": 200, "/debug/pprof/": 200, "/insights": 403, "/reload": 405, "/none": 404, "/page.js": 418,
	} {
		require.Equal(t, http.StatusUnauthorized, get(path, "wrong"), path)
		require.Equal(t, status, get(path, "opensesame"), path)
	}
	plain, err := http.Get("http://" + s.Addr().String() + "/metrics")
	require.NoError(t, err)
	_ = plain.Body.Close()
	require.Equal(t, http.StatusBadRequest, plain.StatusCode)
	write("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n" + strings.ReplaceAll(users, "ops", "others"))
	require.Equal(t, http.StatusUnauthorized, get("/", "opensesame"))
}

// A file that is not in order is an error, which names it.
func TestFaultyWeb(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yml")
	for text, want := range map[string]string{
		"basic_auth_users: {ops: opensesame}\n":              "hashedSecret too short",
		"basic_auth_user: {}\n":                              "not found in type",
		"tls_server_config: {cert_file: none, key_file: no}": "no such file",
	} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := Start(Options{Address: "127.0.0.1:0", Web: file})
		require.ErrorContains(t, err, "http_web_config: "+file)
		require.ErrorContains(t, err, want)
	}
	require.ErrorIs(t, CheckWeb(filepath.Join(dir, "none")), os.ErrNotExist)
	require.NoError(t, CheckWeb(""))
}

// Without users the page is shown on the host itself only, and to no other site's script there.
func TestPrivate(t *testing.T) {
	dir := t.TempDir()
	identifying := filepath.Join(dir, "users.yml")
	require.NoError(t, os.WriteFile(identifying, []byte(users), 0o600))
	encrypting := filepath.Join(dir, "tls.yml")
	require.NoError(t, os.WriteFile(encrypting, []byte("tls_server_config: {cert_file: c, key_file: k}"), 0o600))
	for _, c := range []struct {
		file, from, host string
		want             int
	}{
		{"", "127.0.0.1:5", "localhost:9930", 200},
		{"", "[::1]:5", "[::1]:9930", 200},
		{"", "127.0.0.1:5", "10.0.0.1", 200},
		{"", "127.0.0.1:5", "attacker.example:9930", 421},
		{"", "127.0.0.1:5", "localhost.attacker.example", 421},
		{"", "10.0.0.9:5", "10.0.0.1:9930", 403},
		{encrypting, "10.0.0.9:5", "10.0.0.1:9930", 403},
		{identifying, "10.0.0.9:5", "weir.example:9930", 200},
		{filepath.Join(dir, "none"), "10.0.0.9:5", "10.0.0.1:9930", 403},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr, r.Host = c.from, c.host
		w := httptest.NewRecorder()
		private(c.file, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
		require.Equal(t, c.want, w.Code, "%+v", c)
	}
}
