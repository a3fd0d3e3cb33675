package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/router"
)

// directory is one of a cluster of two servers, neither of which is there.
func directory(t *testing.T, service config.Service) *Directory {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	dir := New(ctx, Options{
		Pool: config.Default().Pool, Routing: config.Default().Routing, Log: zap.NewNop(),
		Audit: audit.New(config.Tenant{}, zap.NewNop()), Rules: func(string) []config.Rule { return nil },
		CloseHeld: func(*cluster.Server) int { return 0 }, LoginsChanged: func() {},
	})
	c := config.Cluster{Service: service, Sources: config.Sources{Servers: []config.Server{{Address: "127.0.0.1:1"}, {Address: "127.0.0.1:2"}}}}
	c.TLS.Mode = "disable"
	watch := func(*Account, config.Cluster) (cluster.Prober, cluster.Sampler) { return nil, nil }
	require.NoError(t, dir.AddCluster("main", c, watch))
	t.Cleanup(func() { cancel(); dir.Close() })
	return dir
}

// inForce has Enter find terms in force.
func inForce(eff config.Effective, cred backend.Credentials) func() (config.Effective, backend.Credentials, error) {
	return func() (config.Effective, backend.Credentials, error) { return eff, cred, nil }
}

func effective(database string) config.Effective {
	return config.Effective{Cluster: "main", Database: database, ServerUser: "app", PoolSize: 1}
}

// TestFind: users of a database share it, whatever name clients know it by, and each
// user has pools of its own.
func TestFind(t *testing.T) {
	dir := directory(t, config.Service{})
	find := func(key Key, eff config.Effective, cred backend.Credentials) *Pools {
		p, _, _ := dir.Enter(key, inForce(eff, cred))
		return p
	}
	ann := find(Key{"ann", "shop"}, effective("shop"), backend.Credentials{User: "ann"})
	bob := find(Key{"bob", "alias"}, effective("shop"), backend.Credentials{User: "bob"})
	other := find(Key{"ann", "stock"}, effective("stock"), backend.Credentials{User: "ann"})
	require.Same(t, ann, find(Key{"ann", "shop"}, effective("shop"), backend.Credentials{User: "ann", Password: "new"}))
	require.Equal(t, "new", ann.Credentials().Password)
	require.Same(t, ann.Database, bob.Database)
	require.NotSame(t, ann.Database, other.Database)
	require.Equal(t, "main/shop", ann.Database.Label())
	require.Equal(t, []string{"app"}, dir.logins(ann.Database))
	first := ann.Cluster.Topology().States[0].Server
	require.NotSame(t, ann.Of(first), bob.Of(first))
	require.Len(t, dir.Pools(), 3)
	require.Len(t, dir.Databases(), 2)
}

// TestForget: what nobody could log in with is dropped, with its database if nobody else
// uses that; not while another client tries.
func TestForget(t *testing.T) {
	dir := directory(t, config.Service{})
	p, n, _ := dir.Enter(Key{"ann", "none"}, inForce(effective("none"), backend.Credentials{}))
	require.EqualValues(t, 1, n)
	_, n, _ = dir.Enter(Key{"ann", "none"}, inForce(effective("none"), backend.Credentials{}))
	require.EqualValues(t, 2, n)
	dir.Forget(p)
	require.Len(t, dir.Pools(), 1)
	p.Leave()
	dir.Forget(p)
	require.Empty(t, dir.Pools())
	require.Empty(t, dir.Databases())
	require.Error(t, p.Database.ctx.Err())
}

// TestForgetUnused: pools that have had no client for a while go, and with the last of them
// their database, of which all counts as just committed if it is used again.
func TestForgetUnused(t *testing.T) {
	dir := directory(t, config.Service{})
	enter := func(user string) *Pools {
		p, _, _ := dir.Enter(Key{user, "shop"}, inForce(effective("shop"), backend.Credentials{User: user}))
		return p
	}
	ann, bob := enter("ann"), enter("bob")
	read := freshness.Read{Level: router.Database, Began: cluster.Now()}
	require.Equal(t, cluster.AnyTime, ann.Database.Commits.Required(&read))
	ann.Leave()
	now := time.Now()
	dir.Maintain(now.Add(14 * time.Minute))
	require.Len(t, dir.Pools(), 2)
	dir.Maintain(now.Add(16 * time.Minute))
	require.Equal(t, []*Pools{bob}, dir.Pools(), "bob is there")
	again := enter("ann")
	require.NotSame(t, ann, again)
	require.Same(t, bob.Database, again.Database)
	bob.Leave()
	again.Leave()
	dir.Maintain(time.Now().Add(16 * time.Minute))
	require.Empty(t, dir.Pools())
	require.Empty(t, dir.Databases())
	require.Error(t, bob.Database.ctx.Err())
	require.GreaterOrEqual(t, enter("ann").Database.Commits.Required(&read), read.Began)
}

