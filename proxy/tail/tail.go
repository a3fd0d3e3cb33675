// Package tail passes on, or drops, what is left of a client's message that is too long to be
// gathered: its head was read and analysed, its tail passes in pieces of bounded size, at the pace
// of the slower of client and server.
package tail

import (
	"errors"
	"os"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// HeadSize is how much of a message is read before anything is done for it: names of PostgreSQL's
// have 63 bytes, so there is room for more than any Bind needs.
const HeadSize = wire.SmallBuffer

var (
	// ErrStopped is that the client was not waited for any longer: its connection was woken.
	ErrStopped = errors.New("message stopped")
	// ErrSilent is that the client said nothing for too long in the middle of a message.
	ErrSilent = errors.New("message not continued")
)

// Feed sends a server a message whose tail is yet to come from the client. Until it has ended
// nobody else may read from the one or write to the other.
type Feed struct {
	From, To *wire.Conn
	Head     []byte        // sent first; not of From's buffer
	Rest     int           // bytes of the tail that From has not given yet
	Behind   []byte        // sent in the end
	Silence  time.Duration // how long the client may say nothing; 0 is for ever
}

// Run sends it, and relays meanwhile what the server says: relay returns once nothing more is
// awaited, or with the error of reading from To. On error the server has a part of the message,
// and To is closed: there is no other way to take back what was begun. Else all of it was sent,
// and relay may be called again for what is still awaited.
func (f *Feed) Run(relay func() error) error {
	done := make(chan error, 1)
	go f.run(done)
	err := relay()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // woken
		err = nil
	case err != nil:
		_ = f.To.Close() // a feed that writes must not wait for ever
		f.From.Wake()
	}
	sent := <-done
	_ = f.From.SetReadDeadline(time.Time{})
	_ = f.To.SetReadDeadline(time.Time{})
	if sent != nil {
		return errors.Join(err, sent)
	}
	return err
}

// run sends it and wakes whoever reads from the server.
func (f *Feed) run(done chan<- error) {
	err := f.send()
	if err != nil {
		_ = f.To.Close()
	} else {
		f.To.Wake()
	}
	done <- err
}

func (f *Feed) send() error {
	if err := f.write(f.Head); err != nil {
		return err
	}
	f.From.ReadBy(wire.LargeBuffer)
	defer f.From.ReadBy(wire.SmallBuffer)
	for f.Rest > 0 {
		piece := f.From.Buffered()
		if len(piece) == 0 {
			if err := f.wait(); err != nil {
				return err
			}
			continue
		}
		piece = piece[:min(len(piece), f.Rest)]
		err := f.write(piece)
		f.From.Discard(len(piece))
		if f.Rest -= len(piece); err != nil {
			return err
		}
	}
	return f.write(f.Behind)
}

func (f *Feed) write(p []byte) error {
	if _, err := f.To.Write(p); err != nil {
		return upstream.Lost(err)
	}
	return nil
}

// wait waits for more of the client's.
func (f *Feed) wait() error {
	if f.Silence <= 0 {
		return gone(f.From.Fill())
	}
	began := time.Now()
	late, err := f.From.FillWithin(f.Silence)
	switch {
	case late && time.Since(began) >= f.Silence:
		return ErrSilent
	case late:
		return ErrStopped
	}
	return gone(err)
}

func gone(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrStopped
	}
	return &interrupt.ClientGone{Err: err}
}

// Drop takes n bytes out of what comes from a client. An error is that of reading.
func Drop(from *wire.Conn, n int) error {
	for n > 0 {
		piece := min(len(from.Buffered()), n)
		from.Discard(piece)
		if n -= piece; n > 0 {
			if err := from.Fill(); err != nil {
				return err
			}
		}
	}
	return nil
}
