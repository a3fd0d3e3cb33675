package serve

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/handover"
	"github.com/pgweir/pgweir/internal/sockets"
	"github.com/pgweir/pgweir/internal/systemd"
)

// kin is what a service has in common with the other processes of the same: its listeners,
// which one inherits from another, and how they reach each other.
type kin struct {
	sockets     *sockets.Set
	predecessor *handover.Predecessor // nil if there is none
	process     atomic.Pointer[handover.Process]
	child       atomic.Int64 // the process that this one started to succeed it

	handed chan struct{} // closed when another process has taken over
}

func newKin() *kin {
	return &kin{sockets: sockets.New(), handed: make(chan struct{})}
}

// cancel passes a cancel request to the other processes.
func (k *kin) cancel(ctx context.Context, request []byte) (met bool) {
	p := k.process.Load()
	return p != nil && p.Cancel(ctx, request)
}

// retired reports whether another process has taken over.
func (k *kin) retired() bool {
	select {
	case <-k.handed:
		return true
	default:
		return false
	}
}

// end leaves the other processes alone.
func (k *kin) end() {
	if k.predecessor != nil {
		k.predecessor.Leave()
	}
	if p := k.process.Load(); p != nil {
		p.Close()
	}
}

// inherit takes the listeners of systemd, and those of the process before. Processes that share
// their addresses stay beside each other.
func (r *Running) inherit(ctx context.Context) (err error) {
	if r.cfg.ReusePort {
		r.kin.sockets.Share()
	}
	passed, err := systemd.Listeners()
	if err != nil {
		return err
	}
	for _, l := range passed {
		if !listensOn(r.cfg, l.Addr()) {
			return fmt.Errorf("systemd passed a socket for %s, which neither listen nor http names: make them alike", l.Addr())
		}
	}
	r.kin.sockets.Inherit(passed...)
	if r.cfg.Upgrade.Socket == "" || r.cfg.ReusePort {
		return nil
	}
	if r.kin.predecessor, err = handover.Find(ctx, r.cfg.Upgrade.Socket); err != nil {
		return err
	}
	if p := r.kin.predecessor; p != nil {
		r.log.Info("taking over from another process once this one is ready", zap.Int("pid", p.PID))
		r.kin.sockets.Inherit(p.Listeners...)
	}
	return nil
}

// listensOn reports whether a configuration names an address.
func listensOn(cfg config.Config, at net.Addr) bool {
	for _, address := range cfg.Listen {
		if network, target, err := config.SplitAddress(address, config.ListenPort); err == nil && sockets.Bound(at, network, target) {
			return true
		}
	}
	return cfg.HTTP != "" && sockets.Bound(at, "tcp", cfg.HTTP)
}

// meet makes this process known to the others.
func (r *Running) meet() error {
	if r.cfg.Upgrade.Socket == "" {
		return nil
	}
	p, err := handover.Open(handover.Options{
		Path: r.cfg.Upgrade.Socket, Listeners: r.kin.sockets.Used, Cancel: r.Proxy.Cancel,
		Beside: r.Proxy.Beside, Retire: r.retire,
	})
	if err != nil {
		return fmt.Errorf("upgrade.socket: %w; it needs a directory that this user may write to", err)
	}
	r.kin.process.Store(p)
	return nil
}

// readyWithin is how long a process may take to become ready that is to take over.
const readyWithin = 30 * time.Second

// awaitReady waits until this process can serve as well as the one it takes over from.
func (r *Running) awaitReady(ctx context.Context) error {
	if r.kin.predecessor == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := r.Proxy.Served()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("not ready to take over from process %d, which goes on: %w", r.kin.predecessor.PID, err)
		}
	}
}

// succeed has the process before accept no more clients, from when this one does.
func (r *Running) succeed(ctx context.Context) error {
	if p := r.kin.process.Load(); p != nil {
		defer p.Serve()
	}
	before := r.kin.predecessor
	if before == nil {
		return nil
	}
	defer before.Leave()
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := before.Retire(ctx); err != nil {
		// It may have ended. If not, both serve, as they did just now.
		r.log.Warn("the process before did not confirm that it has retired", zap.Int("pid", before.PID), zap.Error(err))
		return nil
	}
	r.log.Info("took over", zap.Int("pid", before.PID))
	return nil
}

// requestsWithin is how long requests over HTTP that have begun may take when another process takes over.
const requestsWithin = 5 * time.Second

// retire has this process accept no more clients, because another does.
func (r *Running) retire(successor int) {
	r.kin.sockets.HandOver()
	ctx, cancel := context.WithTimeout(context.Background(), requestsWithin)
	r.closeHTTP(ctx)
	cancel()
	r.watching.stop()
	r.Proxy.Retire()
	close(r.kin.handed)
	r.log.Info("another process has taken over; this one ends when its clients have left",
		zap.Int("pid", successor), zap.Duration("upgrade.timeout", r.Proxy.Config().Upgrade.Timeout))
	if r.kin.child.Load() == int64(successor) {
		systemd.Succeeded(successor)
	}
}

// Succeeding says which process was started to succeed this one.
func (r *Running) Succeeding(child int) { r.kin.child.Store(int64(child)) }

// Retired reports whether another process has taken over.
func (r *Running) Retired() bool { return r.kin.retired() }

// Succeeded is closed when another process has taken over.
func (r *Running) Succeeded() <-chan struct{} { return r.kin.handed }

// Wait returns when there is nothing left to serve for: ctx has ended, an administrator has ended the
// service, or another process has taken over and the last client has left, or upgrade.timeout passed.
func (r *Running) Wait(ctx context.Context) {
	select {
	case <-r.kin.handed:
	case how := <-r.orders:
		r.obey(ctx, how)
		return
	case <-ctx.Done():
		return
	}
	if t := r.Proxy.Config().Upgrade.Timeout; t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t)
		defer cancel()
	}
	r.Proxy.AwaitClients(ctx)
}
