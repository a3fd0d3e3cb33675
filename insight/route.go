package insight

import (
	"maps"
	"sync/atomic"
	"time"
)

// Route is what is counted of the transactions that serve one kind of the application's
// requests. Without a name they are all those of the application that do not say. What
// belongs together outside of transactions counts as one.
//
// The names are fixed; the rest is atomic.
type Route struct {
	Database, Application string // Application without its version
	Name                  string

	transactions, statements atomic.Uint64
	squares                  atomic.Uint64 // of the statements of each
	took, idle               atomic.Uint64 // nanoseconds
}

// maxRoutes bounds the routes that are told apart, and maxRouteName their names, in bytes.
const (
	maxRoutes    = 1000
	maxRouteName = 100
)

// routeKey is how a route was asked for.
type routeKey struct{ database, application, name string }

// Route finds a route, or makes it; nil if the name is too long. name is as the application
// sent it, and shown makes of it what is to be seen. It takes no lock and allocates nothing if
// the route was asked for before.
func (b *Book) Route(database, application string, name []byte, shown func([]byte) string) *Route {
	if len(name) > maxRouteName {
		return nil
	}
	if r := (*b.routes.Load())[routeKey{database, application, string(name)}]; r != nil {
		return r
	}
	return b.addRoute(database, application, string(name), shown(name))
}

// addRoute makes a route under the name that was sent, which is another name of one that is
// there if that is shown by the same.
func (b *Book) addRoute(database, application, sent, shown string) *Route {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := *b.routes.Load()
	if r := all[routeKey{database, application, sent}]; r != nil {
		return r
	}
	if len(all) >= maxRoutes {
		return &b.otherRoute
	}
	r := all[routeKey{database, application, shown}]
	if r == nil {
		r = &Route{Database: database, Application: application, Name: shown}
	}
	all = maps.Clone(all)
	all[routeKey{database, application, sent}], all[routeKey{database, application, shown}] = r, r
	b.routes.Store(&all)
	return r
}

// served counts a transaction.
func (r *Route) served(u *unit) {
	n := uint64(u.statements)
	r.transactions.Add(1)
	r.statements.Add(n)
	r.squares.Add(n * n)
	r.took.Add(uint64(u.took))
	if u.idle > 0 {
		r.idle.Add(uint64(u.idle))
	}
}

// RouteCounts are what was counted of a Route.
type RouteCounts struct {
	Database     string        `json:"database,omitempty"`
	Application  string        `json:"application,omitempty"`
	Route        string        `json:"route,omitempty"`
	Transactions uint64        `json:"transactions"`
	Statements   uint64        `json:"statements"`
	Squares      uint64        `json:"squares"` // sum of the squares of each transaction's statements
	Took         time.Duration `json:"took,omitempty"`
	Idle         time.Duration `json:"idle,omitempty"` // waited for the application within transactions
}

func (n *RouteCounts) key() routeKey { return routeKey{n.Database, n.Application, n.Route} }

func (r *Route) exported() RouteCounts {
	return RouteCounts{
		Database: r.Database, Application: r.Application, Route: r.Name,
		Transactions: r.transactions.Load(), Statements: r.statements.Load(), Squares: r.squares.Load(),
		Took: time.Duration(r.took.Load()), Idle: time.Duration(r.idle.Load()),
	}
}

func (r *Route) add(n *RouteCounts) {
	r.transactions.Add(n.Transactions)
	r.statements.Add(n.Statements)
	r.squares.Add(n.Squares)
	r.took.Add(uint64(n.Took))
	r.idle.Add(uint64(n.Idle))
}

func (n *RouteCounts) subtract(o *RouteCounts) {
	n.Transactions, n.Statements, n.Squares = less(n.Transactions, o.Transactions), less(n.Statements, o.Statements), less(n.Squares, o.Squares)
	n.Took, n.Idle = time.Duration(less(uint64(n.Took), uint64(o.Took))), time.Duration(less(uint64(n.Idle), uint64(o.Idle)))
}
