package trial

import (
	"context"
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// within is a listener for clients in this process, which seem to come from an address.
type within struct {
	from     net.Addr
	arriving chan net.Conn
	closed   chan struct{}
}

func (w *within) Accept() (net.Conn, error) {
	select {
	case c := <-w.arriving:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

// Close may be called again.
func (w *within) Close() error {
	select {
	case <-w.closed:
	default:
		close(w.closed)
	}
	return nil
}

func (w *within) Addr() net.Addr { return &net.TCPAddr{} }

func (w *within) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	select {
	case w.arriving <- arrived{theirs, w.from}:
		return ours, nil
	case <-w.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = ours.Close()
	_ = theirs.Close()
	return nil, err
}

// socketPair is a connection within the process. Its ends need not be read for the other to be
// closed, as those of net.Pipe must under TLS.
func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		unix.CloseOnExec(fd)
		file := os.NewFile(uintptr(fd), "client")
		ends[i], err = net.FileConn(file)
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, nil, err
		}
	}
	return ends[0], ends[1], nil
}

// arrived is a connection that seems to come from an address.
type arrived struct {
	net.Conn
	from net.Addr
}

func (a arrived) RemoteAddr() net.Addr { return a.from }
func (a arrived) LocalAddr() net.Addr  { return &net.TCPAddr{} }
