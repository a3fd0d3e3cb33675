// Package simpg is a small model of a PostgreSQL cluster in one process: a primary and
// streaming replicas that speak the protocol over any net.Conn and keep PostgreSQL's
// rules for sessions, transactions, row security, the log and its replay. Tests run the
// real proxy against it, in a synctest bubble and under a seed, where every moment of a
// fault can be chosen. It is held to PostgreSQL by playing the same scripts on both: what
// differs is a fault of the model.
//
// Statements are parsed by PostgreSQL's parser. What the language has is what tests need;
// a statement beyond it is answered with 0A000 and a message that begins with "simpg:",
// so that nobody takes it for an answer of PostgreSQL.
//
// Time is time.Now, so it is virtual in a bubble. Nothing runs by itself but a goroutine
// for each connection (Serve): what is flushed and replayed by now is worked out when
// somebody asks. Connections must honour deadlines, which is how a session that waits for
// its client is reached.
package simpg

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
)

// Superuser is the role that every cluster has.
const Superuser = "postgres"

// Options are how a cluster begins.
type Options struct {
	Seed     uint64
	Replicas int // named replica1, replica2, …
	// Databases besides postgres.
	Databases []string
	// Setup is SQL run on the primary by the superuser before anything else, in each of
	// Databases (postgres if there are none).
	Setup string
	// Image, if given, is what the cluster begins with instead of Databases and Setup.
	Image *Image
	// SCRAM has everybody prove a password; else everybody is trusted. Iterations is
	// what new passwords are hashed with, 4096 where it is zero.
	SCRAM      bool
	Iterations int
	// Slots bounds the connections of each server; 0 is no bound.
	Slots int
	// Version is server_version_num; 0 is 150018.
	Version int
	// Parameters are what postgresql.conf says besides the defaults.
	Parameters map[string]string
	// Work, if given, is how long a statement takes before it does anything. It is called
	// with the cluster's lock held, by random numbers of the session's own.
	Work func(r *rand.Rand, text string) time.Duration
	// Observer, if given, is told of each statement when it is over, in the order in which they end: with
	// the cluster's lock held. It must return without waiting and must not call the cluster.
	Observer func(e *Event)
	// Synchronous names standbys that COMMIT waits for where synchronous_commit says so.
	Synchronous []string
}

// Cluster is a primary with its replicas. All methods may be called concurrently.
type Cluster struct {
	options  Options
	systemID string

	mu       sync.Mutex // protects everything below, and all of servers and sessions
	servers  []*Server
	timeline uint32
	tx       uint64 // counts transactions
	serial   uint32 // counts connections
	rows     int64  // counts rows
	starts   int    // counts starts of servers
}

// New makes a cluster whose servers run. The error is that of Setup.
func New(o Options) (*Cluster, error) {
	if o.Version == 0 {
		o.Version = 150018
	}
	if o.Iterations == 0 {
		o.Iterations = 4096
	}
	c := &Cluster{options: o, timeline: 1, systemID: fmt.Sprint(7000000000000000000 + o.Seed%1000000)}
	image := o.Image
	if image == nil {
		image = &Image{state: initdb(o.Databases)}
	}
	c.rows = image.rows
	log := []record{{end: firstLSN, state: image.state, timeline: 1}}
	for i := range 1 + o.Replicas {
		name := "primary"
		if i > 0 {
			name = fmt.Sprint("replica", i)
		}
		s := &Server{cluster: c, Name: name, log: slices.Clone(log), strangers: map[*link]bool{}, locks: map[any][]rowLock{}, advisory: map[advisoryKey]*advisoryLock{}}
		if i > 0 {
			s.upstream = c.servers[0]
		}
		c.servers = append(c.servers, s)
		s.start()
		maps.Copy(s.drawn, image.drawn)
	}
	if o.Setup == "" || o.Image != nil {
		return c, nil
	}
	databases := o.Databases
	if len(databases) == 0 {
		databases = []string{"postgres"}
	}
	for _, d := range databases {
		if err := c.Exec(d, o.Setup); err != nil {
			return nil, err
		}
	}
	c.CatchUp()
	return c, nil
}

// initdb is the data of a cluster that is new.
func initdb(databases []string) *state {
	s := newState()
	s.roles[Superuser] = &role{oid: 10, login: true, super: true, bypassRLS: true}
	for i, name := range append([]string{"postgres"}, databases...) {
		s.databases[name] = newDatabase(uint32(16000 + i))
	}
	return s
}

// Image is the data of a cluster at one moment, which any number of others may begin with:
// that costs nothing. It does not change.
type Image struct {
	state *state
	rows  int64
	drawn map[string]int64
}

// Image returns the data of the primary, which must run.
func (c *Cluster) Image() *Image {
	p := c.Primary()
	c.mu.Lock()
	defer c.mu.Unlock()
	return &Image{p.now().state, c.rows, maps.Clone(p.drawn)}
}

// Exec runs SQL on the primary as the superuser. The error is an *Error, or that there is
// no primary.
func (c *Cluster) Exec(database, sql string) error {
	_, err := c.Query(database, sql)
	return err
}

// Query is Exec and returns the rows of the last statement that has any, as text; NULL is
// "NULL".
func (c *Cluster) Query(database, sql string) ([][]string, error) {
	p := c.Primary()
	if p == nil {
		return nil, fmt.Errorf("simpg: no primary runs")
	}
	return p.Query(database, sql)
}

// Query runs SQL on one server as the superuser and returns the rows of the last statement
// that has any, as text; NULL is "NULL". It takes no slot.
func (s *Server) Query(database, sql string) ([][]string, error) {
	se, err := s.local(database)
	if err != nil {
		return nil, err
	}
	return se.runLocal(sql)
}

// Servers are the primary of the beginning and the replicas, in order.
func (c *Cluster) Servers() []*Server { return c.servers }

// Server returns a server by its name, nil if there is none.
func (c *Cluster) Server(name string) *Server {
	for _, s := range c.servers {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// Primary returns the server that runs and takes writes on the newest timeline; nil if none does.
func (c *Cluster) Primary() (p *Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		if s.running && s.upstream == nil && (p == nil || s.line() > p.line()) {
			p = s
		}
	}
	return p
}

// Close ends every connection.
func (c *Cluster) Close() {
	for _, s := range c.servers {
		s.Crash()
	}
}

// firstLSN is where the log begins.
const firstLSN lsn.LSN = 0x3000060
