// Package wire moves the frames of the PostgreSQL protocol. A Conn is one end of a
// connection: it reads whole runs of frames, shows their headers, and writes bytes as they
// are. It decodes nothing but the few messages the proxy looks into (see
// message.go) and encodes only what the proxy itself originates (encode.go).
//
// All socket I/O of sessions goes through Conn, so that what lies under it can
// change without touching a session.
package wire

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// HeaderSize is a frame's type byte and length word.
const HeaderSize = 5

// MaxFrame is PostgreSQL's own bound of a message body (PQ_LARGE_MESSAGE_LIMIT).
const MaxFrame = 0x3fffffff - 1

// ErrFrameLength is a length word no message can have.
var ErrFrameLength = errors.New("invalid message length")

// ErrNotSent is that Exchange failed before the peer could have been sent anything:
// the connection had ended already.
var ErrNotSent = errors.New("nothing was sent")

// Conn is one end of a connection. Reads belong to one goroutine at a time, and
// so do writes (which may be another's); Exchange is both. Close, Wake, WakeWriter, Gone and
// SetReadDeadline may be called from any. After an error from a read or a write
// it must be closed, but for a read's os.ErrDeadlineExceeded.
//
// While nothing is buffered it holds no buffer: an idle client costs a goroutine
// and no I/O memory.
type Conn struct {
	nc     net.Conn
	raw    syscall.RawConn // nil where the transport is not a plain socket (TLS)
	socket syscall.RawConn // below TLS, too; nil where the transport has none

	written uint64

	buf  *buffer // nil when nothing is buffered
	r, w int     // buf.b[r:w] is unread

	// The arguments and results of the raw calls stand here, so that the
	// callbacks are made once and a call allocates nothing.
	readFn, writeFn, exchangeFn func(fd uintptr) bool
	peekFn                      func(fd uintptr)
	minBuf                      int
	n                           int   // of a read
	err                         error // of a read
	out                         []byte
	outErr                      error
	first                       bool
	quiet                       bool
}

// looker is a transport without a socket that can be looked at without reading, as a
// socket can, and of which a write that fails with 0 bytes written has sent none. Its
// methods may be called from any goroutine.
type looker interface {
	// Quiet reports, without waiting, whether a read would find nothing yet.
	Quiet() bool
	// Gone reports, without waiting, whether the peer has closed.
	Gone() bool
}

// NewConn takes over nc. minBuf is the smallest buffer to read into: see SmallBuffer, LargeBuffer.
func NewConn(nc net.Conn, minBuf int) *Conn {
	c := &Conn{nc: nc, minBuf: minBuf}
	secure, isTLS := nc.(*tls.Conn)
	if isTLS {
		nc = secure.NetConn()
	}
	if sc, ok := nc.(syscall.Conn); ok {
		c.socket, _ = sc.SyscallConn()
	}
	if c.socket != nil && !isTLS {
		c.raw = c.socket
		c.readFn, c.writeFn, c.exchangeFn = c.tryRead, c.tryWrite, c.tryExchange
	}
	return c
}

// ReadBy has the buffers for what is read next be at least so large: see SmallBuffer, LargeBuffer.
// It belongs to the goroutine that reads.
func (c *Conn) ReadBy(size int) { c.minBuf = size }

// NetConn returns the transport, for its addresses and TLS state.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Buffered returns what was read and not yet consumed. It is valid until the next read.
func (c *Conn) Buffered() []byte {
	if c.buf == nil {
		return nil
	}
	return c.buf.b[c.r:c.w]
}

// Discard consumes n buffered bytes.
func (c *Conn) Discard(n int) {
	c.r += n
	if c.r == c.w && c.buf != nil {
		c.releaseBuffer()
	}
}

func (c *Conn) releaseBuffer() {
	putBuffer(c.buf)
	c.buf, c.r, c.w = nil, 0, 0
}

// Fill reads once, blocking until at least one byte more is buffered. io.EOF is
// the peer's orderly close.
func (c *Conn) Fill() error {
	c.makeRoom()
	if c.raw == nil {
		return c.fillPlain()
	}
	c.n, c.err = 0, nil
	if err := c.raw.Read(c.readFn); err != nil {
		return err
	}
	return c.filled()
}

