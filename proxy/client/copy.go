package client

import (
	"errors"
	"time"

	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/copyin"
	"github.com/pgweir/pgweir/proxy/tail"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// COPY FROM STDIN is where both directions flow at once: the client sends data
// while the server may send notices, or an error that ends it. So is a message that is too long
// to be gathered.

// copyIn forwards copy data until the server has answered. The frames the client
// sent with its COPY are done with by then: none but the COPY's own Sync stood
// behind it, and a server in copy mode ignores that.
func (r relay) copyIn() error {
	if err := r.wrote(); err != nil {
		return err
	}
	if err := r.flush(); err != nil {
		return err
	}
	r.try.flow = copying
	r.keepTexts()
	r.dropIgnoredSync()
	r.consume()
	for {
		if err := r.feedCopy(); !errors.Is(err, errCopyAgain) {
			return err
		}
	}
}

// keepTexts keeps the texts that may have to be planned anew, for the batch's bytes will be
// gone by then.
func (r relay) keepTexts() {
	for i := range r.batch.Messages {
		m := &r.batch.Messages[i]
		if m.Kind.Executes() && m.Text == "" && m.Plan != nil && m.Plan.Uses {
			m.Text = string(r.textOf(m))
		}
	}
}

// feedCopy forwards the data of one COPY, and relays the answers up to the end of
// the batch or the next COPY in the same string (errCopyAgain).
func (r relay) feedCopy() error {
	feed, done := &copyin.Feed{From: r.c.front, To: r.c.lease.b.Conn}, make(chan error, 1)
	if r.batch.End != batch.EndQuery {
		feed.Behind = flushFrame // the server says nothing of the end before it is asked to
	}
	go feed.Run(done)
	err := r.relayCopy()
	if errors.Is(err, errCopyAgain) {
		// The server has seen the end of this one's data, so its feed ends by itself.
		if fed := <-done; fed != nil {
			return fed
		}
		return err
	}
	if err != nil {
		_ = r.c.lease.b.Conn.Close() // a feed that writes must not wait for ever
	}
	r.c.front.Wake()
	fed := <-done
	_ = r.c.front.SetReadDeadline(time.Time{})
	switch {
	case err != nil && errors.Is(fed, upstream.ErrServerLost):
		return errors.Join(fed, err)
	case fed != nil && !errors.Is(fed, copyin.ErrStopped):
		return fed // if the connection was lost, by the feed
	}
	return err
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
		t.flow = copyingPastSync
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
			return upstream.Lost(err)
		}
	}
}

// upload sends a message as it comes from the client: bytes are its head, with what goes before.
// It counts as asked, for cancel requests and the time that statements have, once all of it is
// there, as with PostgreSQL.
func (r relay) upload(bytes []byte) error {
	feed := &tail.Feed{From: r.c.front, To: r.c.lease.b.Conn, Head: bytes, Rest: r.try.Tail}
	if r.batch.End == batch.EndPart {
		feed.Behind = flushFrame
	}
	until, tooLong := r.c.clock.Silence(&r.c.state, true, r.c.up.Database.Plans.Snapshot().OfServer)
	if !until.IsZero() {
		feed.Silence = max(time.Until(until), 1)
	}
	r.consume()
	r.c.interrupt.Arriving()
	err := feed.Run(r.relayAnswers)
	r.batch.Tail, r.try.Tail = feed.Rest, 0
	r.c.interrupt.Begin()
	switch {
	case errors.Is(err, tail.ErrSilent):
		r.c.clock.Exceeded(tooLong)
		return tooLong
	case err != nil || r.try.Awaits() == nil:
		return err
	}
	_ = r.c.interrupt.Run(r.c.lease.b, r.plan()) // it was sent already
	defer r.c.clock.WatchStatement()()
	return r.relayAnswers()
}

// errCopyAgain is that another COPY follows in the same string.
var errCopyAgain = errors.New("another copy")
