package auth

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// maxDoublings bounds a delay at thirty-two times the first.
	maxDoublings = 5
	// forgetFailures is how long without a failure makes a key new again.
	forgetFailures = 5 * time.Minute
)

// delays slows failures down, by address and user: nobody is delayed because of
// what another address did. It is bounded; the longest unused keys go first.
type delays struct {
	base time.Duration // 0 turns it off
	*noted
}

// noted are the failures of late. Several delays may share them.
type noted struct {
	mu    sync.Mutex // protects the fields below
	slots *simplelru.LRU[cacheKey, failures]
}

type failures struct {
	n     int
	until time.Time // when the answer to the latest is due
}

func newDelays(base time.Duration) *delays {
	slots, err := simplelru.NewLRU[cacheKey, failures](cacheSize, nil)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &delays{base: base, noted: &noted{slots: slots}}
}

// with are delays that begin with another one, of the same failures.
func (d *delays) with(base time.Duration) *delays { return &delays{base: base, noted: d.noted} }

// delayKey joins a client's address without the port and a user. Who has one IPv6
// address has the 2^64 of its network.
func delayKey(remoteAddr, user string) cacheKey {
	host, _, err := net.SplitHostPort(remoteAddr)
	if err != nil {
		host = remoteAddr
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap().WithZone("")
		if ip.Is6() {
			if network, err := ip.Prefix(64); err == nil {
				ip = network.Addr()
			}
		}
		host = ip.String()
	}
	return keyOf(host, user)
}

// wait returns when the answer to the key's latest failure is due.
func (d *delays) wait(ctx context.Context, key cacheKey) error {
	d.mu.Lock()
	f, _ := d.slots.Get(key)
	d.mu.Unlock()
	return sleepUntil(ctx, f.until)
}

// failed notes a failure and returns when its answer is due.
func (d *delays) failed(ctx context.Context, key cacheKey) error {
	if d.base <= 0 {
		return nil
	}
	return sleepUntil(ctx, d.note(key, time.Now()))
}

func (d *delays) note(key cacheKey, now time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, _ := d.slots.Get(key)
	if now.Sub(f.until) > forgetFailures {
		f = failures{}
	}
	f.until = now.Add(d.base << min(f.n, maxDoublings))
	f.n++
	d.slots.Add(key, f)
	return f.until
}

// succeeded forgets the key's failures.
func (d *delays) succeeded(key cacheKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slots.Remove(key)
}

func sleepUntil(ctx context.Context, t time.Time) error {
	wait := time.Until(t)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
