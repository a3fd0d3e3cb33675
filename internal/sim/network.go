package sim

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Kind is what a Fault does.
type Kind string

// The kinds of faults of one connection.
const (
	Cut     Kind = "cut"     // it is reset once so many bytes arrived
	Silence Kind = "silence" // nothing more arrives in this direction
	Refused Kind = "refused" // it cannot be opened
	Hang    Kind = "hang"    // it is never opened, nor refused
)

// Fault happens to one connection: the Nth (from 0) that From opens to To, or the one over which
// the Step-th step (from 1) goes that has a marker.
type Fault struct {
	From, To string
	Nth      int
	Step     int  // 0 is none
	Back     bool // of the bytes from To to From
	Byte     int  // counted from the connection's beginning, or from the step
	Kind     Kind
}

func (f *Fault) String() string {
	s := fmt.Sprintf("%s: connection %d of %s to %s", f.Kind, f.Nth, f.From, f.To)
	if f.Step > 0 {
		s = fmt.Sprintf("%s: step %d that %s sends to %s", f.Kind, f.Step, f.From, f.To)
	}
	if f.Kind == Cut || f.Kind == Silence {
		way := "sent"
		if f.Back {
			way = "answered"
		}
		s += fmt.Sprintf(", after %d bytes %s", f.Byte, way)
	}
	return s
}

// Network is what connections go over: hosts that listen, and how their bytes travel.
// Safe for concurrent use.
type Network struct {
	seed   Seed
	delay  delays
	faults []Fault
	note   func(what string) // told of faults as they happen

	mu     sync.Mutex // protects the fields below
	hosts  map[string]*listener
	names  map[string]string // of hosts, that lead to addresses
	opened map[string]int    // by from and to
	steps  map[*Fault]int    // that went from and to where it happens
	links  []*link
	dead   bool
}

// link is a connection.
type link struct {
	from, to    string
	forth, back *pipe
	note        func(what string)
	awaits      []*Fault // that happen at a step
}

// NewNetwork makes a network of which nothing is known but its faults.
func NewNetwork(seed Seed, d delays, faults []Fault, note func(string)) *Network {
	return &Network{
		seed: seed, delay: d, faults: faults, note: note,
		hosts: map[string]*listener{}, names: map[string]string{}, opened: map[string]int{}, steps: map[*Fault]int{},
	}
}

// listener accepts connections to a host.
type listener struct {
	n     *Network
	addr  address
	queue chan *Conn
	done  chan struct{}
	once  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: net.ErrClosed}
	}
}

// Close makes connections to the host refused from now on.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.n.hosts[string(l.addr)] == l {
		delete(l.n.hosts, string(l.addr))
	}
	return nil
}

func (l *listener) Addr() net.Addr { return l.addr }

// Listen takes an address, as net.Listen does.
func (n *Network) Listen(_, addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	l := &listener{n: n, addr: address(addr), queue: make(chan *Conn, 64), done: make(chan struct{})}
	n.hosts[addr] = l
	return l, nil
}

// Name makes a host's name lead to an address, both with port.
func (n *Network) Name(name, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[name] = addr
}

// Exchange makes two names lead to each other's address. Connections stay where they are.
func (n *Network) Exchange(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[a], n.names[b] = n.names[b], n.names[a]
}

// Dialer returns how a host connects to others.
func (n *Network) Dialer(from string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		c, err := n.dial(ctx, from, addr)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(addr), Err: err}
		}
		return c, nil
	}
}