// FillWithin is Fill with a bound; late is that nothing came within it. Deadlines that others
// set meanwhile are lost.
func (c *Conn) FillWithin(d time.Duration) (late bool, err error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(d))
	err = c.Fill()
	_ = c.nc.SetReadDeadline(time.Time{})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true, nil
	}
	return false, err
}

// Exchange writes p and then waits for an answer, without first trying to read
// what cannot be there yet. Nothing may be buffered.
func (c *Conn) Exchange(p []byte) error {
	if c.raw == nil || c.buf != nil {
		if n, err := c.Write(p); err != nil {
			if _, ok := c.nc.(looker); ok && n == 0 {
				err = errors.Join(ErrNotSent, err)
			}
			return err
		}
		return c.Fill()
	}
	c.n, c.err, c.out, c.first = 0, nil, p, true
	err := c.raw.Read(c.exchangeFn)
	rest := c.out
	c.out = nil
	if err != nil {
		return err
	}
	if c.err == nil && len(rest) > 0 {
		if _, err := c.Write(rest); err != nil {
			return err
		}
		return c.Fill()
	}
	return c.filled()
}

func (c *Conn) filled() error {
	if c.err != nil {
		return c.err
	}
	if c.n == 0 {
		return io.EOF
	}
	c.w += c.n
	return nil
}

// makeRoom prepares a held buffer for reading: moves the unread bytes to the
// front, grows a full one. A buffer that is not held is taken when bytes arrive.
func (c *Conn) makeRoom() {
	if c.buf == nil {
		return
	}
	if c.w < len(c.buf.b) {
		return
	}
	if c.r > 0 {
		copy(c.buf.b, c.buf.b[c.r:c.w])
		c.w -= c.r
		c.r = 0
		return
	}
	c.buf = growBuffer(c.buf)
}

