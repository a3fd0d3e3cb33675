package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Predecessor is a process that serves clients, to be taken over from.
type Predecessor struct {
	PID       int
	Listeners []net.Listener // of this process now too; they are the caller's to close
	conn      *net.UnixConn
}

// ErrBusy is that another process takes over at the moment.
var ErrBusy = errors.New("another process is taking over at the moment; start one at a time")

// Find finds the process that serves clients; nil if there is none. It goes on serving until
// Retire.
func Find(ctx context.Context, path string) (*Predecessor, error) {
	for _, socket := range sockets(path, "") {
		conn, err := dial(ctx, socket)
		if err != nil {
			continue // it has just ended, or is a stranger's
		}
		p, err := takeOver(ctx, conn)
		if p != nil {
			return p, nil
		}
		_ = conn.Close()
		if err != nil {
			return nil, fmt.Errorf("take over from %s: %w", socket, err)
		}
	}
	return nil, nil
}

// takeOver asks one process for its listeners; nil if it serves nobody new.
func takeOver(ctx context.Context, conn *net.UnixConn) (*Predecessor, error) {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	pid, err := peer(conn)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte{askTakeOver}); err != nil {
		return nil, nil
	}
	answer, listeners, err := receiveListeners(conn)
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, err
	case answer == serves:
		return &Predecessor{PID: pid, Listeners: listeners, conn: conn}, nil
	case answer == busy:
		return nil, ErrBusy
	}
	return nil, nil
}

// Retire has it accept no more clients, and returns when it does not.
func (p *Predecessor) Retire(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = p.conn.Close() })()
	if _, err := p.conn.Write([]byte{askRetire}); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(p.conn, answer[:]); err != nil {
		return err
	}
	return p.conn.Close()
}

// Leave lets it go on serving. After Retire it does nothing.
func (p *Predecessor) Leave() { _ = p.conn.Close() }

// sendListeners answers with the descriptors of listeners.
func sendListeners(conn *net.UnixConn, listeners []net.Listener) error {
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for _, l := range listeners {
		fd, err := duplicate(l)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	_, _, err := conn.WriteMsgUnix([]byte{serves}, unix.UnixRights(fds...), nil)
	return err
}

// duplicate returns a descriptor of a listener. It stays non-blocking, which both have in common.
func duplicate(l net.Listener) (fd int, err error) {
	s, ok := l.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("%s cannot be handed over", l.Addr())
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, err
	}
	if e := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return 0, e
	}
	return fd, err
}

// receiveListeners reads an answer and the listeners that come with it.
func receiveListeners(conn *net.UnixConn) (answer byte, listeners []net.Listener, err error) {
	var b [1]byte
	rights := make([]byte, unix.CmsgSpace(4*maxListeners))
	n, size, _, _, err := conn.ReadMsgUnix(b[:], rights)
	if err != nil {
		return 0, nil, err
	}
	if n == 0 {
		return 0, nil, io.EOF
	}
	messages, err := unix.ParseSocketControlMessage(rights[:size])
	if err != nil {
		return 0, nil, err
	}
	for i := range messages {
		fds, e := unix.ParseUnixRights(&messages[i])
		err = errors.Join(err, e)
		for _, fd := range fds {
			l, e := listener(fd)
			err = errors.Join(err, e)
			if e == nil {
				listeners = append(listeners, l)
			}
		}
	}
	if err != nil {
		for _, l := range listeners {
			_ = l.Close()
		}
		return 0, nil, err
	}
	return b[0], listeners, nil
}

func listener(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), "inherited")
	defer f.Close()
	return net.FileListener(f)
}