func (n *Network) dial(ctx context.Context, from, name string) (*Conn, error) {
	n.mu.Lock()
	to, known := n.names[name]
	if !known {
		to = name
	}
	if h, _, _ := net.SplitHostPort(to); net.ParseIP(h) == nil && n.hosts[to] == nil {
		n.mu.Unlock()
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	key := from + ">" + to
	nth := n.opened[key]
	n.opened[key]++
	n.mu.Unlock()
	var fault *Fault
	for i := range n.faults {
		if f := &n.faults[i]; f.From == from && n.resolves(f.To, to) && f.Nth == nth && f.Step == 0 {
			fault = f
		}
	}
	r := n.seed.stream("dial", key, nth)
	wait := n.delay.draw(r)
	if fault != nil && fault.Kind == Hang {
		n.note(fault.String())
		wait = time.Hour
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if fault != nil && fault.Kind == Refused {
		n.note(fault.String())
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	if fault != nil && fault.Kind == Hang {
		return nil, os.NewSyscallError("connect", syscall.ETIMEDOUT)
	}
	return n.connect(from, to, nth, fault)
}

// resolves reports whether a name or address is the address.
func (n *Network) resolves(name, addr string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return name == addr || n.names[name] == addr
}

// connect makes a connection that is accepted.
func (n *Network) connect(from, to string, nth int, fault *Fault) (*Conn, error) {
	k := newLink(from, to, nth, n.seed, n.delay, n.note)
	switch {
	case fault == nil:
	case fault.Back:
		k.back.fail(fault)
	default:
		k.forth.fail(fault)
	}
	for i := range n.faults {
		if f := &n.faults[i]; f.Step > 0 && f.From == from && n.resolves(f.To, to) {
			k.awaits = append(k.awaits, f)
		}
	}
	if len(k.awaits) > 0 {
		k.forth.passes = func(of piece) { n.pass(k, of) }
	}
	here := address(fmt.Sprintf("%s:%d", strings.TrimSuffix(from, ":6432"), 40000+nth))
	ours := &Conn{in: k.back, out: k.forth, local: here, remote: address(to)}
	theirs := &Conn{in: k.forth, out: k.back, local: address(to), remote: here}
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.hosts[to]
	if l == nil || n.dead {
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	select {
	case l.queue <- theirs:
	default: // the backlog is full
		return nil, os.NewSyscallError("connect", syscall.ETIMEDOUT)
	}
	n.links = append(n.links, k)
	return ours, nil
}

// pass counts the steps among bytes that arrived, and has the fault happen whose turn it is.
func (n *Network) pass(k *link, of piece) {
	if !markers.Match(of) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range k.awaits {
		if n.steps[f]++; n.steps[f] != f.Step {
			continue
		}
		p := k.forth
		if f.Back {
			p = k.back
		}
		p.fail(f)
	}
}

func newLink(from, to string, nth int, seed Seed, d delays, note func(string)) *link {
	k := &link{from: from, to: to, note: note}
	k.forth, k.back = newPipe(k, seed.stream("forth", from, to, nth), d), newPipe(k, seed.stream("back", from, to, nth), d)
	return k
}

func (k *link) reset() {
	k.forth.breakOff()
	k.back.breakOff()
}

// of lists the connections to or from a host.
func (n *Network) of(host string) (of []*link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range n.links {
		if k.from == host || k.to == host {
			of = append(of, k)
		}
	}
	return of
}

// Reset breaks all connections to and from a host.
func (n *Network) Reset(host string) {
	for _, k := range n.of(host) {
		k.reset()
	}
}

// Refuse has nobody listen at an address any more.
func (n *Network) Refuse(addr string) {
	n.mu.Lock()
	l := n.hosts[addr]
	n.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
}

// Freeze holds up all bytes to and from a host, of the connections there are, until it is
// called with false.
func (n *Network) Freeze(host string, on bool) {
	for _, k := range n.of(host) {
		k.forth.hold(on)
		k.back.hold(on)
	}
}

// Close breaks every connection and refuses new ones.
func (n *Network) Close() {
	n.mu.Lock()
	n.dead = true
	links, hosts := n.links, n.hosts
	n.links, n.hosts = nil, map[string]*listener{}
	n.mu.Unlock()
	for _, k := range links {
		k.reset()
	}
	for _, l := range hosts {
		l.once.Do(func() { close(l.done) })
	}
}

var _ io.ReadWriteCloser = (*Conn)(nil)
var _ net.Conn = (*Conn)(nil)
