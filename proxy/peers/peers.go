// Package peers hands cancel requests on to the other instances of the service. A cancel
// request comes over a connection of its own, so behind a balancer it reaches any instance,
// not the one that has its session. An instance that does not know the key asks its peers,
// once: what peers ask each other has a code of its own and is handed on to nobody.
//
// Anybody may send a request, so asking costs little: a request of at most the size of the
// one that came, to each peer, of which every peer gets a few at a time. A peer that does
// not answer holds up nobody but those who wait for it.
package peers

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Code takes the place of the protocol version in a request from a peer. It is no version
// that there can be, so that a server or an older instance refuses it.
const Code = 'p'<<24 | 'g'<<16 | 'w'<<8 | 'c'

// What a peer answers before it closes the connection.
const (
	Met     = 'Y' // the key was one of its sessions', and the request is dealt with
	Unknown = 'N'
)

const (
	timeout = 2 * time.Second // of one request to all peers
	most    = 8               // requests to one peer at a time
)

// Dial connects to an address, as net.Dialer's DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Peers are the other instances. Safe for concurrent use; nil has none.
type Peers struct {
	names []string // host:port; a host stands for all its addresses
	dial  Dial

	mu   sync.Mutex // protects busy
	busy map[string]chan struct{}
}

// New makes Peers of names with ports, which may be this instance's own, too. A nil dial is
// package net's.
func New(names []string, dial Dial) *Peers {
	if len(names) == 0 {
		return nil
	}
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return &Peers{names: names, dial: dial, busy: map[string]chan struct{}{}}
}

// Cancel asks all peers at the same time to deal with a cancel request for a key, as the
// client sent it: process number and secret. It returns whether one of them did, as soon
// as that is known.
func (p *Peers) Cancel(ctx context.Context, key []byte) (met bool) {
	if p == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request := binary.BigEndian.AppendUint32(nil, uint32(8+len(key)))
	request = append(binary.BigEndian.AppendUint32(request, Code), key...)
	answers := make(chan bool)
	var asked sync.WaitGroup
	for _, name := range p.names {
		asked.Go(func() {
			for _, address := range p.resolve(ctx, name) {
				asked.Go(func() {
					select {
					case answers <- p.ask(ctx, address, request):
					case <-ctx.Done():
					}
				})
			}
		})
	}
	go func() { asked.Wait(); close(answers) }()
	for met = range answers {
		if met {
			break
		}
	}
	cancel()
	asked.Wait()
	return met
}

// resolve returns the addresses of a name; none if it cannot be resolved, which is as if
// nobody answered there.
func (p *Peers) resolve(ctx context.Context, name string) (addresses []string) {
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		return nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return []string{name}
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		addresses = append(addresses, net.JoinHostPort(a.Unmap().String(), port))
	}
	return addresses
}

// ask sends a request to one peer and reports whether that dealt with it.
func (p *Peers) ask(ctx context.Context, address string, request []byte) (met bool) {
	slot := p.slot(address)
	select {
	case slot <- struct{}{}:
		defer func() { <-slot }()
	case <-ctx.Done():
		return false
	}
	conn, err := p.dial(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(request); err != nil {
		return false
	}
	var answer [1]byte
	n, _ := conn.Read(answer[:])
	return n == 1 && answer[0] == Met
}

// slot holds as many as may ask an address at a time.
func (p *Peers) slot(address string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy[address] == nil {
		if len(p.busy) >= maxAddresses {
			clear(p.busy)
		}
		p.busy[address] = make(chan struct{}, most)
	}
	return p.busy[address]
}

// maxAddresses bounds the addresses that are remembered: pods come and go.
const maxAddresses = 1000
