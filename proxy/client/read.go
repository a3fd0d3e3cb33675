package client

import (
	"io"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/analysis"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/tail"
)

// read gathers one batch: messages up to Sync, Flush, a simple query or a function
// call, analysed as they come. It executes nothing. They stay in the client's buffer
// until the batch is answered, so that it can be sent again.
func (w *work) read() error {
	w.c.done.batches++
	w.c.svc = w.c.svc.Current.Load()
	b := &w.batch
	b.Started = w.c.interrupt.Begin()
	w.names.Reset(&w.c.names)
	if w.c.stands == skipping {
		b.Traits |= batch.Skipped
	}
	a := analysis.New(w.c.analysed(), b, &w.names, &w.preview)
	for {
		if pauses, err := w.pauses(b); pauses || err != nil {
			b.End = batch.EndPart
			return err
		}
		buf, err := w.fill(b, b.Size+wire.HeaderSize)
		if err != nil {
			return err
		}
		typ, size, err := wire.PeekHeader(buf[b.Size:])
		if err := batch.CheckFrame(typ, size, err); err != nil {
			return err
		}
		if size > batch.MaxBytes && b.Passes(typ) {
			if b.Size > 0 { // what comes before it is answered first
				b.End, b.Traits = batch.EndPart, b.Traits|batch.Large
				return nil
			}
			if b.Ignores(typ) {
				if err := tail.Drop(w.c.front, size); err != nil {
					return err
				}
				continue
			}
			b.Traits |= batch.Large | batch.Rewritten
			b.Tail, size = size-tail.HeadSize, tail.HeadSize
		}
		if buf, err = w.fill(b, b.Size+size); err != nil {
			return err
		}
		off := b.Size
		b.Size += size
		done, err := a.Message(typ, buf[off:off+size], off)
		if done || err != nil {
			return err
		}
		if b.Size > batch.MaxBytes || b.Tail > 0 {
			b.End = batch.EndPart
			return nil
		}
	}
}

// syncWait is how long a client may keep a batch open that a server might refuse. Then what
// there is of it is sent: servers tell an error at once, without waiting for Sync or Flush.
const syncWait = 10 * time.Millisecond

// pauses reports whether the client has begun a batch and says nothing more for now.
func (w *work) pauses(b *batch.Batch) (bool, error) {
	if b.Traits&(batch.NeedsServer|batch.Refused) == 0 || len(w.c.front.Buffered()) > b.Size {
		return false, nil
	}
	pauses, err := w.c.front.FillWithin(syncWait)
	if w.c.ctx.Err() != nil {
		return false, errShutdown // its deadline may just have been taken away
	}
	b.Started = time.Now()
	return pauses, err
}

// analysed is what analysis looks at of the session.
func (c *Client) analysed() analysis.Session {
	s := analysis.Session{
		ID: c.who.id, Batch: c.done.batches, Application: c.who.app, Service: c.svc, Up: c.up,
		State: &c.state, Names: &c.names, Front: c.front, Interrupt: c.interrupt, Hints: &c.told.hints,
	}
	switch {
	case c.lease.midBatch():
		s.Lease = analysis.MidBatch
	case c.lease.held():
		s.Lease = analysis.Held
	}
	return s
}

// fill returns the client's bytes once there are n. The batch's clock starts when its
// last byte has arrived. As with PostgreSQL, a cancel request that comes while it is
// waited for counts for nothing.
func (w *work) fill(b *batch.Batch, n int) ([]byte, error) {
	if buf := w.c.front.Buffered(); len(buf) >= n {
		return buf, nil
	}
	w.c.interrupt.Done(false)
	var err error
	for err == nil && len(w.c.front.Buffered()) < n {
		err = w.fillSome(b)
	}
	b.Started = w.c.interrupt.Begin()
	return w.c.front.Buffered(), err
}

// fillSome waits for more of a message, or of the next in a batch, as long as a client may say
// nothing.
func (w *work) fillSome(b *batch.Batch) (err error) {
	until, tooLong := w.c.clock.Silence(&w.c.state, b.Size > 0 || w.c.lease.midBatch(), w.c.up.Database.Plans.Snapshot().OfServer)
	if until.IsZero() {
		err = w.c.front.Fill()
	} else if _, err = w.c.front.FillWithin(max(time.Until(until), 1)); err == nil && !time.Now().Before(until) {
		w.c.clock.Exceeded(tooLong)
		err = tooLong
	}
	switch {
	case w.c.ctx.Err() != nil: // its deadline may just have been taken away
		return errShutdown
	case err == io.EOF && len(w.c.front.Buffered()) > 0:
		return io.ErrUnexpectedEOF
	}
	return err
}
