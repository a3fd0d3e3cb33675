package client

import (
	"errors"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// What a statement leaves behind cannot always be told from its text: SET search_path
// reads a list, a function may set what it likes, a ROLLBACK may drop the last
// temporary table. Once its transaction is over the server connection is asked: for
// its settings, and for the state that ties the session to it. Settings are carried from then
// on, and a session whose state is gone is free again.

// readBack asks the connection what cannot be known without, if there is anything,
// and takes it over. The client has its answer by then.
func (st settlement) readBack() error {
	l, s := &st.c.lease, &st.c.state
	inspect := l.inspect & s.Pins
	if !l.held() || s.Tx.Phase.InBlock() || l.midBatch() || !s.NeedsReadBack() && inspect == 0 {
		return nil
	}
	if st.batch.Traits.Has(batch.ChangesCatalog) && st.c.mayInspect() {
		return nil // once it does something else, or pauses: temporary tables come one after the other
	}
	l.inspect = 0
	st.c.svc.Metrics.ReadBack()
	asked := st.asked()
	found, err := l.b.Inspect(st.c.ctx, backend.Question{Settings: s.NeedsReadBack(), Custom: asked, Leftovers: leftovers(inspect)})
	if err != nil {
		return st.unreadable(inspect, err)
	}
	if s.NeedsReadBack() {
		l.b.ChangedUnseen()
		l.b.NoteAsked(asked, setting.Names{}.With(found.Defined))
	}
	f := session.Found{Values: found.Settings, Defined: found.Defined, Kept: pinsOf(found.Leftovers)}
	if s.Known >= session.UnknownText {
		if v, _ := f.Values.Value(setting.Authorization); v == st.c.up.Credentials().User {
			f.Values = f.Values.Without(setting.Authorization)
		}
		if found.Privileged || session.MayMisread(f.Values) {
			f.Kept |= router.PinSetting
		}
		l.carries(session.Carrying(f.Values, l.b.Defaults()))
	}
	s.ReadBack(f, inspect)
	return nil
}

// mayInspect reports whether it is only to be asked whether temporary objects are left.
func (c *Client) mayInspect() bool {
	s := &c.state
	return s.Pins == router.PinTemp && c.lease.inspect&router.PinTemp != 0 && !s.NeedsReadBack() && !s.Tx.Phase.InBlock() && !c.lease.midBatch()
}

// kinds are the pins whose state a connection can be asked for.
var kinds = map[router.PinSet]backend.Leftover{
	router.PinTemp: backend.Temporary, router.PinCursor: backend.Cursors, router.PinLock: backend.Locks, router.PinListen: backend.Channels,
}

func leftovers(pins router.PinSet) (l backend.Leftover) {
	for pin, kind := range kinds {
		if pins&pin != 0 {
			l |= kind
		}
	}
	return l
}

func pinsOf(l backend.Leftover) (pins router.PinSet) {
	for pin, kind := range kinds {
		if l&kind != 0 {
			pins |= pin
		}
	}
	return pins
}

// asked are the custom settings that a connection is asked for.
func (st settlement) asked() setting.Names {
	return st.c.state.Defined.Union(st.c.state.MayDefine).With(st.c.svc.Config.Settings.Track)
}

// unreadable keeps the session on a connection that refused to answer (a statement
// timeout of the session's own, perhaps), to be asked again.
func (st settlement) unreadable(inspect router.PinSet, err error) error {
	if st.c.ctx.Err() != nil {
		st.c.discard()
		return errShutdown
	}
	var refused *backend.ServerError
	if !errors.As(err, &refused) || upstream.Ending(refused.Frame) || st.c.lease.onReplica() {
		st.c.discard()
		return wire.Fatalf("08006", "the session's settings could not be read: %v", err)
	}
	st.c.lease.inspect |= inspect
	st.c.state.Unreadable()
	return nil
}
