package client

import (
	"errors"
	"os"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/notify"
)

// waitForBoth waits for the client while its server connection may speak too: a
// notification it listens for, or the end of the connection.
func (c *Client) waitForBoth() error {
	for {
		heard := make(chan error, 1)
		go hear(c.lease.b.Conn, c.front, heard)
		err := c.front.Fill()
		c.lease.b.Conn.Wake()
		heardErr := <-heard
		_ = c.lease.b.Conn.SetReadDeadline(time.Time{})
		_ = c.front.SetReadDeadline(time.Time{})
		if heardErr == nil {
			heardErr = c.passOn()
		}
		if heardErr != nil && !errors.Is(heardErr, os.ErrDeadlineExceeded) {
			c.discard()
			if errors.As(heardErr, new(*interrupt.ClientGone)) {
				return heardErr
			}
			var fatal *wire.Error
			if errors.As(heardErr, &fatal) {
				return fatal
			}
			return wire.Fatalf("08006", "connection to the server was lost")
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if c.svc.Draining.Load() {
			return errShutdown
		}
	}
}

// hear waits until the server says something, and wakes the client's read then.
func hear(server, client *wire.Conn, heard chan<- error) {
	err := server.Fill()
	client.Wake() // before the other side goes on, which clears the deadline
	heard <- err
}

// passOn forwards what a server says of its own accord.
func (c *Client) passOn() error {
	conn := c.lease.b.Conn
	for len(conn.Buffered()) > 0 {
		typ, size, err := conn.Header()
		if err != nil {
			return err
		}
		frame, err := conn.Frame(size)
		if err != nil {
			return err
		}
		if typ == wire.ErrorResponse {
			return wire.Fatalf(string(wire.ErrorField(frame, 'C')), "%s", wire.ErrorField(frame, 'M'))
		}
		if typ == wire.ParameterStatus {
			if n, v, ok := wire.ParameterParts(frame); ok {
				c.lease.b.SetParameter(string(n), string(v))
			}
			frame = c.told.report(nil, c.lease.b.Parameters())
		}
		if typ == wire.NotificationResponse {
			notify.Rename(frame, c.lease.b.PID(), c.who.pid)
			c.up.Database.Commits.OnNotification()
		}
		if err := c.write(frame); err != nil {
			return err
		}
		conn.Discard(size)
	}
	return nil
}
