package simpg

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// link is a connection as its session sees it. Only interrupt may be called from elsewhere.
type link struct {
	conn    net.Conn
	in      []byte
	room    []byte // where in begins once it is empty
	out     []byte
	urgent  bool      // what is to be sent should be sent now
	readyAt time.Time // when the last ReadyForQuery was sent; zero while something is under way
	poked   atomic.Bool
	failed  error

	mu        sync.Mutex // protects the fields below
	writing   bool
	unblocked bool
}

const maxFrame = 0x3fffffff

// began reports whether a part of a message is there, or all of it.
func (l *link) began() bool { return len(l.in) > 0 }

// interrupt has a read that waits, or the next one, return os.ErrDeadlineExceeded.
func (l *link) interrupt() {
	l.poked.Store(true)
	_ = l.conn.SetReadDeadline(time.Unix(1, 0))
}

// unblock has a write that waits for the client fail.
func (l *link) unblock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writing {
		l.unblocked = true
		_ = l.conn.SetWriteDeadline(time.Unix(1, 0))
	}
}

func (l *link) write(p []byte) error {
	l.mu.Lock()
	l.writing = true
	l.mu.Unlock()
	_, err := l.conn.Write(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writing = false; l.unblocked {
		l.unblocked = false // it came too late for this write, or ended it
		_ = l.conn.SetWriteDeadline(time.Time{})
	}
	return err
}

// frame reads a message. It returns os.ErrDeadlineExceeded at until, and when it is interrupted.
func (l *link) frame(until time.Time) (typ byte, body []byte, err error) {
	if err := l.need(1, until); err != nil {
		return 0, nil, err
	}
	if !frontend(l.in[0]) {
		return 0, nil, &Error{Severity: "FATAL", Code: "08P01", Message: "invalid frontend message type " + strconv.Itoa(int(l.in[0]))}
	}
	return l.anyFrame(until)
}

// errLength ends a session without a word to its client.
var errLength = errors.New("invalid message length")

// anyFrame is frame, of whatever type.
func (l *link) anyFrame(until time.Time) (typ byte, body []byte, err error) {
	if err := l.need(5, until); err != nil {
		return 0, nil, err
	}
	typ = l.in[0]
	size := int(binary.BigEndian.Uint32(l.in[1:5]))
	if size < 4 || size > maxFrame {
		return 0, nil, errLength
	}
	if err := l.need(1+size, until); err != nil {
		return 0, nil, err
	}
	body = append([]byte(nil), l.in[5:1+size]...)
	l.in = l.in[1+size:]
	return typ, body, nil
}

// frontend reports whether clients send messages of a type.
func frontend(typ byte) bool {
	switch typ {
	case 'Q', 'P', 'B', 'D', 'E', 'C', 'S', 'H', 'X', 'F', 'd', 'c', 'f', 'p':
		return true
	}
	return false
}

// readSize is how much is read at one time.
const readSize = 4096

// need reads until so many bytes are there.
func (l *link) need(n int, until time.Time) error {
	if len(l.in) == 0 {
		l.in = l.room[:0]
	}
	for len(l.in) < n {
		// The deadline first, the question after it: who interrupts does it the other way round.
		_ = l.conn.SetReadDeadline(until)
		if l.poked.Swap(false) {
			return os.ErrDeadlineExceeded
		}
		had := len(l.in)
		if l.in = slices.Grow(l.in, readSize); had == 0 {
			l.room = l.in
		}
		got, err := l.conn.Read(l.in[had : had+readSize])
		l.in = l.in[:had+got]
		if err != nil && len(l.in) < n {
			return err
		}
	}
	return nil
}

func (l *link) send(m pgproto3.BackendMessage) {
	out, err := m.Encode(l.out)
	if err != nil {
		panic(err)
	}
	l.out = out
}

func (l *link) flush() error {
	if l.failed == nil && len(l.out) > 0 {
		l.failed = l.write(l.out)
	}
	l.out, l.urgent = l.out[:0], false
	return l.failed
}

// nowhere is the connection of who has none.
type nowhere struct{ net.Conn }

func (nowhere) Write(p []byte) (int, error)      { return len(p), nil }
func (nowhere) SetReadDeadline(time.Time) error  { return nil }
func (nowhere) SetWriteDeadline(time.Time) error { return nil }
func (nowhere) Close() error                     { return nil }

func interrupted(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
