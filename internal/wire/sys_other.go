//go:build !linux

package wire

import (
	"net"
	"syscall"
	"time"
)

// SetUserTimeout does nothing: only Linux has it.
func SetUserTimeout(*net.TCPConn, time.Duration) {}

func sysRead(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

func sysWrite(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Write(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

func sysPeek(fd uintptr) (closed, waiting bool) {
	var b [1]byte
	n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return false, true
	}
	return err != nil || n == 0, false
}

// sysGone looks whether the peer has closed; bytes to read before the end hide it.
func sysGone(fd uintptr) bool {
	closed, _ := sysPeek(fd)
	return closed
}
