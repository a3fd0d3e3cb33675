// Package copyin forwards the data of COPY FROM STDIN from a client to a server, while
// the server may answer at any time.
package copyin

import (
	"errors"
	"os"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// ErrStopped is that the server answered before the client had sent all.
var ErrStopped = errors.New("copy stopped")

// frameWait is how long the rest of a frame may let wait for itself once the server has
// answered, or the session is to end.
const frameWait = 10 * time.Second

// Feed forwards copy data from a client to a server.
type Feed struct {
	From, To *wire.Conn
	rest     int    // bytes of a frame begun
	Behind   []byte // sent behind the end of the data
}

// Run forwards and says how it ended.
func (f *Feed) Run(done chan<- error) { done <- f.forward() }

// forward ends after CopyDone or CopyFail, or between two frames once the client's
// connection is woken. If the client is gone the server connection is closed: there
// is no other way to end a COPY without an answer of the client's.
func (f *Feed) forward() error {
	waited := false // for the rest of a frame, in vain so far
	for {
		ended, err := f.step()
		late := errors.Is(err, os.ErrDeadlineExceeded)
		switch {
		case ended && len(f.Behind) > 0:
			if _, err := f.To.Write(f.Behind); err != nil {
				return upstream.Lost(err)
			}
			return nil
		case ended:
			return nil
		case err == nil:
			waited = false
		case late && f.rest == 0:
			return ErrStopped
		case late && !waited:
			// In the middle of a frame: the rest of it must go first.
			waited = true
			_ = f.From.SetReadDeadline(time.Now().Add(frameWait))
		case late:
			_ = f.To.Close()
			return &interrupt.ClientGone{Err: err}
		default:
			_ = f.To.Close()
			return err
		}
	}
}

// step forwards what is buffered, or waits for more.
func (f *Feed) step() (ended bool, err error) {
	buf := f.From.Buffered()
	if f.rest == 0 && len(buf) < wire.HeaderSize {
		return false, lost(f.From.Fill())
	}
	n := min(f.rest, len(buf))
	f.rest -= n
	for f.rest == 0 && len(buf)-n >= wire.HeaderSize && !ended {
		typ, size, err := wire.PeekHeader(buf[n:])
		if !inCopy[typ] {
			// The server says what it thinks of it, and closes its connection.
			return true, f.send(n + wire.HeaderSize)
		}
		if err := batch.CheckFrame(typ, size, err); err != nil {
			return false, err
		}
		take := min(size, len(buf)-n)
		switch typ {
		case wire.CopyDone, wire.CopyFail:
			if ended = take == size; !ended && n == 0 {
				_, err := f.From.Need(size)
				return false, lost(err)
			}
			if !ended {
				return false, f.send(n)
			}
		case wire.Sync, wire.Flush: // ignored in copy mode
			if n > 0 {
				return false, f.send(n)
			}
			_, err := f.From.Need(size)
			if err == nil {
				f.From.Discard(size)
			}
			return false, lost(err)
		}
		n += take
		f.rest = size - take
	}
	if n == 0 {
		return false, lost(f.From.Fill())
	}
	return ended, f.send(n)
}

// inCopy are the types of messages a client may send while a COPY waits for data.
var inCopy = [256]bool{wire.CopyData: true, wire.CopyDone: true, wire.CopyFail: true, wire.Sync: true, wire.Flush: true}

func (f *Feed) send(n int) error {
	_, err := f.To.Write(f.From.Buffered()[:n])
	f.From.Discard(n)
	if err != nil {
		return upstream.Lost(err)
	}
	return nil
}

func lost(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return &interrupt.ClientGone{Err: err}
}
