package backend

import (
	"errors"
	"fmt"

	"github.com/pgweir/pgweir/internal/wire"
)

// conversation is where b and its server stand in the protocol.
// https://www.postgresql.org/docs/current/protocol-flow.html
type conversation struct {
	open    bool // frames were written, and the last ReadyForQuery for them was not read
	awaited int  // how many are to come; 0 while open: only a later Sync brings one
	status  byte // of the last one read
}

// ErrEnded is that the server has ended the connection, which nobody is to blame for.
var ErrEnded = errors.New("the server has ended the connection")

var (
	errUnread     = errors.New("what the server sent is not read")
	errOpenFrames = errors.New("frames were sent that no ReadyForQuery was read for")
	errSurplus    = errors.New("a ReadyForQuery was read that nobody awaited")
	errSettings   = errors.New("its settings are not known")
)

// Sent notes that frames were written, or are about to be, and how many ReadyForQuery
// are to come in all: one for each Sync, simple query and function call that the server
// does not skip. 0 is right for frames without any, which leave the conversation open.
// It replaces what was noted before, so a caller corrects itself by another call. It is
// called before the first ReadyForQuery may be read; RoundTrip and its like call it
// themselves.
func (b *Backend) Sent(ready int) { b.talk.open, b.talk.awaited = true, ready }

// Ready notes that a ReadyForQuery of that transaction status was read.
func (b *Backend) Ready(status byte) {
	b.talk.status = status
	b.talk.awaited--
	b.talk.open = b.talk.awaited > 0
}

// AtRest returns nil if b may go to another session: the server's last word was
// ReadyForQuery outside a transaction, nothing it sent is unread, no answer is awaited,
// and the settings b carries are known. Else it says what is in the way. It costs
// nothing: no system call, no lock, and no allocation where the answer is nil.
func (b *Backend) AtRest() error {
	switch {
	case b.talk.open:
		return errOpenFrames
	case b.talk.awaited < 0:
		return errSurplus
	case b.talk.status != wire.TxIdle:
		return fmt.Errorf("its transaction status is %q", b.talk.status)
	case len(b.Conn.Buffered()) > 0:
		return unread(b.Conn.Buffered())
	case b.unsettled:
		return errSettings
	}
	return nil
}

// unread says what bytes mean that came after the last ReadyForQuery.
func unread(buf []byte) error {
	if buf[0] == wire.ErrorResponse && len(buf) >= wire.HeaderSize {
		_, size, err := wire.PeekHeader(buf)
		if err == nil && size <= len(buf) && string(wire.ErrorField(buf[:size], 'V')) == "FATAL" {
			return ErrEnded
		}
	}
	return errUnread
}