// TestFallback: without an account of its own the proxy uses a client's login, a proven
// one rather than one that is not.
func TestFallback(t *testing.T) {
	dir := directory(t, config.Service{})
	a := dir.Clusters()["main"].Account
	_, err := a.Open(t.Context(), dir.Clusters()["main"].Topology().States[0].Server, "")
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "no server is there to be logged in to")
	a.OfferFallback(backend.Credentials{User: "ann"}, "shop")
	a.offer(login{backend.Credentials{User: "bob"}, "shop", true})
	a.OfferFallback(backend.Credentials{User: "ann"}, "shop")
	require.Equal(t, "bob", a.fallback.Load().cred.User)

	own := directory(t, config.Service{User: "pgweir"}).Clusters()["main"].Account
	own.OfferFallback(backend.Credentials{User: "ann"}, "shop")
	require.Nil(t, own.fallback.Load())
}

// TestKnock: a server that nobody can log in to yet is connected to, now and then, to see whether it is there.
func TestKnock(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	d, server := dialer{}, &cluster.Server{Address: l.Addr().String()}
	d.access.Store(&access{timeout: time.Minute})
	k := knocks{every: time.Hour}
	for range 3 {
		require.NoError(t, k.knock(t.Context(), server, d.connectOnly))
	}
	accepted, err := l.Accept()
	require.NoError(t, err)
	_, err = accepted.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "a server makes no word of who says none")
	_ = accepted.Close()
	_ = l.Close()
	require.NoError(t, k.knock(t.Context(), server, d.connectOnly), "it was there a moment ago")
	k.every = 0
	require.ErrorIs(t, k.knock(t.Context(), server, d.connectOnly), syscall.ECONNREFUSED)
}

// TestStale: DDL makes the catalog stale, and what one caused itself can be told apart.
func TestStale(t *testing.T) {
	p, _, _ := directory(t, config.Service{}).Enter(Key{"ann", "shop"}, inForce(effective("shop"), backend.Credentials{}))
	d := p.Database
	require.False(t, d.Stale())
	require.True(t, d.Knows(d.Plans.Version()))
	d.CatalogChanged(Change{})
	require.True(t, d.Stale())
	require.False(t, d.Knows(d.Plans.Version()))
	require.False(t, d.RedefinedByOthers(0), "nothing was redefined")
	d.CatalogChanged(Change{Redefines: true})
	require.False(t, d.RedefinedByOthers(1))
	require.True(t, d.RedefinedByOthers(0))
	require.Zero(t, d.Removals())
	d.CatalogChanged(Change{Removes: true})
	require.EqualValues(t, 1, d.Removals())
	require.EqualValues(t, 3, d.Definitions())
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	d.AwaitCatalog(ctx)
	require.Less(t, time.Since(began), catalogWait)
}

func TestErrors(t *testing.T) {
	refused := func(code string) error {
		return &backend.ServerError{Frame: wire.Errorf(code, "because").Append(nil)}
	}
	for _, c := range []struct {
		err                 error
		unreachable, cutOff bool
	}{
		{nil, false, false},
		{context.Canceled, false, true},
		{pool.ErrGone, true, true},
		{fmt.Errorf("dial: %w", &net.OpError{Op: "dial", Err: errors.New("refused")}), true, true},
		{io.ErrUnexpectedEOF, true, true},
		{&pgconn.PgError{Code: "57P03"}, true, true},
		{&pgconn.PgError{Code: "28P01"}, false, true},
		{refused("57P01"), false, true},
		{refused("42601"), false, false},
	} {
		require.Equal(t, c.unreachable, Unreachable(c.err), "%v", c.err)
		require.Equal(t, c.cutOff, CutOff(c.err), "%v", c.err)
	}
}

func TestCustoms(t *testing.T) {
	var cs Customs
	for _, name := range []string{"app.tenant", "work_mem", "plpgsql.check_asserts", "app.tenant"} {
		cs.Add(name)
	}
	require.True(t, cs.Known("app.tenant"))
	require.False(t, cs.Known("work_mem"), "it is PostgreSQL's")
	require.False(t, cs.Known("plpgsql.check_asserts"), "an extension checks it")
	require.EqualValues(t, 1, cs.n.Load())
}

// TestExpectations: a connection is held for a question that comes now and then, and no more
// for one that never comes.
func TestExpectations(t *testing.T) {
	var s Sequences
	insert := func(table string) *Expectation {
		return s.Expect(&router.Plan{Flags: router.FlagDraws, Relations: []string{table}})
	}
	for range patience {
		require.True(t, insert("t").Likely())
		insert("t").Missed()
	}
	require.False(t, insert("t").Likely())
	require.True(t, insert("u").Likely(), "tables are learned apart")
	insert("t").Asked()
	for range credit {
		insert("t").Missed()
		require.True(t, insert("t").Likely())
	}
	call := &router.Plan{Functions: []string{"f"}}
	require.False(t, s.Expect(call).Likely(), "nobody has asked after such a call")
	s.Expect(call).Asked()
	require.True(t, s.Expect(call).Likely())
	require.True(t, s.Expect(&router.Plan{Flags: router.FlagSequence}).Likely())
	for i := range maxExpectations + 10 {
		insert(fmt.Sprint(i))
	}
	require.EqualValues(t, maxExpectations, s.n.Load())
	require.Same(t, &s.others, insert("one more"))
}
