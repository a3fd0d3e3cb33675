package proxy

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/console"
)

// operator carries out the commands of the admin console; what it shows is in operator_show.go.
type operator struct{ *Server }

var _ console.Service = operator{}

// known is the error of a database that clients cannot ask for; an empty name is all of them.
func (o operator) known(database string) error {
	if database == "" {
		return nil
	}
	cfg := o.Server.Config()
	if _, ok := cfg.Resolve("", database); ok && !cfg.Console.Is(database) {
		return nil
	}
	return wire.Errorf("3D000", "database \"%s\" does not exist", database).WithHint("SHOW DATABASES lists them.")
}

// Pause implements console.Service.
func (o operator) Pause(ctx context.Context, database string) error {
	if err := o.known(database); err != nil {
		return err
	}
	before := o.upstream.Paused(database)
	o.upstream.Pause(database)
	err := o.upstream.AwaitClosed(ctx, database)
	if err == nil {
		return nil
	}
	if !before {
		o.upstream.Resume(database)
	}
	return wire.Errorf("57014", "PAUSE is given up, and clients go on: %v", err).
		WithHint("SHOW TRANSACTIONS and SHOW PINS tell who holds server connections.")
}

// Resume implements console.Service.
func (o operator) Resume(database string) error {
	if err := o.known(database); err != nil {
		return err
	}
	if !o.upstream.Resume(database) {
		return wire.Errorf("55000", "database \"%s\" stays paused: all databases are", database).
			WithHint("RESUME without a name lets all of them go on.")
	}
	return nil
}

// Paused implements console.Service.
func (o operator) Paused() bool { return o.upstream.Paused("") }

// Reconnect implements console.Service.
func (o operator) Reconnect(database, server string) error {
	if err := o.known(database); err != nil {
		return err
	}
	if server != "" {
		if _, _, err := o.server(server); err != nil {
			return err
		}
	}
	o.upstream.Reconnect(database, server)
	return nil
}

// killWithin is how long KILL waits for the sessions that it ends.
const killWithin = 5 * time.Second

// Kill implements console.Service.
func (o operator) Kill(database string) error {
	if err := o.known(database); err != nil {
		return err
	}
	o.upstream.Pause(database)
	o.end(func(m *member) bool { return database == "" || m.up.Key.Database == database })
	o.upstream.Reconnect(database, "")
	return nil
}

// KillClient implements console.Service.
func (o operator) KillClient(id uint64) error {
	if o.end(func(m *member) bool { return m.client.View().ID == id }) == 0 {
		return wire.Errorf("22023", "no client has the id %d", id).WithHint("SHOW CLIENTS has them in its column id.")
	}
	return nil
}

// end ends the sessions that which names, and returns how many there were once they are gone.
func (o operator) end(which func(*member) bool) int {
	ctx, cancel := context.WithTimeout(o.ctx, killWithin)
	defer cancel()
	all := slices.DeleteFunc(o.members.appendTo(nil), func(m *member) bool { return !which(m) })
	o.members.end(ctx, all, o.log)
	return len(all)
}

// Enable implements console.Service.
func (o operator) Enable(database string, on bool) error {
	if err := o.known(database); err != nil {
		return err
	}
	o.consoles.mu.Lock()
	defer o.consoles.mu.Unlock()
	if on {
		delete(o.consoles.disabled, database)
	} else {
		o.consoles.disabled[database] = true
	}
	return nil
}

// EnableServer implements console.Service.
func (o operator) EnableServer(address string, on bool) error {
	cl, s, err := o.server(address)
	if err != nil {
		return err
	}
	if !on && cl.Topology().Primary == s {
		return wire.Errorf("55000", "%s is the primary, which everything needs", address).
			WithHint("Promote another server first, or PAUSE its databases.")
	}
	cl.Enable(s, on)
	return nil
}

// server finds a server by its address.
func (o operator) server(address string) (*cluster.Cluster, *cluster.Server, error) {
	for _, cl := range o.upstream.Clusters() {
		for _, st := range cl.Topology().States {
			if st.Server.Address == address {
				return cl.Cluster, st.Server, nil
			}
		}
	}
	return nil, nil, wire.Errorf("42704", "no server has the address \"%s\"", address).WithHint("SHOW TOPOLOGY lists them.")
}

// RoutePrimary implements console.Service.
func (o operator) RoutePrimary(on bool) {
	o.reloading.Lock()
	defer o.reloading.Unlock()
	o.consoles.onlyPrimary.Store(on)
	o.adopt(o.terms.Load())
}

// errNoOrders is of a service that nobody carries orders out for.
var errNoOrders = wire.Errorf("58000", "who runs this service does not take that order")

// Reload implements console.Service.
func (o operator) Reload() error {
	if o.consoles.orders.Reload == nil {
		return errNoOrders
	}
	return o.consoles.orders.Reload()
}

// Set implements console.Service.
func (o operator) Set(key, value string) error {
	if o.consoles.orders.Apply == nil {
		return errNoOrders
	}
	o.consoles.commanding.Lock()
	defer o.consoles.commanding.Unlock()
	before := o.Server.Config()
	next, err := before.With(key, value)
	if err != nil {
		return err
	}
	if faults := next.Validate(); len(faults) > 0 {
		return faults
	}
	if err := o.consoles.orders.Apply(next); err != nil {
		return err
	}
	for _, c := range next.Changes(before) {
		o.log.Info("configuration changed until it is reloaded", zap.Stringer("changed", c))
	}
	return nil
}

// Shutdown implements console.Service.
func (o operator) Shutdown(how console.Shutdown) error {
	if o.consoles.orders.Shutdown == nil {
		return errNoOrders
	}
	o.consoles.orders.Shutdown(how)
	return nil
}
