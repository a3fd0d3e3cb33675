package client

import (
	"errors"
	"fmt"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
)

// writeAt is how many bytes for the client are gathered before they are written
// while more are at hand.
const writeAt = 16 << 10

// duplexAt is how many bytes may be written before anything is read: more could
// fill the sockets of both sides, each waiting for the other.
const duplexAt = 64 << 10

// relay sends the bytes of an attempt and forwards the answers.
func (c *Client) relay(w *work, bytes []byte) error {
	conn := c.lease.b.Conn
	if said := conn.Buffered(); len(said) > 0 && said[0] == wire.ErrorResponse && !c.lease.midBatch() {
		// With the answer before came the server's last error.
		if c.untouched(w) {
			return fmt.Errorf("%w: %w", errServerLost, wire.ErrNotSent)
		}
		return c.relayAnswers(w)
	}
	c.lease.b.Sent(w.try.Ready())
	if len(bytes) <= duplexAt {
		var err error
		if len(conn.Buffered()) == 0 {
			err = conn.Exchange(bytes)
		} else {
			_, err = conn.Write(bytes)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errServerLost, err)
		}
		return c.relayAnswers(w)
	}
	written := make(chan error, 1)
	go writeAll(conn, bytes, written)
	err := c.relayAnswers(w)
	if err != nil {
		_ = conn.Close() // ends the writer
	}
	return errors.Join(err, <-written)
}

func writeAll(conn *wire.Conn, bytes []byte, done chan<- error) {
	_, err := conn.Write(bytes)
	if err != nil {
		err = fmt.Errorf("%w: %w", errServerLost, err)
	}
	done <- err
}

// relayAnswers forwards what the server sends until every awaited answer is there.
func (c *Client) relayAnswers(w *work) error {
	conn := c.lease.b.Conn
	for {
		need, err := c.scan(w, conn.Buffered())
		if err != nil {
			return err
		}
		if w.try.Awaits() == nil {
			return c.flush(w)
		}
		if !w.try.hold {
			if err := c.flush(w); err != nil {
				return err
			}
		}
		if _, err := conn.Need(need); err != nil {
			return fmt.Errorf("%w: %w", errServerLost, err)
		}
	}
}

// opaque are the types of messages that pass unseen: nothing in them concerns the
// proxy, nor do they end an answer (RowDescription does, that of a Describe).
var opaque = [256]bool{wire.DataRow: true, wire.CopyData: true, wire.CopyDone: true,
	wire.ParameterDescription: true, wire.FunctionCallResponse: true}

// scanner goes through what a server has said: buf[start:pos] is to be forwarded.
type scanner struct {
	buf        []byte
	start, pos int
}

// scan goes through the messages in buf, forwards and consumes them, and returns
// how many bytes must be buffered to go on.
func (c *Client) scan(w *work, buf []byte) (need int, err error) {
	t, conn := &w.try, c.lease.b.Conn
	s := scanner{buf: buf}
	if t.pass > 0 {
		s.pos = min(t.pass, len(buf))
		t.pass -= s.pos
	}
	need = wire.HeaderSize
	for t.pass == 0 {
		a := t.Awaits()
		if a == nil {
			break
		}
		if a.Here {
			if err := c.cut(w, &s, s.pos); err != nil {
				return 0, err
			}
			c.emit(w, a.Message)
			t.Head++
			continue
		}
		if len(buf)-s.pos < wire.HeaderSize {
			break
		}
		typ, size, err := wire.PeekHeader(buf[s.pos:])
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errServerLost, err)
		}
		whole := s.pos+size <= len(buf)
		if w.batch.Traits.Has(batch.CommitsWithin) && mayReveal(typ) {
			c.recordBeforeForwarding(w, a)
		}
		if opaque[typ] && !a.Internal() {
			t.hold = t.hold && typ == wire.ParameterDescription
			if whole {
				s.pos += size
				continue
			}
			t.pass = s.pos + size - len(buf)
			s.pos = len(buf)
			break
		}
		if !whole {
			need = size
			break
		}
		if end, err := c.look(w, &s, a, typ, size); end || err != nil {
			return need, err
		}
	}
	c.torn = t.pass > 0
	err = c.forward(w, buf[s.start:s.pos])
	conn.Discard(s.pos)
	return need, err
}

// look looks at one whole message and takes it out of what is forwarded, if the client
// is not to get it. end is that the buffer was consumed up to it.
func (c *Client) look(w *work, s *scanner, a *batch.Awaited, typ byte, size int) (end bool, err error) {
	conn, frame := c.lease.b.Conn, s.buf[s.pos:s.pos+size]
	if typ == wire.ErrorResponse || typ == wire.ReadyForQuery && (w.try.trace || c.told.pending || c.lease.restore) {
		// Something of the proxy's own may take its place, behind what came before.
		if err := c.cut(w, s, s.pos); err != nil {
			return false, err
		}
	}
	keep, err := c.see(w, a, typ, frame)
	if err != nil {
		conn.Discard(s.pos + size)
		return false, err
	}
	s.pos += size
	if !keep {
		if err := c.cutOut(w, s, size); err != nil {
			return false, err
		}
	}
	if typ != wire.CopyInResponse || !keep {
		return false, nil
	}
	if err := c.cut(w, s, s.pos); err != nil {
		return false, err
	}
	conn.Discard(s.pos)
	if w.copying {
		return true, errors.Join(c.flush(w), errCopyAgain)
	}
	return true, c.copyIn(w)
}

// cut gathers what is to be forwarded up to a place.
func (c *Client) cut(w *work, s *scanner, to int) error {
	err := c.push(w, s.buf[s.start:to])
	s.start = to
	return err
}

// cutOut gathers what is to be forwarded but for the last message.
func (c *Client) cutOut(w *work, s *scanner, size int) error {
	err := c.push(w, s.buf[s.start:max(s.pos-size, s.start)])
	s.start = s.pos
	return err
}

// push gathers a run of bytes for the client.
func (c *Client) push(w *work, run []byte) error {
	w.answer = append(w.answer, run...)
	if !w.try.hold && len(w.answer) >= writeAt {
		return c.flush(w)
	}
	return nil
}

// forward writes a run of bytes straight from the server's buffer, unless
// something must go before it or it must be held back.
func (c *Client) forward(w *work, run []byte) error {
	if w.try.hold || len(w.answer) > 0 && len(run) < writeAt {
		return c.push(w, run)
	}
	if err := c.flush(w); err != nil || len(run) == 0 {
		return err
	}
	return c.write(run)
}
