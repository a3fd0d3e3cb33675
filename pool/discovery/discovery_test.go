package discovery

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// addresses are those that a Source tells of, or its error.
func addresses(t *testing.T, s Source) (all []string, err error) {
	t.Helper()
	found, err := List(t.Context(), s)
	for _, m := range found.Members {
		all = append(all, m.Address)
	}
	return all, err
}

func TestDNS(t *testing.T) {
	known := map[string][]string{
		"both": {"10.0.0.2", "fd00::2", "::ffff:10.0.0.1"}, "six": {"fd00::1"}, "one": {"10.0.0.2"},
	}
	d := &dns{lookup: func(_ context.Context, _, host string) (found []netip.Addr, err error) {
		switch {
		case host == "broken":
			return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
		case known[host] == nil:
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		for _, a := range known[host] {
			found = append(found, netip.MustParseAddr(a))
		}
		return found, nil
	}}
	for _, c := range []struct {
		names []string
		want  []string
		fails string
	}{
		{names: []string{"both:5432"}, want: []string{"10.0.0.1:5432", "10.0.0.2:5432"}},
		{names: []string{"six:5432"}, want: []string{"[fd00::1]:5432"}},
		{names: []string{"both:5432", "one:5432", "one:5433"}, want: []string{"10.0.0.1:5432", "10.0.0.2:5432", "10.0.0.2:5433"}},
		{names: []string{"gone:5432", "one:5432"}, want: []string{"10.0.0.2:5432"}},
		{names: []string{"gone:5432"}, fails: "no such host"},
		{names: []string{"one:5432", "broken:5432"}, fails: "server misbehaving"},
	} {
		d.names = c.names
		got, err := addresses(t, d)
		if c.fails != "" {
			require.ErrorContains(t, err, c.fails, "%v", c.names)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%v", c.names)
	}
	d.names = []string{"one:5432"}
	found, err := List(t.Context(), d)
	require.NoError(t, err)
	require.Equal(t, "one", found.Members[0].TLSName, "a certificate is for the name")
}

// clusterAnswer is what Patroni 3 answers.
const clusterAnswer = `{"members": [
 {"name": "a", "role": "leader", "state": "running", "api_url": "%[1]s/patroni", "host": "10.0.0.1", "port": 5432, "timeline": 3},
 {"name": "b", "role": "sync_standby", "state": "streaming", "api_url": "%[1]s/patroni", "host": "10.0.0.2", "port": 5433, "timeline": 3, "lag": 0},
 {"name": "c", "role": "replica", "state": "starting", "host": "10.0.0.3", "port": 5432, "lag": "unknown", "tags": {"noloadbalance": true, "clonefrom": true}},
 {"name": "d", "role": "replica", "state": "creating replica"}],
 "scope": "demo"}`

func TestPatroni(t *testing.T) {
	var asked atomic.Int32
	var url string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/cluster" {
			t.Errorf("%s is asked", r.URL)
		}
		fmt.Fprintf(w, clusterAnswer, url)
	}))
	url = api.URL
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	wrong := httptest.NewServer(http.NotFoundHandler())
	defer wrong.Close()
	p, err := newPatroni(config.Patroni{URLs: []string{dead.URL, wrong.URL, api.URL + "/"}})
	require.NoError(t, err)
	found, err := List(t.Context(), p)
	require.NoError(t, err)
	require.Equal(t, Found{Primary: "10.0.0.1:5432", Members: []cluster.Member{
		{Address: "10.0.0.1:5432", Weight: 1}, {Address: "10.0.0.2:5433", Weight: 1}, {Address: "10.0.0.3:5432"},
	}}, found)
	// The members that were found are asked first: those configured may be gone.
	p.urls = []string{dead.URL}
	_, err = List(t.Context(), p)
	require.NoError(t, err)
	require.EqualValues(t, 2, asked.Load())
	api.Close()
	_, err = List(t.Context(), p)
	require.ErrorContains(t, err, "connection refused")
	p.urls, p.last = []string{wrong.URL}, nil
	_, err = List(t.Context(), p)
	require.ErrorContains(t, err, "404 Not Found")
}

