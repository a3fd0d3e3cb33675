package proxy

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/client"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// member is a session that is registered: cancel requests find it, and the end of the
// service.
type member struct {
	client *client.Client
	up     *upstream.Pools

	// What a client must show to cancel its statement.
	pid    uint32
	secret []byte
}

// members are the sessions that are registered. Safe for concurrent use.
type members struct {
	lastID atomic.Uint64 // of a session

	mu  sync.Mutex
	all map[uint32]*member // by process number, as clients know it
}

// register gives a session its number and secret.
func (ms *members) register(c *client.Client, up *upstream.Pools, secretSize int) (*member, error) {
	m := &member{client: c, up: up}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	var err error
	if m.pid, m.secret, err = drawKey(secretSize, func(pid uint32) bool { return ms.all[pid] != nil }); err != nil {
		return nil, err
	}
	ms.all[m.pid] = m
	return m, nil
}

// drawKey draws a process number that is not taken, and a secret: what a cancel request must show.
func drawKey(secretSize int, taken func(pid uint32) bool) (pid uint32, secret []byte, err error) {
	secret = make([]byte, secretSize)
	if _, err := rand.Read(secret); err != nil {
		return 0, nil, err
	}
	for pid == 0 || taken(pid) {
		var b [4]byte
		if _, err := rand.Read(b[:]); err != nil {
			return 0, nil, err
		}
		pid = binary.BigEndian.Uint32(b[:]) & 0x7fffffff
	}
	return pid, secret, nil
}

func (ms *members) unregister(m *member) {
	ms.mu.Lock()
	delete(ms.all, m.pid)
	ms.mu.Unlock()
}

// has reports whether a process number is given.
func (ms *members) has(pid uint32) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return ms.all[pid] != nil
}

// isIn reports whether a session is registered yet.
func (ms *members) isIn(m *member) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return ms.all[m.pid] == m
}

// appendTo lists all sessions there are.
func (ms *members) appendTo(to []*member) []*member {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		to = append(to, m)
	}
	return to
}

// find returns the session that a cancel request is for; nil if its key is wrong.
func (ms *members) find(pid uint32, secret []byte) *member {
	ms.mu.Lock()
	m := ms.all[pid]
	ms.mu.Unlock()
	if m == nil || subtle.ConstantTimeCompare(m.secret, secret) != 1 {
		return nil
	}
	return m
}

// closeHeld closes the connections to a server that sessions hold: what runs on them
// fails, and so does what comes next in their transactions. The pools are told before,
// so that none is used again.
func (ms *members) closeHeld(server *cluster.Server) (n int) {
	var conns []*wire.Conn
	ms.mu.Lock()
	for _, m := range ms.all {
		if conn := m.client.Interrupt().HeldOn(server); conn != nil {
			conns = append(conns, conn)
		}
	}
	ms.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
	return len(conns)
}

// endIdle wakes the sessions that are idle outside a transaction; they end.
func (ms *members) endIdle() {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		m.client.EndIdle()
	}
}

// abortResting ends the sessions for which nothing runs on a server, and returns the others.
func (ms *members) abortResting() (running []*member) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		if m.client.Interrupt().End() {
			running = append(running, m)
		} else {
			m.client.Abort()
		}
	}
	return running
}

// abortAll ends all sessions wherever they are.
func (ms *members) abortAll() {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		m.client.Abort()
	}
}

// now is what the sessions are doing.
func (ms *members) now() (all metrics.Sessions) {
	now := time.Now()
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		pins := m.client.View().Pins
		for i := range all.OldestPins {
			if pins.Set&(1<<i) != 0 {
				all.OldestPins[i] = max(all.OldestPins[i], now.Sub(pins.Since))
			}
		}
		doing, since, _ := m.client.Interrupt().Activity()
		all.Clients[doing]++
		if !since.IsZero() {
			all.OldestTransactions[doing] = max(all.OldestTransactions[doing], now.Sub(since))
		}
	}
	return all
}

// end ends sessions, and returns once they are gone, or ctx has ended.
func (ms *members) end(ctx context.Context, all []*member, log *zap.Logger) {
	var g errgroup.Group
	g.SetLimit(64)
	for _, m := range all {
		g.Go(func() error { ms.endOne(ctx, m, log); return nil })
	}
	_ = g.Wait()
}

const (
	// endAgain is after how long it is tried again to end a session, and to cancel what runs for it, ever more rarely: a
	// server takes no notice of a request that comes before the statement.
	endAgain = 20 * time.Millisecond
	// endAnyway is how often before a session is ended whose statement goes on.
	endAnyway = 6
)

// endOne cancels what runs for a session, and ends it.
func (ms *members) endOne(ctx context.Context, m *member, log *zap.Logger) {
	for pause, n := endAgain, 0; ms.isIn(m); pause, n = min(2*pause, 16*endAgain), n+1 {
		request := m.client.Interrupt().BeginCancel()
		if !m.client.Interrupt().End() || n >= endAnyway {
			m.client.Abort()
		}
		if request != nil {
			if err := request(ctx); err != nil {
				log.Warn("a running statement could not be canceled", zap.Error(err))
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}
