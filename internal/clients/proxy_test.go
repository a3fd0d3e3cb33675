package clients

import (
	"os"
	"testing"

	"github.com/pgweir/pgweir/internal/pgtest"
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
	return cluster.Primary.Addr()
}
