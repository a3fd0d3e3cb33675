// Package handover is how the processes of one service on one machine find each other, for
// a new one to take over from the one before, and to pass cancel requests on.
//
// Each process listens on a Unix-domain socket of its own, named after a common path. What
// is asked there is one byte, with what belongs to it behind:
//
//	asks                    answers
//	h                       h; there is a new process
//	c, length, request      y if the key of the cancel request is of a session here, else n
//	t                       s and the listeners (SCM_RIGHTS) if it serves, else x; b if it is being taken over
//	r, after s              d once it accepts nobody any more
//
// Both sides take nothing from a process of another user, but root.
package handover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	hello       = 'h'
	askCancel   = 'c'
	askTakeOver = 't'
	askRetire   = 'r'

	known   = 'y'
	unknown = 'n'
	serves  = 's'
	retired = 'x'
	busy    = 'b'
	done    = 'd'

	maxRequest   = 512
	maxListeners = 253 // SCM_MAX_FD
)

// Options is what a process does for others.
type Options struct {
	Path string
	// Listeners are what a successor inherits.
	Listeners func() []net.Listener
	// Beside is told whether there are other processes: of a new one before it serves
	// anybody, of the end of the last one within a moment.
	Beside func(others bool)
	// Retire ends the accepting of clients, for the process with that number takes over. It
	// returns when none is accepted any more.
	Retire func(successor int)
	// Cancel carries out a cancel request, without its length and code, if its key is of a
	// session here, which it reports.
	Cancel func(ctx context.Context, request []byte) (known bool)
}

// Process is this process as others find it. Safe for concurrent use.
type Process struct {
	o        Options
	own      string // its socket
	listener *net.UnixListener
	ctx      context.Context
	stop     context.CancelFunc
	serving  sync.WaitGroup

	successor sync.Mutex // held while a process takes over, and before Serve
	retired   bool       // protected by it

	mu     sync.Mutex // protects hellos, and is held while Beside is told
	hellos int
}

// Open makes this process known to others, as one that does not serve yet.
func Open(o Options) (*Process, error) {
	p := &Process{o: o, own: fmt.Sprintf("%s.%08x", o.Path, rand.Uint32())}
	var err error
	if p.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: p.own, Net: "unix"}); err != nil {
		return nil, err
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.successor.Lock()
	p.serving.Go(p.accept)
	p.look(func(ctx context.Context, socket string) bool { return ask(ctx, socket, []byte{hello}) == hello })
	p.serving.Go(p.watch)
	return p, nil
}

// Serve says that this process serves clients, from whom a new one may take over.
func (p *Process) Serve() { p.successor.Unlock() }

// Close ends it; what is under way is broken off.
func (p *Process) Close() {
	p.stop()
	_ = p.listener.Close()
	p.serving.Wait()
}

func (p *Process) accept() {
	for {
		conn, err := p.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, most likely
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-p.ctx.Done():
				return
			}
		}
		p.serving.Go(func() { p.serve(conn) })
	}
}

// serve answers one process.
func (p *Process) serve(conn *net.UnixConn) {
	defer conn.Close()
	defer context.AfterFunc(p.ctx, func() { _ = conn.Close() })()
	pid, err := peer(conn)
	if err != nil {
		return
	}
	var ask [1]byte
	if _, err := io.ReadFull(conn, ask[:]); err != nil {
		return
	}
	switch ask[0] {
	case hello:
		p.mu.Lock()
		p.hellos++
		p.o.Beside(true)
		p.mu.Unlock()
		_, _ = conn.Write([]byte{hello})
	case askCancel:
		p.serveCancel(conn)
	case askTakeOver:
		p.serveTakeOver(conn, pid)
	}
}

func (p *Process) serveCancel(conn *net.UnixConn) {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return
	}
	request := make([]byte, min(binary.BigEndian.Uint16(length[:]), maxRequest))
	if _, err := io.ReadFull(conn, request); err != nil {
		return
	}
	answer := byte(unknown)
	if p.o.Cancel(p.ctx, request) {
		answer = known
	}
	_, _ = conn.Write([]byte{answer})
}

func (p *Process) serveTakeOver(conn *net.UnixConn, pid int) {
	if !p.successor.TryLock() {
		_, _ = conn.Write([]byte{busy})
		return
	}
	defer p.successor.Unlock()
	if p.retired {
		_, _ = conn.Write([]byte{retired})
		return
	}
	if err := sendListeners(conn, p.o.Listeners()); err != nil {
		return
	}
	var ask [1]byte
	if _, err := io.ReadFull(conn, ask[:]); err != nil || ask[0] != askRetire {
		return // it has failed, and this process goes on
	}
	p.o.Retire(pid)
	p.retired = true
	_, _ = conn.Write([]byte{done})
}

// Cancel passes a cancel request to the other processes, and reports whether its key was of
// a session of one of them. It returns when that has dealt with it.
func (p *Process) Cancel(ctx context.Context, request []byte) (met bool) {
	if len(request) > maxRequest {
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	others := sockets(p.o.Path, p.own)
	answers := make(chan bool, len(others))
	for _, path := range others {
		go func() { answers <- askToCancel(ctx, path, request) }()
	}
	for range others {
		if <-answers {
			met = true
			cancel() // the others do not know it
		}
	}
	return met
}

// watchInterval is how often it is looked whether there are other processes.
const watchInterval = time.Second

// patience is how long another process may take to answer what costs it nothing.
const patience = 2 * time.Second

// watch notes the end of other processes.
func (p *Process) watch() {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.look(answers)
		case <-p.ctx.Done():
			return
		}
	}
}

// answers reports whether some process listens on a socket.
func answers(ctx context.Context, socket string) bool {
	conn, err := dial(ctx, socket)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// look tells whether there are other processes.
func (p *Process) look(there func(ctx context.Context, socket string) bool) {
	p.mu.Lock()
	before := p.hellos
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	others := false
	for _, socket := range sockets(p.o.Path, p.own) {
		others = there(ctx, socket) || others
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if others || p.hellos == before {
		p.o.Beside(others)
	}
}

// askToCancel asks one process.
func askToCancel(ctx context.Context, socket string, request []byte) bool {
	question := binary.BigEndian.AppendUint16([]byte{askCancel}, uint16(len(request)))
	return ask(ctx, socket, append(question, request...)) == known
}

// ask asks one process and returns its answer, 0 if there is none.
func ask(ctx context.Context, socket string, question []byte) (answer byte) {
	conn, err := dial(ctx, socket)
	if err != nil {
		return 0
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := conn.Write(question); err != nil {
		return 0
	}
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return 0
	}
	return b[0]
}

// sockets lists the sockets of the processes but one.
func sockets(path, but string) (others []string) {
	all, _ := filepath.Glob(filepath.Clean(path) + ".[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]")
	for _, s := range all {
		if s != but {
			others = append(others, s)
		}
	}
	return others
}

// dial connects to a process of this user. A socket where none answers is left over, and removed.
func dial(ctx context.Context, path string) (*net.UnixConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, unix.ECONNREFUSED) {
		_ = os.Remove(path)
	}
	if err != nil {
		return nil, err
	}
	u := conn.(*net.UnixConn)
	if _, err := peer(u); err != nil {
		_ = u.Close()
		return nil, err
	}
	return u, nil
}

// peer returns the number of the process at the other end, which must be this user's or root's.
func peer(conn *net.UnixConn) (pid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, err
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return 0, fmt.Errorf("process %d is of another user, %d", cred.Pid, cred.Uid)
	}
	return int(cred.Pid), nil
}
