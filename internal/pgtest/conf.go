package pgtest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// defaults are the settings of every server, for quick starts and small memory.
var defaults = map[string]string{
	"listen_addresses":          "127.0.0.1",
	"max_connections":           "300",
	"max_prepared_transactions": "20",
	"shared_buffers":            "32MB",
	"huge_pages":                "off",
	// Files in the data directory go with it; segments in /dev/shm would outlive a kill.
	"dynamic_shared_memory_type": "mmap",
	// Where a scan of a large table begins depends on what other scans of it reported last.
	"synchronize_seqscans":         "off",
	"fsync":                        "off",
	"full_page_writes":             "off",
	"jit":                          "off",
	"wal_level":                    "replica",
	"hot_standby":                  "on",
	"max_wal_senders":              "10",
	"wal_keep_size":                "128MB",
	"max_wal_size":                 "256MB",
	"wal_retrieve_retry_interval":  "100ms",
	"wal_receiver_status_interval": "1s",
	"password_encryption":          "scram-sha-256",
	"timezone":                     "UTC",
	"log_timezone":                 "UTC",
	"lc_messages":                  "C",
	"log_line_prefix":              "%m [%p] %q%u@%d ",
}

var defaultHBA = []string{
	"local all all trust",
	"local replication all trust",
	"host all all 127.0.0.1/32 trust",
	"host replication all 127.0.0.1/32 trust",
}

// configure writes the server's configuration files. With an upstream it is a replica.
func (s *Server) configure(upstream *Server) error {
	c := s.cluster
	conf := maps.Clone(defaults)
	conf["port"] = strconv.Itoa(s.Port)
	conf["unix_socket_directories"] = s.SocketDir
	conf["cluster_name"] = s.Name
	if c.opts.Sync {
		conf["synchronous_standby_names"] = "ANY 1 (*)"
	}
	if c.ca != nil {
		if err := c.ca.serverFiles(c.user, s.DataDir); err != nil {
			return err
		}
		conf["ssl"], conf["ssl_ca_file"] = "on", "root.crt"
	}
	if upstream != nil {
		conf["primary_conninfo"] = fmt.Sprintf("host=%s port=%d user=%s application_name=%s",
			quoteKeyword(upstream.SocketDir), upstream.Port, Superuser, s.Name)
		if err := c.user.writeFile(filepath.Join(s.DataDir, "standby.signal"), nil); err != nil {
			return err
		}
	}
	maps.Copy(conf, c.opts.Conf)
	return errors.Join(
		c.user.writeFile(filepath.Join(s.DataDir, "postgresql.conf"), confText(conf)),
		c.user.writeFile(filepath.Join(s.DataDir, "pg_hba.conf"), hbaText(c.opts.HBA)),
	)
}

func confText(conf map[string]string) []byte {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(conf)) {
		fmt.Fprintf(&b, "%s = '%s'\n", k, strings.ReplaceAll(conf[k], "'", "''"))
	}
	return []byte(b.String())
}

func hbaText(lines []string) []byte {
	if lines == nil {
		lines = defaultHBA
	}
	// Replication and this package itself use the socket as the superuser.
	own := []string{"local all " + Superuser + " trust", "local replication " + Superuser + " trust"}
	return []byte(strings.Join(append(own, lines...), "\n") + "\n")
}

// given are the ports that this process was given.
var given sync.Map

// freePort finds a port nothing listens on, below the range from which the kernel takes ports for
// outgoing connections: a server that is stopped and started again must find its port free. None
// is given twice: who asked for it may not listen yet.
func freePort() (int, error) {
	for range 100 {
		port := 10000 + rand.IntN(21000)
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		if _, taken := given.LoadOrStore(port, true); !taken {
			return port, l.Close()
		}
		_ = l.Close()
	}
	return 0, errors.New("no free port between 10000 and 31000 on 127.0.0.1")
}

// FreeAddress is a loopback address that nobody listens on, and nobody else in this process is given.
func FreeAddress(t testing.TB) string {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return loopback(port)
}
