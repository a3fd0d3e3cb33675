package sim

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// window bounds the bytes of one direction that are on their way or arrived and not read:
// the two sockets' buffers of a connection.
const window = 32 << 10

// keepAlive is after how long a kernel finds out that a peer has fallen silent.
const keepAlive = time.Minute

// delays are how long bytes take.
type delays struct {
	least, most time.Duration
	stall       int // of 1,000 pieces: so many take up to stalled
	stalled     time.Duration
}

func (d delays) draw(r *rand.Rand) time.Duration {
	if d.stall > 0 && chance(r, d.stall) {
		return between(r, d.least, d.stalled)
	}
	return between(r, d.least, d.most)
}

// pipe is one direction of a connection. What is written is cut into pieces, each of which
// arrives some time later, in order. Safe for concurrent use.
type pipe struct {
	of      *link
	r       *rand.Rand
	delay   delays
	instant bool           // what is written arrives at once, whole
	passes  func(of piece) // told of what arrived; nil is nobody

	mu       sync.Mutex // protects the fields below
	cond     sync.Cond
	fault    due // none is the zero value
	flight   []piece
	last     time.Time // when the last piece arrives
	inflight int       // bytes
	arrived  []byte    // not read yet
	counted  int       // bytes that arrived in all
	eof      bool      // the writer's end arrived
	closed   bool      // the writer closed: nothing is written any more
	deaf     bool      // the reader closed
	silent   bool      // nothing arrives any more
	held     bool      // nothing arrives for now
	broken   error     // the connection was reset
	deadline [2]deadline
}

// piece is bytes on their way; nil are the writer's end.
type piece []byte

// due is a fault that happens after so many bytes that arrived.
type due struct {
	*Fault
	at int
}

// deadline is that of reads (0) or writes (1).
type deadline struct {
	timer  *time.Timer
	passed bool
}

func newPipe(of *link, r *rand.Rand, d delays) *pipe {
	p := &pipe{of: of, r: r, delay: d}
	p.cond.L = &p.mu
	return p
}

var (
	errReset = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	errPipe  = &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}
	errShut  = &net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}
	errLate  = &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
)

// write sends all of b, waiting while the window is full.
func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) > 0 {
		switch {
		case p.closed:
			return n, errShut
		case p.broken != nil:
			return n, errPipe
		case p.deadline[1].passed:
			return n, errLate
		}
		// Small room is none, or bytes would go one by one from then on: RFC 1122, 4.2.3.3.
		room := window - p.inflight - len(p.arrived)
		if room < min(len(b), window/4) {
			p.cond.Wait()
			continue
		}
		size := min(len(b), room)
		if size > 1 && !p.instant && chance(p.r, 250) {
			size = 1 + p.r.IntN(size)
		}
		p.sendLocked(append(piece(nil), b[:size]...))
		b, n = b[size:], n+size
	}
	return n, nil
}

// sendLocked puts a piece on its way.
func (p *pipe) sendLocked(of piece) {
	if p.instant {
		p.arrived, p.eof = append(p.arrived, of...), p.eof || of == nil
		p.cond.Broadcast()
		return
	}
	p.flight = append(p.flight, of)
	p.inflight += len(of)
	now := time.Now()
	at := now.Add(p.delay.draw(p.r))
	if !at.After(p.last) {
		at = p.last.Add(1)
	}
	p.last = at
	time.AfterFunc(at.Sub(now), p.arrive)
}

