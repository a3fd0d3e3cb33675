package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Ports used when an address names none.
const (
	ListenPort = 6432
	ServerPort = 5432
)

// maxName is the length of the longest name that DNS has (RFC 1035, section 3.1).
const maxName = 253

// SplitAddress turns an address of this package into what net.Dial and
// net.Listen take: "tcp" and host:port, or "unix" and the socket's path, which
// PostgreSQL derives from the directory and the port. defaultPort serves an
// address without one.
func SplitAddress(address string, defaultPort int) (network, target string, err error) {
	host, port, err := splitHostPort(address, defaultPort)
	if err != nil {
		return "", "", err
	}
	if strings.HasPrefix(host, "/") {
		path := filepath.Join(host, ".s.PGSQL."+port)
		// sun_path holds 108 bytes with its zero; Go's own message is a bare EINVAL.
		if len(path) > 107 {
			return "", "", fmt.Errorf("socket path %s is longer than 107 bytes", path)
		}
		return "unix", path, nil
	}
	return "tcp", net.JoinHostPort(host, port), nil
}

// portAlone is an address that lacks its host.
var portAlone = regexp.MustCompile(`^\d+$`)

// splitHostPort returns the host, or the absolute directory of a socket, and the port.
func splitHostPort(address string, defaultPort int) (host, port string, err error) {
	switch {
	case address == "":
		return "", "", errors.New("is empty")
	case strings.HasPrefix(address, "/"):
		host, port = address, ""
		if i := strings.LastIndexByte(address, ':'); i >= 0 {
			host, port = address[:i], address[i+1:]
			if port == "" {
				return "", "", fmt.Errorf("%q has no port behind its colon", address)
			}
		}
	case portAlone.MatchString(address):
		return "", "", fmt.Errorf("%q is a port alone; write the host before it, as in 127.0.0.1:%s", shorten(address), shorten(address))
	case !strings.Contains(address, ":") || net.ParseIP(address) != nil || strings.HasPrefix(address, "[") && strings.HasSuffix(address, "]"):
		host = strings.Trim(address, "[]")
	default:
		if host, port, err = net.SplitHostPort(address); err != nil {
			var ae *net.AddrError
			if errors.As(err, &ae) {
				return "", "", fmt.Errorf("%q: %s; want host:port, [ipv6]:port or /directory:port", shorten(address), ae.Err)
			}
			return "", "", err
		}
		if port == "" {
			return "", "", fmt.Errorf("%q has no port behind its colon", address)
		}
	}
	if port == "" {
		port = strconv.Itoa(defaultPort)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", "", fmt.Errorf("%q: port %q is not a number from 1 to 65535", shorten(address), shorten(port))
	}
	switch {
	case strings.ContainsAny(host, " \t\r\n"):
		return "", "", fmt.Errorf("%q holds a space", shorten(address))
	case len(host) > maxName && !strings.HasPrefix(host, "/"):
		return "", "", fmt.Errorf("%q is longer than the %d bytes of the longest name of a host", shorten(address), maxName)
	}
	return host, strconv.FormatUint(n, 10), nil
}

// complete gives an address its port; one that is no address stays as it is.
func complete(address string, defaultPort int) string {
	host, port, err := splitHostPort(address, defaultPort)
	switch {
	case err != nil:
		return address
	case strings.HasPrefix(host, "/"):
		return filepath.Clean(host) + ":" + port
	}
	return net.JoinHostPort(host, port)
}

// loopback reports whether only this machine can reach a listener on address.
func loopback(address string) bool {
	host, _, err := splitHostPort(address, ListenPort)
	if err != nil || strings.HasPrefix(host, "/") || host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
