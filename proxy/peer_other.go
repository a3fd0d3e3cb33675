//go:build !linux

package proxy

import (
	"errors"
	"net"
)

// peerUser is not known here.
func peerUser(net.Conn) (string, error) { return "", errors.ErrUnsupported }
