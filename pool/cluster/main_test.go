package cluster

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// errDown is conclusive.
var errDown = &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}

// fakes are servers that answer as they are told. It is a Prober.
type fakes struct {
	mu     sync.Mutex // protects the fields below
	says   map[int]Probe
	err    map[int]error
	hangs  map[int]bool // answers nothing until the probe's time is up
	probes int
	anew   int
	closed bool
}

func (f *fakes) Probe(ctx context.Context, s *Server, anew bool) (Probe, error) {
	f.mu.Lock()
	f.probes++
	if anew {
		f.anew++
	}
	p, err, hangs := f.says[index(s)], f.err[index(s)], f.hangs[index(s)]
	f.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return Probe{}, ctx.Err()
	}
	return p, err
}

func (f *fakes) Forget(*Server) {}

func (f *fakes) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
}

func (f *fakes) set(server int, p Probe, err error) {
	f.mu.Lock()
	f.says[server], f.err[server] = p, err
	f.mu.Unlock()
}

func (f *fakes) hang(server int) {
	f.mu.Lock()
	f.hangs[server] = true
	f.mu.Unlock()
}

func (f *fakes) thaw(server int) {
	f.mu.Lock()
	delete(f.hangs, server)
	f.mu.Unlock()
}

// forget begins to count anew.
func (f *fakes) forget() {
	f.mu.Lock()
	f.probes, f.anew = 0, 0
	f.mu.Unlock()
}

func (f *fakes) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.probes
}

func primary(timeline uint32) Probe { return Probe{Timeline: timeline, SystemID: "1", Version: 150000} }
func replica(timeline uint32) Probe {
	return Probe{InRecovery: true, Timeline: timeline, SystemID: "1", Version: 150000}
}

func servers(weights ...int) (ss []*Server) {
	for i, w := range weights {
		ss = append(ss, NewServer("server"+strconv.Itoa(i), w))
	}
	return ss
}

// index is a server's place among those that servers made.
func index(s *Server) int {
	i, err := strconv.Atoi(strings.TrimPrefix(s.Address, "server"))
	if err != nil {
		panic(err)
	}
	return i
}

// watched is a cluster with a running monitor.
type watched struct {
	*Cluster
	fakes   *fakes
	servers []*Server

	mu      sync.Mutex // protects changes
	changes []string
}

const (
	interval = time.Second
	slow     = time.Second
	timeout  = 5 * time.Second
)

// watch runs a monitor over servers that answer says, or let nobody log in for one
// that says nothing, for the length of a synctest bubble.
func watch(t *testing.T, says ...Probe) *watched {
	t.Helper()
	w := &watched{fakes: &fakes{says: map[int]Probe{}, err: map[int]error{}, hangs: map[int]bool{}}}
	weights := make([]int, len(says))
	for i, p := range says {
		weights[i] = 1
		if w.fakes.says[i] = p; p == (Probe{}) {
			w.fakes.err[i] = ErrNoLogin
		}
	}
	w.servers = servers(weights...)
	w.Cluster = New(Options{
		Name: "c", Servers: w.servers, Interval: interval, Slow: slow, Timeout: func() time.Duration { return timeout }, Prober: w.fakes,
		Changed: func(before, after *Topology) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, st := range after.States {
				if old := before.State(st.Server); st.Status != old.Status || st.Role != old.Role {
					w.changes = append(w.changes, fmt.Sprintf("%s %s %s", st.Server.Address, st.Role, st.Status))
				}
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if !w.fakes.closed {
			t.Error("the prober is not closed")
		}
	})
	return w
}

func (w *watched) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := w.changes
	w.changes = nil
	return told
}
