package proxy

import (
	"errors"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// peerUser is the system's name of the user at the other end of a Unix-domain socket.
func peerUser(conn net.Conn) (string, error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return "", errors.ErrUnsupported
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return "", err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, failed); err != nil {
		return "", err
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(cred.Uid), 10))
	if err != nil {
		return "", err
	}
	return u.Username, nil
}
