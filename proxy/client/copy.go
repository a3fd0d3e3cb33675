package client

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/interrupt"
)

// COPY FROM STDIN is where both directions flow at once: the client sends data
// while the server may send notices, or an error that ends it.

// copyIn forwards copy data until the server has answered. The frames the client
// sent with its COPY are done with by then: none but the COPY's own Sync stood
// behind it, and a server in copy mode ignores that.
func (r relay) copyIn() error {
	if err := r.flush(); err != nil {
		return err
	}
	r.dropIgnoredSync()
	r.consume()
	r.copying = true
	defer func() { r.copying = false }()
	for {
		if err := r.feedCopy(); !errors.Is(err, errCopyAgain) {
			return err
		}
	}
}

// feedCopy forwards the data of one COPY, and relays the answers up to the end of
// the unit or the next COPY in the same string (errCopyAgain).
func (r relay) feedCopy() error {
	feed := &copyFeed{from: r.c.front, to: r.c.lease.b.Conn, flush: r.batch.End != batch.EndQuery, done: make(chan error, 1)}
	go feed.run()
	err := r.relayCopy()
	if errors.Is(err, errCopyAgain) {
		// The server has seen the end of this one's data, so its feed ends by itself.
		return errors.Join(<-feed.done, err)
	}
	if err != nil {
		_ = r.c.lease.b.Conn.Close() // a feed that writes must not wait for ever
	}
	r.c.front.Wake()
	fed := <-feed.done
	_ = r.c.front.SetReadDeadline(time.Time{})
	switch {
	case err != nil && fed != nil && !errors.Is(fed, errCopyStopped):
		return errors.Join(fed, err)
	case err != nil:
		return err
	case errors.Is(fed, errCopyStopped):
		return nil
	}
	return fed
}

// consume takes the client's bytes out of the buffer, so that copy data can be read. What
// a message still needs of them is what it holds itself.
func (r relay) consume() {
	for i := range r.batch.Messages {
		if m := &r.batch.Messages[i]; m.Kind.Executes() && m.Plan != nil && m.Text == "" {
			m.Text = string(r.textOf(m))
		}
	}
	r.c.front.Discard(r.batch.Size)
	r.batch.Size = 0
}

// dropIgnoredSync takes the Sync behind an Execute that started the COPY out of the queue.
func (r relay) dropIgnoredSync() {
	t := &r.try
	if at := t.Head + 1; t.Queue[t.Head].Kind == batch.Execute && at < len(t.Queue) && t.Queue[at].Kind == batch.Sync {
		t.Queue = append(t.Queue[:at], t.Queue[at+1:]...)
		t.syncIgnored = true
		r.c.lease.b.Sent(t.Ready())
	}
}

// relayCopy relays the answers to the COPY; the answer to what follows comes later.
func (r relay) relayCopy() error {
	conn := r.c.lease.b.Conn
	for {
		need, err := r.scan(conn.Buffered())
		if err != nil {
			return err
		}
		if err := r.flush(); err != nil {
			return err
		}
		if r.try.Awaits() == nil {
			return nil
		}
		if _, err := conn.Need(need); err != nil {
			return fmt.Errorf("%w: %w", errServerLost, err)
		}
	}
}

// errCopyAgain is that another COPY follows in the same string.
var errCopyAgain = errors.New("another copy")

// errCopyStopped is that the server answered before the client had sent all.
var errCopyStopped = errors.New("copy stopped")

// copyFeed forwards copy data from the client to the server.
type copyFeed struct {
	from, to *wire.Conn
	rest     int  // bytes of a frame begun
	flush    bool // the server says nothing of the end before it is asked to
	done     chan error
}

func (f *copyFeed) run() { f.done <- f.forward() }

// forward ends after CopyDone or CopyFail, or between two frames once the client's
// connection is woken. If the client is gone the server connection is closed: there
// is no other way to end a COPY without an answer of the client's.
func (f *copyFeed) forward() error {
	for {
		ended, err := f.step()
		switch {
		case ended && f.flush:
			if _, err := f.to.Write(flushFrame); err != nil {
				return fmt.Errorf("%w: %w", errServerLost, err)
			}
			return nil
		case ended:
			return nil
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && f.rest == 0:
			return errCopyStopped
		case errors.Is(err, os.ErrDeadlineExceeded):
			// In the middle of a frame: the rest of it must go first.
			_ = f.from.SetReadDeadline(time.Now().Add(10 * time.Second))
		default:
			_ = f.to.Close()
			return err
		}
	}
}

// step forwards what is buffered, or waits for more.
func (f *copyFeed) step() (ended bool, err error) {
	buf := f.from.Buffered()
	if f.rest == 0 && len(buf) < wire.HeaderSize {
		return false, lost(f.from.Fill())
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
			ended = true
			if take < size {
				ended = false
				if n == 0 {
					_, err := f.from.Need(size)
					return false, lost(err)
				}
				return false, f.send(n)
			}
		case wire.Sync, wire.Flush: // ignored in copy mode
			if n > 0 {
				return false, f.send(n)
			}
			_, err := f.from.Need(size)
			if err == nil {
				f.from.Discard(size)
			}
			return false, lost(err)
		}
		n += take
		f.rest = size - take
	}
	if n == 0 {
		return false, lost(f.from.Fill())
	}
	return ended, f.send(n)
}

// inCopy are the types of messages a client may send while a COPY waits for data.
var inCopy = [256]bool{wire.CopyData: true, wire.CopyDone: true, wire.CopyFail: true, wire.Sync: true, wire.Flush: true}

func (f *copyFeed) send(n int) error {
	_, err := f.to.Write(f.from.Buffered()[:n])
	f.from.Discard(n)
	if err != nil {
		return fmt.Errorf("%w: %w", errServerLost, err)
	}
	return nil
}

func lost(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return &interrupt.ClientGone{Err: err}
}
