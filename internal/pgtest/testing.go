package pgtest

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"sync"
	"time"
)

// TB is what this package needs of a testing.TB; naming it so keeps package testing
// out of the programs that use Start.
type TB interface {
	Helper()
	Name() string
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
	Cleanup(func())
}

// SkipShort leaves out a test that needs servers where "go test -short" asks for
// the others only ("make quick"). New and Shared call it themselves; a test that
// gets to Start by another way has to, or fails there.
func SkipShort(t TB) {
	t.Helper()
	if short() {
		t.Skip("needs PostgreSQL servers, left out by -short")
	}
}

// short tells whether this is a test binary run with -short.
func short() bool {
	f := flag.Lookup("test.short")
	return f != nil && f.Value.String() == "true"
}

// timeout bounds each step taken on a test's behalf.
const timeout = time.Minute

// New starts a cluster for one test and closes it at the test's end. A failure to
// start fails the test; only -short skips it. The logs of a failed test's servers
// are shown.
func New(t TB, o Options) *Cluster {
	t.Helper()
	SkipShort(t)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := Start(ctx, o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, s := range c.Servers() {
				t.Logf("the end of the log of %s:\n%s", s.Name, s.LogTail(30))
			}
		}
		if err := c.Close(); err != nil {
			t.Logf("close the cluster: %v", err)
		}
	})
	return c
}

var shared struct {
	once    sync.Once
	cluster *Cluster
	err     error
}

// Shared returns the cluster of this test binary, a primary with two replicas,
// started at the first call. Tests must not stop, promote or reconfigure its
// servers; each makes databases of its own with Database. Wrap TestMain's m with
// Suite to have it closed before the binary ends.
func Shared(t TB) *Cluster {
	t.Helper()
	SkipShort(t)
	shared.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		shared.cluster, shared.err = Start(ctx, Options{Replicas: 2})
	})
	if shared.err != nil {
		t.Fatalf("%v", shared.err)
	}
	return shared.cluster
}

// Suite wraps a *testing.M so that the shared cluster is closed after the tests:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite(m)) }
func Suite(m interface{ Run() int }) interface{ Run() int } { return suite{m} }

type suite struct{ m interface{ Run() int } }

func (s suite) Run() int {
	code := s.m.Run()
	if shared.cluster == nil {
		return code
	}
	if err := shared.cluster.Close(); err != nil {
		fmt.Println("close the shared cluster:", err)
		return max(code, 1)
	}
	return code
}

// Database makes an empty database for one test, known to all replicas when it
// returns, and drops it, with the connections it then has, at the test's end.
func (c *Cluster) Database(t TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	name := c.databaseName(t.Name())
	err := c.Exec(ctx, fmt.Sprintf("create database %q template template0", name))
	if err == nil {
		err = c.WaitReplay(ctx)
	}
	if err != nil {
		t.Fatalf("make a database: %v", err)
	}
	t.Cleanup(func() { c.dropDatabase(t, name) })
	return name
}

func (c *Cluster) dropDatabase(t TB, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if c.Primary.PID() == 0 {
		return // the test stopped it, and the database goes with the cluster
	}
	if err := c.Exec(ctx, fmt.Sprintf("drop database if exists %q with (force)", name)); err != nil {
		t.Logf("drop database %s: %v", name, err)
	}
}

// databaseName makes a plain identifier of at most 63 bytes from a test's name.
func (c *Cluster) databaseName(test string) string {
	c.mu.Lock()
	c.dbs++
	n := c.dbs
	c.mu.Unlock()
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, test)
	return fmt.Sprintf("t%d_%s", n, plain[:min(len(plain), 50)])
}

// Until asks again and again whether something has come true, for a while; the test fails if it
// has not.
func Until(t TB, patience time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}
