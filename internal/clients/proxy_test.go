package clients

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/serve"
)

// startProxy starts the proxy in front of a cluster for the length of a test, and
// returns the address (host:port) its clients connect to.
//
// PGWEIR_TEST_ADDR names a server to be used in place of it.
func startProxy(t *testing.T, cluster *pgtest.Cluster) (addr string) {
	t.Helper()
	if addr := os.Getenv("PGWEIR_TEST_ADDR"); addr != "" {
		return addr
	}
	return runProxy(t, cluster).Proxy.Addrs()[0].String()
}

// runProxy runs a proxy in front of a cluster for the length of a test.
func runProxy(t *testing.T, cluster *pgtest.Cluster, change ...func(*config.Config)) *serve.Running {
	t.Helper()
	cfg := config.Default()
	cfg.Listen = config.Addresses{freeAddress(t)}
	cfg.HTTP = ""
	cfg.Auth.Method = "trust"
	for _, s := range cluster.Servers() {
		cfg.Servers = append(cfg.Servers, config.Server{Address: s.Addr(), Weight: 1})
	}
	for _, f := range change {
		f(&cfg)
	}
	running, err := serve.Start(t.Context(), cfg.Complete(), zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)), serve.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := running.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return running
}

// freeAddress is a loopback address nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
