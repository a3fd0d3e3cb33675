package client

import (
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
)

// read gathers one batch: messages up to Sync, Flush, a simple query or a function
// call, analysed as they come. It executes nothing. They stay in the client's buffer
// until the batch is answered, so that it can be sent again.
func (c *Client) read(w *work) error {
	c.batches++
	b := &w.batch
	w.names.Reset(&c.names)
	b.Started = time.Now()
	a := analysis{c: c, w: w, b: b}
	for {
		buf, err := c.fill(b, b.Size+wire.HeaderSize)
		if err != nil {
			return err
		}
		typ, size, err := wire.PeekHeader(buf[b.Size:])
		if err := batch.CheckFrame(typ, size, err); err != nil {
			return err
		}
		if buf, err = c.fill(b, b.Size+size); err != nil {
			return err
		}
		off := b.Size
		b.Size += size
		done, err := a.message(typ, buf[off:off+size], off)
		if done || err != nil {
			return err
		}
		if b.Size > batch.MaxBytes {
			b.End = batch.EndPart
			return nil
		}
	}
}

// fill returns the client's bytes once there are n. The batch's clock starts when its
// last byte has arrived.
func (c *Client) fill(b *batch.Batch, n int) ([]byte, error) {
	if buf := c.front.Buffered(); len(buf) >= n {
		return buf, nil
	}
	buf, err := c.front.Need(n)
	b.Started = time.Now()
	return buf, err
}
