package notify

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
)

// Ear is how a session listens without a server connection of its own. The zero value does
// not listen. It belongs to the session's goroutine.
type Ear struct {
	in   *Inbox
	hub  *Hub
	self uint32 // the process that notifies for the session now; 0 is none
}

// Listens reports whether the session listens over a Hub.
func (e *Ear) Listens() bool { return e.in != nil }

// NotifiesItself reports whether Own is to be called.
func (e *Ear) NotifiesItself() bool { return e.self != 0 }

// Released says that the session notifies nobody over its connection any more.
func (e *Ear) Released() { e.self = 0 }

// Undisturbed calls f while the session is not woken.
func (e *Ear) Undisturbed(f func()) {
	if e.in != nil {
		e.in.mu.Lock()
		defer e.in.mu.Unlock()
	}
	f()
}

// Leave ends that.
func (e *Ear) Leave() {
	if e.in != nil {
		e.hub.Leave(e.in)
	}
	*e = Ear{}
}

// ErrStillListens is that a connection whose channels are taken over listens all the same.
var ErrStillListens = errors.New("channels are taken over, but not given up")

// ErrNotShared is that a session must keep its connection to listen.
var ErrNotShared = errors.New("channels are not taken over")

// Share gives the channels that the session's connection listens to, outside a
// transaction, to a Hub. It returns what the client is to get that the connection has heard
// so far. With ErrNotShared all is as it was, with ErrStillListens only the connection is of
// no use any more; after any other error what is listened to is not known.
func (e *Ear) Share(ctx context.Context, b *backend.Backend, hub *Hub, wake func()) (heard []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	channels, err := listened(ctx, b)
	if err != nil {
		return nil, notShared(b, err)
	}
	if e.in != nil {
		channels = append(channels, e.in.channels...)
		slices.Sort(channels)
		channels = slices.Compact(channels)
	}
	if !hub.serves(b.Parameter("client_encoding")) {
		return nil, ErrNotShared
	}
	in := &Inbox{wake: wake, channels: channels}
	m, err := hub.begin(ctx, in)
	if err != nil {
		return nil, notShared(b, err)
	}
	heard, _, err = m.fence(ctx, b)
	if err != nil {
		m.cancel()
		return heard, notShared(b, err)
	}
	if err := m.wait(ctx); err != nil {
		return heard, err
	}
	e.Leave()
	*e = Ear{in: in, hub: hub}
	if _, err = b.RoundTrip(ctx, wire.AppendQuery(nil, "UNLISTEN *")); err != nil {
		err = errors.Join(ErrStillListens, err)
	}
	b.Notified() // the Hub has heard it, too
	return heard, err
}

// notShared is the error where nothing was changed.
func notShared(b *backend.Backend, err error) error {
	if b.AtRest() != nil {
		return err
	}
	return errors.Join(ErrNotShared, err)
}

// TakeBack has a connection that is at rest listen as the session does, over no Hub then.
// It returns what the client is to get. After an error what was notified is not known.
func (e *Ear) TakeBack(ctx context.Context, b *backend.Backend) (heard []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m := e.hub.move(e.in, false)
	_, own, err := m.fence(ctx, b)
	if err == nil {
		err = m.wait(ctx)
	}
	if err == nil {
		_, err = b.RoundTrip(ctx, wire.AppendQuery(nil, "UNLISTEN "+fences))
	}
	if err != nil {
		return nil, err
	}
	heard, err = e.Take()
	*e = Ear{}
	later, _ := m.divide(b.Notified()) // fences of others are among it
	return append(append(heard, own...), later...), err
}

// Take returns what was notified, to be told outside a transaction only.
func (e *Ear) Take() (heard []byte, err error) {
	if e.in == nil {
		return nil, nil
	}
	return e.in.take()
}

// Now returns what was notified before it is called.
func (e *Ear) Now(ctx context.Context) (heard []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := e.hub.barrier(ctx); err != nil {
		return nil, err
	}
	return e.in.take()
}

// Expect says that the session may notify itself over b from now on. It returns what was
// notified before.
func (e *Ear) Expect(ctx context.Context, b *backend.Backend) (heard []byte, err error) {
	heard, err = e.Now(ctx)
	if err == nil {
		e.self = b.PID()
	}
	return heard, err
}

// Own returns what was notified since Expect. What the session did is from the process own.
func (e *Ear) Own(ctx context.Context, own uint32) (heard []byte, err error) {
	self := e.self
	e.self = 0
	heard, err = e.Now(ctx)
	Rename(heard, self, own)
	return heard, err
}

// patience is how long a server that lives may take for what is asked here.
const patience = 10 * time.Second

// listened are the channels that b listens to, but for that of fences.
func listened(ctx context.Context, b *backend.Backend) (channels []string, err error) {
	err = b.Query(ctx, backend.AnyDefault+"SELECT pg_catalog.pg_listening_channels()", func(row [][]byte) error {
		if name := string(row[0]); name != fences {
			channels = append(channels, name)
		}
		return nil
	})
	return channels, err
}
