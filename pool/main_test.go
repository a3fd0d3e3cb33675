package pool

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a server in memory. It answers whatever it is sent with ReadyForQuery,
// and counts the connections it has.
type fake struct {
	dial    func(ctx context.Context) error // before a connection is made; may be nil
	gone    atomic.Bool                     // refuses connections
	open    atomic.Int64
	most    atomic.Int64 // open connections at one time
	dialled atomic.Int64
	counts  []*fake // further ones that count its connections
	answer  []byte  // to each write; nil is ReadyForQuery
}

func (f *fake) count(n int64) {
	now := f.open.Add(n)
	for most := f.most.Load(); now > most && !f.most.CompareAndSwap(most, now); most = f.most.Load() {
	}
	for _, c := range f.counts {
		c.count(n)
	}
}

var errRefused = errors.New("connection refused")

func (f *fake) connect(ctx context.Context) (*backend.Backend, error) {
	f.dialled.Add(1)
	if f.dial != nil {
		if err := f.dial(ctx); err != nil {
			return nil, err
		}
	}
	if f.gone.Load() {
		return nil, errRefused
	}
	f.count(1)
	return backend.New(&backend.Login{Conn: &fakeConn{f: f}, Parameters: map[string]string{}}, 10), nil
}

// fakeConn is the proxy's end of a connection to a fake.
type fakeConn struct {
	f    *fake
	once sync.Once

	mu     sync.Mutex // protects answer
	answer []byte
}

func (c *fakeConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case p[0] == wire.Terminate:
	case c.f.answer != nil:
		c.answer = append(c.answer, c.f.answer...)
	default:
		c.answer = wire.AppendReady(c.answer, wire.TxIdle)
	}
	return len(p), nil
}

func (c *fakeConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answer) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.answer)
	c.answer = c.answer[n:]
	return n, nil
}

func (c *fakeConn) Close() error {
	c.once.Do(func() { c.f.count(-1) })
	return nil
}

func (c *fakeConn) LocalAddr() net.Addr              { return &net.IPAddr{} }
func (c *fakeConn) RemoteAddr() net.Addr             { return &net.IPAddr{} }
func (c *fakeConn) SetDeadline(time.Time) error      { return nil }
func (c *fakeConn) SetReadDeadline(time.Time) error  { return nil }
func (c *fakeConn) SetWriteDeadline(time.Time) error { return nil }

// patient waits as long as a context lets it.
type patient struct{ ctx context.Context }

func (p patient) SlowContext() context.Context { return p.ctx }

// always waits as long as the pool lets it.
var always = patient{context.Background()}

// mustAcquire takes a connection or fails the test.
func mustAcquire(t *testing.T, p *Pool, want Want) *backend.Backend {
	t.Helper()
	b, err := p.Acquire(want, always)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantStats compares the counts of a pool's connections.
func wantStats(t *testing.T, p *Pool, open, idle, used, waiting int) {
	t.Helper()
	if st := p.Stats(); st.Open != open || st.Idle != idle || st.Used != used || st.Waiting != waiting || st.Dialing != 0 {
		t.Errorf("open, idle, used, waiting, dialing = %d, %d, %d, %d, %d; want %d, %d, %d, %d, 0",
			st.Open, st.Idle, st.Used, st.Waiting, st.Dialing, open, idle, used, waiting)
	}
}