func (c *Conn) fillPlain() error {
	if c.buf == nil {
		// Wait with one byte so that an idle TLS client holds no buffer of ours.
		var one [1]byte
		n, err := c.nc.Read(one[:])
		if n == 0 {
			if err == nil {
				err = io.ErrNoProgress
			}
			return err
		}
		c.buf = takeBuffer(c.minBuf)
		c.buf.b[0] = one[0]
		c.r, c.w = 0, 1
		if len(one) == n && err == nil && c.pendingPlain() {
			n, err = c.nc.Read(c.buf.b[1:])
			c.w += n
			return err
		}
		return err
	}
	n, err := c.nc.Read(c.buf.b[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// pendingPlain reports whether the rest of a decrypted record is likely there: a
// message is at least five bytes, and peers write whole messages in one record. Connections
// in memory tell it.
func (c *Conn) pendingPlain() bool {
	if _, isTLS := c.nc.(*tls.Conn); isTLS {
		return true
	}
	memory, ok := c.nc.(interface{ Pending() bool })
	return ok && memory.Pending()
}

func (c *Conn) tryRead(fd uintptr) bool {
	taken := false
	if c.buf == nil {
		c.buf = takeBuffer(c.minBuf)
		c.r, c.w = 0, 0
		taken = true
	}
	n, err := sysRead(fd, c.buf.b[c.w:])
	if err == syscall.EAGAIN {
		if taken {
			c.releaseBuffer()
		}
		return false
	}
	c.n, c.err = n, nil
	if err != nil {
		c.n, c.err = 0, os.NewSyscallError("read", err)
	}
	if c.n == 0 && taken {
		c.releaseBuffer()
	}
	return true
}

func (c *Conn) tryExchange(fd uintptr) bool {
	if !c.first {
		return c.tryRead(fd)
	}
	c.first = false
	n, err := sysWrite(fd, c.out)
	if err != nil && err != syscall.EAGAIN {
		c.err = errors.Join(ErrNotSent, os.NewSyscallError("write", err))
		return true
	}
	c.out = c.out[n:]
	return len(c.out) > 0
}

// Written is how many bytes Write was given. It belongs to the goroutine that writes.
func (c *Conn) Written() uint64 { return c.written }

// Write writes all of p.
func (c *Conn) Write(p []byte) (int, error) {
	c.written += uint64(len(p))
	if c.raw == nil {
		return c.nc.Write(p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	c.out, c.outErr = p, nil
	err := c.raw.Write(c.writeFn)
	c.out = nil
	if err == nil {
		err = c.outErr
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *Conn) tryWrite(fd uintptr) bool {
	for len(c.out) > 0 {
		n, err := sysWrite(fd, c.out)
		if err == syscall.EAGAIN {
			return false
		}
		if err != nil {
			c.outErr = os.NewSyscallError("write", err)
			return true
		}
		c.out = c.out[n:]
	}
	return true
}

// Header blocks until the next frame's header is buffered and returns its type
// and its size in bytes, header included.
func (c *Conn) Header() (typ byte, size int, err error) {
	b, err := c.Need(HeaderSize)
	if err != nil {
		return 0, 0, err
	}
	return PeekHeader(b)
}

// PeekHeader reads the header at the start of b, which holds at least HeaderSize bytes.
func PeekHeader(b []byte) (typ byte, size int, err error) {
	length := binary.BigEndian.Uint32(b[1:5])
	if length < 4 || length > MaxFrame+4 {
		return b[0], 0, ErrFrameLength
	}
	return b[0], int(length) + 1, nil
}

// Need blocks until n bytes are buffered and returns all that are, without
// consuming any. Memory grows with the bytes that arrive, not with the length that
// is claimed. The slice is valid until the next read.
func (c *Conn) Need(n int) ([]byte, error) {
	for c.w-c.r < n {
		if err := c.Fill(); err != nil {
			if err == io.EOF && c.w > c.r {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return c.Buffered(), nil
}

// Frame returns the next frame of the given size, header included, unconsumed.
func (c *Conn) Frame(size int) ([]byte, error) {
	b, err := c.Need(size)
	if err != nil {
		return nil, err
	}
	return b[:size], nil
}

// SetReadDeadline bounds waiting for the peer; the zero time is no bound.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.nc.SetReadDeadline(t) }

// SetDeadline bounds reads and writes.
func (c *Conn) SetDeadline(t time.Time) error { return c.nc.SetDeadline(t) }

// Wake makes a read that is waiting, or the next one, fail with os.ErrDeadlineExceeded.
func (c *Conn) Wake() { _ = c.nc.SetReadDeadline(time.Unix(1, 0)) }

// WakeWriter makes a write that is waiting, and every later one, fail with
// os.ErrDeadlineExceeded.
func (c *Conn) WakeWriter() { _ = c.nc.SetWriteDeadline(time.Unix(1, 0)) }

// Close closes the transport. It may be called from any goroutine, more than once.
func (c *Conn) Close() error { return c.nc.Close() }

// Free gives the buffer back; the owner calls it once, after its last read.
func (c *Conn) Free() {
	if c.buf != nil {
		c.releaseBuffer()
	}
}

// Quiet reports, without waiting, whether the peer is still there and has said
// nothing: no bytes buffered, none to read, not closed. Over TLS it only sees
// what is buffered. It belongs to the goroutine that reads.
func (c *Conn) Quiet() bool {
	if c.buf != nil {
		return false
	}
	if l, ok := c.nc.(looker); ok {
		return l.Quiet()
	}
	if c.raw == nil {
		return true
	}
	if c.peekFn == nil { // a client's connection is not asked
		c.peekFn = c.tryPeek
	}
	err := c.raw.Control(c.peekFn)
	return err == nil && c.quiet
}

func (c *Conn) tryPeek(fd uintptr) { _, c.quiet = sysPeek(fd) }

// Readable reports, without waiting or reading, whether the peer has sent something that
// is not in the buffer yet. It may be called from any goroutine.
func (c *Conn) Readable() bool {
	if l, ok := c.nc.(looker); ok {
		return !l.Quiet() && !l.Gone()
	}
	if c.socket == nil {
		return false
	}
	closed, waiting := true, true
	err := c.socket.Control(func(fd uintptr) { closed, waiting = sysPeek(fd) })
	return err == nil && !closed && !waiting
}

// Gone looks, without reading or waiting, whether the peer has closed the connection,
// whatever it sent before that, or the system has given it up. It may be called from any
// goroutine.
func (c *Conn) Gone() (gone bool) {
	if l, ok := c.nc.(looker); ok {
		return l.Gone()
	}
	if c.socket != nil {
		_ = c.socket.Control(func(fd uintptr) { gone = sysGone(fd) })
	}
	return gone
}
