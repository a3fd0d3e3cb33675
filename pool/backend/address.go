package backend

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Address is where a server listens. It is comparable.
type Address struct {
	// Host is a name, an IP address without brackets, or the absolute path of the
	// directory that holds the Unix-domain socket.
	Host string
	Port uint16
}

// ParseAddress reads host:port, [IPv6]:port or /directory:port. A missing port is 5432.
func ParseAddress(s string) (Address, error) {
	host, port, err := splitAddress(s)
	if err != nil {
		return Address{}, fmt.Errorf("server address %q: %w", s, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return Address{}, fmt.Errorf("server address %q: the port must be 1 to 65535", s)
	}
	return Address{Host: host, Port: uint16(n)}, nil
}

func splitAddress(s string) (host, port string, err error) {
	const defaultPort = "5432"
	switch {
	case s == "":
		return "", "", errors.New("empty")
	case strings.HasPrefix(s, "/"):
		// A directory's name may hold a colon; only digits behind the last one are a port.
		dir, tail, ok := cutLast(s, ':')
		if !ok || strings.Contains(tail, "/") {
			return s, defaultPort, nil
		}
		return dir, tail, nil
	case strings.Count(s, ":") > 1 && net.ParseIP(strings.Trim(s, "[]")) != nil:
		return strings.Trim(s, "[]"), defaultPort, nil
	case !strings.Contains(s, ":"):
		return s, defaultPort, nil
	}
	host, port, err = net.SplitHostPort(s)
	if err == nil && host == "" {
		err = errors.New("no host")
	}
	return host, port, err
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// Unix reports whether a is a Unix-domain socket.
func (a Address) Unix() bool { return strings.HasPrefix(a.Host, "/") }

// Network returns a's network and address as package net wants them.
func (a Address) Network() (network, address string) { return pgconn.NetworkAddress(a.Host, a.Port) }

// String returns what ParseAddress reads.
func (a Address) String() string {
	if a.Unix() {
		return a.Host + ":" + strconv.Itoa(int(a.Port))
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}
