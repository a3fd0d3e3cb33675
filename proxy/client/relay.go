package client

import (
	"errors"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// writeAt is how many bytes for the client are gathered before they are written
// while more are at hand.
const writeAt = 16 << 10

// wholeUpTo is the size of messages that pass only when they are there to their end: if their server is lost within one, the
// client can be told so, or the read be sent again.
const wholeUpTo = 8 << 10

// duplexAt is how many bytes may be written before anything is read: more could
// fill the sockets of both sides, each waiting for the other.
const duplexAt = 64 << 10

// relay carries bytes between a client and its server while a batch is answered.
type relay struct{ *work }

// run sends the bytes of an attempt and forwards the answers.
func (r relay) run(bytes []byte) error {
	r.recordSent()
	conn := r.c.lease.b.Conn
	if said := conn.Buffered(); len(said) > 0 && said[0] == wire.ErrorResponse && !r.c.lease.midBatch() {
		// With the answer before came the server's last error.
		if repetition(r).untouched() {
			return upstream.Lost(wire.ErrNotSent)
		}
		return r.relayAnswers()
	}
	r.c.lease.b.Sent(r.try.Ready())
	if r.try.Tail > 0 {
		return r.upload(bytes)
	}
	if len(bytes) <= duplexAt {
		var err error
		if len(conn.Buffered()) == 0 {
			err = conn.Exchange(bytes)
		} else {
			_, err = conn.Write(bytes)
		}
		if err != nil {
			return upstream.Lost(err)
		}
		return r.relayAnswers()
	}
	r.try.written = make(chan error, 1)
	go writeAll(conn, bytes, r.try.written)
	err := r.relayAnswers()
	if err != nil {
		_ = conn.Close() // ends the writer
	}
	return errors.Join(err, r.wrote())
}

// wrote waits until nobody else writes to the server, which reads all of a long batch by then.
func (w *work) wrote() (err error) {
	if w.try.written != nil {
		err = <-w.try.written
		w.try.written = nil
	}
	return err
}

func writeAll(conn *wire.Conn, bytes []byte, done chan<- error) {
	_, err := conn.Write(bytes)
	if err != nil {
		err = upstream.Lost(err)
	}
	done <- err
}

// relayAnswers forwards what the server sends until every awaited answer is there.
func (r relay) relayAnswers() error {
	conn := r.c.lease.b.Conn
	for {
		need, err := r.scan(conn.Buffered())
		if err != nil {
			return err
		}
		switch {
		case r.try.Awaits() != nil:
		case r.try.status != 0 && len(r.try.late) == 0 && r.try.Tail == 0:
			return r.flushLast()
		default:
			return r.flush() // more is to come
		}
		if r.try.flow != heldBack {
			if err := r.flush(); err != nil {
				return err
			}
		}
		if _, err := conn.Need(need); err != nil {
			return upstream.Lost(err)
		}
	}
}

// opaque are the types of messages that pass unseen: nothing in them concerns the
// proxy, nor do they end an answer (RowDescription does, that of a Describe).
var opaque = [256]bool{wire.DataRow: true, wire.CopyData: true, wire.CopyDone: true,
	wire.FunctionCallResponse: true}

// scanner goes through what a server has said: buf[start:pos] is to be forwarded.
type scanner struct {
	buf        []byte
	start, pos int
}

// peek returns the type and size of the next message; a size of 0 is that its header is
// not there yet.
func (s *scanner) peek() (typ byte, size int, err error) {
	if len(s.buf)-s.pos < wire.HeaderSize {
		return 0, 0, nil
	}
	return wire.PeekHeader(s.buf[s.pos:])
}

// pass passes n bytes unseen and returns how many of them are yet to come.
func (s *scanner) pass(n int) (rest int) {
	have := min(n, len(s.buf)-s.pos)
	s.pos += have
	return n - have
}

// scan goes through the messages in buf, forwards and consumes them, and returns
// how many bytes must be buffered to go on.
func (r relay) scan(buf []byte) (need int, err error) {
	t := &r.try
	s := scanner{buf: buf}
	unsure := false // a row was passed that is not written as long as its answer is held back
	t.pass, need = s.pass(t.pass), wire.HeaderSize
	for t.pass == 0 {
		a := t.Awaits()
		if a == nil {
			break
		}
		if a.Origin == batch.Here {
			if err := r.emitHere(&s, a); err != nil {
				return 0, err
			}
			continue
		}
		typ, size, err := s.peek()
		if err != nil {
			return 0, r.broken(&s, 0, upstream.Lost(err))
		}
		if size == 0 {
			break
		}
		if r.batch.Traits.Has(batch.CommitsWithin) && mayReveal(typ) {
			recorder(r).recordBeforeForwarding(a)
		}
		whole := s.pos+size <= len(buf)
		if opaque[typ] && !a.Internal() && (whole || size > wholeUpTo) {
			t.pass, unsure = s.pass(size), true
			t.rowBytes += uint64(size)
			continue
		}
		if !whole {
			need = size
			break
		}
		if unsure && typ != wire.ErrorResponse {
			t.sure()
		}
		if end, err := r.look(&s, a, typ, size); end || err != nil {
			return need, err
		}
	}
	if unsure {
		t.sure()
	}
	return need, r.forwardScanned(&s)
}

// emitHere gives an answer of the proxy's own, behind what came before it.
func (r relay) emitHere(s *scanner, a *batch.Awaited) error {
	if err := r.cut(s, s.pos); err != nil {
		return err
	}
	r.emit(a.Message)
	r.try.Head++
	return nil
}

// forwardScanned forwards and consumes what was looked through.
func (r relay) forwardScanned(s *scanner) error {
	err := r.forward(s.buf[s.start:s.pos])
	r.c.lease.b.Conn.Discard(s.pos)
	return err
}

// look looks at one whole message and takes it out of what is forwarded, if the client
// is not to get it. end is that the buffer was consumed up to it.
func (r relay) look(s *scanner, a *batch.Awaited, typ byte, size int) (end bool, err error) {
	frame := s.buf[s.pos : s.pos+size]
	if typ == wire.ErrorResponse || typ == wire.ReadyForQuery && (r.try.trace || r.c.told.pending || r.c.lease.restore) {
		// Something of the proxy's own may take its place, behind what came before.
		if err := r.cut(s, s.pos); err != nil {
			return false, err
		}
	}
	keep, err := outcomes(r).see(a, typ, frame)
	if err != nil {
		return false, r.broken(s, size, err)
	}
	s.pos += size
	if !keep {
		if err := r.cutOut(s, size); err != nil {
			return false, err
		}
	}
	if typ != wire.CopyInResponse || !keep {
		return false, nil
	}
	return r.beginCopy(s)
}

// broken consumes a message that ends the exchange, and gathers what came before it.
func (r relay) broken(s *scanner, size int, err error) error {
	err = errors.Join(err, r.cut(s, s.pos))
	r.c.lease.b.Conn.Discard(s.pos + size)
	return err
}

// beginCopy consumes what came up to the message that asks for COPY data, and relays those.
func (r relay) beginCopy(s *scanner) (end bool, err error) {
	if err := r.cut(s, s.pos); err != nil {
		return false, err
	}
	r.c.lease.b.Conn.Discard(s.pos)
	if r.try.flow >= copying {
		return true, errors.Join(r.flush(), errCopyAgain)
	}
	return true, r.copyIn()
}

// cut gathers what is to be forwarded up to a place.
func (r relay) cut(s *scanner, to int) error {
	err := r.push(s.buf[s.start:to])
	s.start = to
	return err
}

// cutOut gathers what is to be forwarded but for the last message.
func (r relay) cutOut(s *scanner, size int) error {
	err := r.push(s.buf[s.start:max(s.pos-size, s.start)])
	s.start = s.pos
	return err
}

// push gathers a run of bytes for the client.
func (r relay) push(run []byte) error {
	r.reply = append(r.reply, run...)
	if r.try.flow != heldBack && len(r.reply) >= writeAt {
		return r.flush()
	}
	return nil
}

// forward writes a run of bytes straight from the server's buffer, unless
// something must go before it or it must be held back.
func (r relay) forward(run []byte) error {
	if r.try.flow == heldBack || len(r.reply) > 0 && len(run) < writeAt {
		return r.push(run)
	}
	if err := r.flush(); err != nil || len(run) == 0 {
		return err
	}
	err := r.c.write(run)
	if r.try.pass > 0 {
		r.c.stands = torn
	}
	return err
}