// endpoints is what the API server answers; the last of the first slice's is about to end.
const endpoints = `{"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "items": [
 {"addressType": "IPv4", "ports": [{"name": "postgresql", "port": 5432, "protocol": "TCP"}, {"name": "metrics", "port": 9187}], "endpoints": [
  {"addresses": ["10.1.0.3"], "conditions": {"ready": true, "serving": true, "terminating": false}, "targetRef": {"kind": "Pod", "name": "pg-0"}},
  {"addresses": ["10.1.0.2"], "conditions": {}},
  {"addresses": ["10.1.0.9"], "conditions": {"ready": false}},
  {"addresses": ["10.1.0.8"], "conditions": {"ready": true, "serving": true, "terminating": true}}]},
 {"addressType": "IPv6", "ports": [{"name": "postgresql", "port": 5432}], "endpoints": [{"addresses": ["fd00::3"], "conditions": {"ready": true}}]}]}`

func TestKubernetes(t *testing.T) {
	dir := t.TempDir()
	tokenFile, caFile := filepath.Join(dir, "token"), filepath.Join(dir, "ca.crt")
	write := func(path, text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	write(tokenFile, "first\n")
	var token atomic.Value
	token.Store("first")
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer "+token.Load().(string):
			http.Error(w, `{"kind": "Status", "message": "Unauthorized"}`, http.StatusUnauthorized)
		case r.URL.Path != "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices":
			http.NotFound(w, r)
		case r.URL.Query().Get("labelSelector") == "kubernetes.io/service-name=pg":
			fmt.Fprint(w, endpoints)
		default:
			fmt.Fprint(w, `{"items": []}`)
		}
	}))
	defer api.Close()
	write(caFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})))
	with := func(change func(*config.Kubernetes)) Source {
		c := config.Kubernetes{Services: []string{"other", "pg"}, Namespace: "prod", Port: "postgresql", API: api.URL, TokenFile: tokenFile, CAFile: caFile}
		change(&c)
		k, err := newKubernetes(c)
		require.NoError(t, err)
		return k
	}
	same := func(*config.Kubernetes) {}
	want := []string{"10.1.0.2:5432", "10.1.0.3:5432"}
	got, err := addresses(t, with(same))
	require.NoError(t, err)
	require.Equal(t, want, got)
	found, _ := List(t.Context(), with(same))
	require.Equal(t, "pg.prod.svc", found.Members[0].TLSName)
	got, err = addresses(t, with(func(c *config.Kubernetes) { c.Port = "6000" }))
	require.NoError(t, err)
	require.Equal(t, []string{"10.1.0.2:6000", "10.1.0.3:6000"}, got)
	_, err = addresses(t, with(func(c *config.Kubernetes) { c.Port = "" }))
	require.ErrorContains(t, err, `service pg has the ports "postgresql", "metrics": say which in kubernetes.port`)
	_, err = addresses(t, with(func(c *config.Kubernetes) { c.CAFile = "" }))
	require.ErrorContains(t, err, "certificate")
	// Tokens are renewed in their file.
	k := with(same)
	token.Store("second")
	_, err = addresses(t, k)
	require.ErrorContains(t, err, "may not list endpointslices")
	write(tokenFile, "second")
	got, err = addresses(t, k)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// Outside a pod what it would be told must be given.
func TestKubernetesOutsideAPod(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := newKubernetes(config.Kubernetes{Services: []string{"pg"}})
	require.ErrorContains(t, err, "kubernetes.api is not given, and this is no pod")
	_, err = newKubernetes(config.Kubernetes{Services: []string{"pg"}, API: "http://127.0.0.1:1"})
	require.ErrorContains(t, err, "kubernetes.namespace is not given")
}

// An answer without end is not read to its end.
func TestEndlessAnswer(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, err := w.Write([]byte("[")); err == nil; _, err = w.Write([]byte(strings.Repeat(" ", 1<<20))) {
		}
	}))
	defer api.Close()
	p, err := newPatroni(config.Patroni{URLs: []string{api.URL}})
	require.NoError(t, err)
	_, err = List(t.Context(), p)
	require.Error(t, err)
	require.False(t, errors.Is(err, context.DeadlineExceeded), "%v", err)
}
