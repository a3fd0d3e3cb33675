package proxy

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
)

// COPY FROM STDIN is where both directions flow at once: the client sends data
// while the server may send notices, or an error that ends it.

// copyIn forwards copy data until the server has answered. The frames the client
// sent with its COPY are done with by then: none but the COPY's own Sync stood
// behind it, and a server in copy mode ignores that.
func (c *client) copyIn(u *unit) error {
	if err := c.flush(u); err != nil {
		return err
	}
	c.dropIgnoredSync(u)
	c.consume(u)
	u.copying = true
	defer func() { u.copying = false }()
	for {
		if err := c.feedCopy(u); !errors.Is(err, errCopyAgain) {
			return err
		}
	}
}

// feedCopy forwards the data of one COPY, and relays the answers up to the end of
// the unit or the next COPY in the same string (errCopyAgain).
func (c *client) feedCopy(u *unit) error {
	feed := &copyFeed{from: c.front, to: c.b.Conn, flush: u.end != endQuery, done: make(chan error, 1)}
	go feed.run()
	err := c.relayCopy(u)
	if errors.Is(err, errCopyAgain) {
		// The server has seen the end of this one's data, so its feed ends by itself.
		return errors.Join(<-feed.done, err)
	}
	if err != nil {
		_ = c.b.Conn.Close() // a feed that writes must not wait for ever
	}
	c.front.Wake()
	fed := <-feed.done
	_ = c.front.SetReadDeadline(time.Time{})
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

// consume forgets the client's frames, so that copy data can be read. What an op
// still needs of them is what it holds itself.
func (c *client) consume(u *unit) {
	for i := range u.ops {
		if o := &u.ops[i]; o.executes() && o.plan != nil && o.text == "" {
			o.text = string(c.textOf(u, o))
		}
	}
	c.front.Discard(u.size)
	u.size = 0
}

// dropIgnoredSync takes the Sync behind an Execute that started the COPY out of the queue.
func (c *client) dropIgnoredSync(u *unit) {
	if at := u.head + 1; u.queue[u.head].kind == opExecute && at < len(u.queue) && u.queue[at].kind == opSync {
		u.queue = append(u.queue[:at], u.queue[at+1:]...)
		u.sync, u.syncIgnored = false, true
		c.b.Sent(u.awaited())
	}
}

// relayCopy relays the answers to the COPY; the answer to what follows comes later.
func (c *client) relayCopy(u *unit) error {
	conn := c.b.Conn
	for {
		need, err := c.scan(u, conn.Buffered())
		if err != nil {
			return err
		}
		if err := c.flush(u); err != nil {
			return err
		}
		if u.head == len(u.queue) {
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
		if err := checkFrame(typ, size, err); err != nil {
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
	return &lostError{err}
}
