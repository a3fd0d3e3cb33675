package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/pgweir/pgweir/pool/cluster"
)

// dns finds a server at every address of names with ports.
type dns struct {
	names  []string
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error) // net.Resolver's LookupNetIP
}

// List implements Source. A name that does not exist now has no servers, if another has:
// the last one of a name may have gone.
func (d *dns) List(ctx context.Context) (found Found, err error) {
	var missing error
	for _, name := range d.names {
		members, err := d.resolve(ctx, name)
		var no *net.DNSError
		switch {
		case errors.As(err, &no) && no.IsNotFound:
			missing = err
		case err != nil:
			return Found{}, err
		}
		found.Members = append(found.Members, members...)
	}
	if len(found.Members) == 0 && missing != nil {
		return Found{}, missing
	}
	return found, nil
}

// resolve returns a name's servers. A server that has addresses of both kinds has one of
// each, so those of IPv6 count only where there are no others.
func (d *dns) resolve(ctx context.Context, name string) (members []cluster.Member, err error) {
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		return nil, err
	}
	addrs, err := d.lookup(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", host, err)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	if slices.ContainsFunc(addrs, netip.Addr.Is4) {
		addrs = slices.DeleteFunc(addrs, netip.Addr.Is6)
	}
	for _, a := range addrs {
		members = append(members, cluster.Member{Address: net.JoinHostPort(a.String(), port), TLSName: host, Weight: 1})
	}
	return members, nil
}