// arrive takes the next piece from its way.
func (p *pipe) arrive() {
	p.mu.Lock()
	if p.held || p.silent || p.broken != nil || len(p.flight) == 0 {
		p.mu.Unlock()
		return
	}
	of := p.flight[0]
	p.flight = p.flight[1:]
	p.inflight -= len(of)
	if of == nil {
		p.eof = true
		p.cond.Broadcast()
		p.mu.Unlock()
		return
	}
	if p.deaf {
		p.mu.Unlock()
		p.of.reset()
		return
	}
	f := p.fault
	now := f.Fault != nil && p.counted+len(of) >= f.at
	if now {
		of = of[:max(f.at-p.counted, 0)]
		p.fault = due{}
		p.silent = f.Kind == Silence
	}
	p.counted += len(of)
	p.arrived = append(p.arrived, of...)
	p.cond.Broadcast()
	p.mu.Unlock()
	if p.passes != nil {
		p.passes(of)
	}
	if now {
		p.of.note(f.String())
		if f.Kind == Cut {
			p.of.reset()
		} else {
			time.AfterFunc(keepAlive, p.of.reset)
		}
	}
}

// fail has a fault happen after so many bytes more.
func (p *pipe) fail(f *Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = due{f, p.counted + f.Byte}
}

// read waits for bytes and takes some of them.
func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.deaf:
			return 0, errShut
		case p.deadline[0].passed:
			return 0, errLate
		case len(p.arrived) > 0:
			n := copy(b, p.arrived)
			if p.arrived = p.arrived[n:]; len(p.arrived) == 0 {
				p.arrived = nil
			}
			p.cond.Broadcast()
			return n, nil
		case p.broken != nil:
			return 0, p.broken
		case p.eof:
			return 0, io.EOF
		}
		p.cond.Wait()
	}
}

// quiet reports whether a read would find nothing yet.
func (p *pipe) quiet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.arrived) == 0 && !p.eof && p.broken == nil && !p.deaf
}

// pending reports whether bytes have arrived that were not read.
func (p *pipe) pending() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.arrived) > 0
}

// ended reports whether the writer's end arrived.
func (p *pipe) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.eof || p.broken != nil
}

// breakOff ends the pipe without a word; what arrived can still be read.
func (p *pipe) breakOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = errReset
	}
	p.flight, p.inflight = nil, 0
	p.cond.Broadcast()
}

// finish is the writer's close.
func (p *pipe) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	p.cond.Broadcast()
	if p.broken == nil {
		p.sendLocked(nil)
	}
}

// deafen is the reader's close.
func (p *pipe) deafen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = true
	unread := len(p.arrived) > 0
	p.arrived = nil
	p.cond.Broadcast()
	if unread && p.broken == nil {
		go p.of.reset() // the peer is told that its bytes were for nobody
	}
}

// hold keeps pieces from arriving until it is called with false.
func (p *pipe) hold(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = on
	if !on {
		for i := range p.flight {
			time.AfterFunc(time.Duration(i+1), p.arrive)
		}
	}
}

// setDeadline is of reads (0) or writes (1).
func (p *pipe) setDeadline(of int, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := &p.deadline[of]
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	switch wait := time.Until(t); {
	case t.IsZero():
		d.passed = false
	case wait <= 0:
		d.passed = true
	default:
		d.passed = false
		var timer *time.Timer
		timer = time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if d.timer == timer {
				d.passed = true
				p.cond.Broadcast()
			}
		})
		d.timer = timer
	}
	p.cond.Broadcast()
}

// Conn is one end of a connection: a net.Conn that package wire can look at.
type Conn struct {
	in, out       *pipe
	local, remote address
}

// address is a net.Addr.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

func (c *Conn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *Conn) Write(b []byte) (int, error) { return c.out.write(b) }

// Close implements net.Conn: the peer reads what was written, and then the end.
func (c *Conn) Close() error {
	c.out.finish()
	c.in.deafen()
	return nil
}

func (c *Conn) LocalAddr() net.Addr  { return c.local }
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *Conn) SetReadDeadline(t time.Time) error  { c.in.setDeadline(0, t); return nil }
func (c *Conn) SetWriteDeadline(t time.Time) error { c.out.setDeadline(1, t); return nil }

// Quiet and Gone are what package wire asks of a transport without a socket.
func (c *Conn) Quiet() bool { return c.in.quiet() }
func (c *Conn) Gone() bool  { return c.in.ended() }

// Pending tells package wire whether a read would find bytes.
func (c *Conn) Pending() bool { return c.in.pending() }
