package pool

import (
	"context"
	"errors"
	"testing"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
)

// A connection that is not at rest is given to nobody, whatever its user thinks of it.
func TestGate(t *testing.T) {
	ready := func(status byte) []byte { return wire.AppendReady(nil, status) }
	failed := wire.Errorf("22023", "invalid value").Append(nil)
	ended := wire.Fatalf("57P01", "terminating connection").Append(nil)
	roundTrip := func(b *backend.Backend) { _, _ = b.RoundTrip(context.Background(), wire.AppendQuery(nil, "x")) }
	for _, try := range []struct {
		name    string
		answer  []byte // to each write
		use     func(b *backend.Backend)
		handed  bool // to the next
		refused bool // and if not, whether somebody is to blame
	}{
		{"not used", nil, func(*backend.Backend) {}, true, false},
		{"idle", ready(wire.TxIdle), roundTrip, true, false},
		{"a statement failed", append(failed, ready(wire.TxIdle)...), roundTrip, true, false},
		{"in a transaction", ready(wire.TxOpen), roundTrip, false, true},
		{"in a failed transaction", ready(wire.TxFailed), roundTrip, false, true},
		{"unread bytes", append(ready(wire.TxIdle), failed...), roundTrip, false, true},
		{"the server ends it", append(ready(wire.TxIdle), ended...), roundTrip, false, false},
		{"an answer awaited", nil, func(b *backend.Backend) { b.Sent(1) }, false, true},
		{"one of two answers awaited", nil, func(b *backend.Backend) { b.Sent(2); b.Ready(wire.TxIdle) }, false, true},
		{"no Sync sent", nil, func(b *backend.Backend) { b.Sent(0) }, false, true},
		{"a Sync after none", nil, func(b *backend.Backend) { b.Sent(0); b.Sent(1); b.Ready(wire.TxIdle) }, true, false},
		{"an answer without a Sync", nil, func(b *backend.Backend) { b.Sent(0); b.Ready(wire.TxIdle) }, false, true},
		{"an answer nobody awaited", nil, func(b *backend.Backend) { b.Ready(wire.TxIdle) }, false, true},
		{"two where one was awaited", nil, func(b *backend.Backend) { b.Sent(1); b.Ready(wire.TxIdle); b.Ready(wire.TxIdle) }, false, true},
		{"the connection ended", []byte{}, roundTrip, false, true},
		{"unknown settings", nil, func(b *backend.Backend) { b.SettingsUnknown() }, false, true},
		{"settings known again", nil, func(b *backend.Backend) { b.SettingsUnknown(); b.NoteSettings(setting.Settings{}) }, true, false},
		{"a refused take-over", append(failed, ready(wire.TxIdle)...), func(b *backend.Backend) {
			want := setting.From(map[string]string{"work_mem": "x"})
			var refused *backend.ServerError
			if err := b.Adopt(context.Background(), want, setting.Names{}); !errors.As(err, &refused) {
				t.Errorf("Adopt: %v", err)
			}
		}, false, true},
	} {
		t.Run(try.name, func(t *testing.T) {
			f := &fake{answer: try.answer}
			var reasons []error
			p := New(Options{Size: 1, Dial: f.connect, Refused: func(_ *backend.Backend, why error) { reasons = append(reasons, why) }})
			defer p.Close()
			b := mustAcquire(t, p, Want{})
			try.use(b)
			p.Release(b)
			next := p.TryAcquire(Want{})
			if (next != nil) != try.handed {
				t.Fatalf("handed on: %v", next != nil)
			}
			if st := p.Stats(); (st.Refused == 1) != try.refused || (len(reasons) == 1) != try.refused {
				t.Errorf("%d refused, reasons %v", st.Refused, reasons)
			}
			if !try.handed {
				if next = mustAcquire(t, p, Want{}); next == b || f.open.Load() != 1 {
					t.Errorf("the same again, or not closed: %d are open", f.open.Load())
				}
			}
			p.Release(next)
		})
	}
}

// The gate costs no allocation.
func TestGateAllocates(t *testing.T) {
	f := &fake{}
	p := New(Options{Size: 1, Dial: f.connect})
	defer p.Close()
	p.Release(mustAcquire(t, p, Want{}))
	if n := testing.AllocsPerRun(100, func() { p.Release(p.TryAcquire(Want{})) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHandOver(t *testing.T) {
	f := &fake{}
	p := New(Options{Size: 1, Dial: f.connect})
	defer p.Close()
	b := mustAcquire(t, p, Want{})
	for _, step := range []struct {
		session uint64
		another bool
	}{{7, true}, {7, false}, {8, true}, {7, true}} {
		if another := b.HandOver(step.session); another != step.another || b.LastUser() != step.session {
			t.Errorf("to %d: another %v, last %d", step.session, another, b.LastUser())
		}
		p.Release(b)
		b = mustAcquire(t, p, Want{})
	}
	p.Release(b)
}
