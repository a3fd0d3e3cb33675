package probe

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite(m)) }

// dialer opens connections to the shared cluster's servers, and counts them.
type dialer struct {
	opened  atomic.Int64
	last    *backend.Backend
	refuses error
}

func (d *dialer) open(ctx context.Context, s *cluster.Server) (*backend.Backend, error) {
	if d.refuses != nil {
		return nil, d.refuses
	}
	addr, err := backend.ParseAddress(s.Address)
	if err != nil {
		return nil, err
	}
	l, err := backend.Open(ctx, backend.Options{Address: addr}, backend.Credentials{User: pgtest.Superuser}, "postgres", nil)
	if err != nil {
		return nil, err
	}
	d.opened.Add(1)
	d.last = backend.New(l, 1)
	return d.last, nil
}

// shared returns the shared cluster with its primary and first replica as package cluster sees them.
func shared(t *testing.T) (c *pgtest.Cluster, primary, replica *cluster.Server) {
	t.Helper()
	c = pgtest.Shared(t)
	return c, cluster.NewServer(c.Primary.Addr(), 1), cluster.NewServer(c.Replicas[0].Addr(), 1)
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestProbe(t *testing.T) {
	c, primary, replica := shared(t)
	ctx := bounded(t)
	d := &dialer{}
	p := NewProber(d.open, Auto, 10*time.Second, time.Hour)
	defer p.Close()
	id, err := c.Primary.Value(ctx, "postgres", "select system_identifier::text from pg_control_system()")
	if err != nil {
		t.Fatal(err)
	}
	for s, recovers := range map[*cluster.Server]bool{primary: false, replica: true} {
		found, err := p.Probe(ctx, s, false)
		if err != nil {
			t.Fatal(err)
		}
		if found.InRecovery != recovers || found.SystemID != id || found.Timeline != 1 ||
			found.Version < 130000 || found.Started == "" || found.LSN == 0 {
			t.Errorf("%s: %+v", s.Address, found)
		}
	}
}

// A kept connection is used again, unless it is too old, closed, or not to be relied on.
func TestKeptConnection(t *testing.T) {
	_, primary, _ := shared(t)
	ctx := bounded(t)
	d := &dialer{}
	p := NewProber(d.open, Auto, 10*time.Second, time.Hour)
	defer p.Close()
	ask := func(anew bool, opened int64) {
		t.Helper()
		if _, err := p.Probe(ctx, primary, anew); err != nil {
			t.Fatal(err)
		}
		if n := d.opened.Load(); n != opened {
			t.Errorf("%d connections opened, want %d", n, opened)
		}
	}
	ask(false, 1)
	ask(false, 1)
	ask(true, 2)
	_ = d.last.Conn.Close()
	ask(false, 3)
	p.renew = 0
	ask(true, 4)
	ask(false, 5)

	// A login that is refused is no proof that the server is down while a kept connection answers.
	d.refuses = context.DeadlineExceeded
	ask(false, 5)
	d.refuses = cluster.ErrNoLogin
	if _, err := p.Probe(ctx, primary, true); err != cluster.ErrNoLogin {
		t.Errorf("without a login: %v", err)
	}
}

func TestSample(t *testing.T) {
	c, primary, replica := shared(t)
	ctx := bounded(t)
	d := &dialer{}
	sm := NewSampler(d.open, Auto)
	defer sm.Close()
	first, err := sm.Written(ctx, primary)
	if err != nil {
		t.Fatal(err)
	}
	if first.Inserted == 0 || first.Flushed > first.Inserted || first.Delay <= delayMargin {
		t.Errorf("%+v", first)
	}
	if err := c.Primary.Exec(ctx, "postgres", "create table sampled(i int); drop table sampled"); err != nil {
		t.Fatal(err)
	}
	second, err := sm.Written(ctx, primary)
	if err != nil || second.Inserted <= first.Inserted {
		t.Fatalf("%v after %v: %v", second.Inserted, first.Inserted, err)
	}
	for {
		replayed, err := sm.Replayed(ctx, replica)
		if err != nil {
			t.Fatalf("%v is not replayed: %v", second.Inserted, err)
		}
		if replayed.LSN >= second.Inserted {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := d.opened.Load(); n != 2 {
		t.Errorf("%d connections opened for two servers", n)
	}
	if _, err := sm.Replayed(ctx, primary); err == nil {
		t.Error("a primary replays nothing")
	}
}
