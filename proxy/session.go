package proxy

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	setting "github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy/auth"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// session makes an authenticated client's session: where its statements go, and
// that its startup settings are what a server accepts.
func (g *greeting) session(ctx context.Context, as auth.Identity, database string) (*client, error) {
	s := g.s
	eff, ok := s.cfg.Resolve(as.User, database)
	if !ok {
		return nil, wire.Fatalf("3D000", "database \"%s\" does not exist", database)
	}
	cred := credentials(as, eff)
	s.upstream.Clusters()[eff.Cluster].Account.OfferFallback(cred, eff.Database)
	if r := g.params["replication"]; r != "" {
		if on, ok := setting.ParseBool(r); !ok || on {
			return nil, g.replicate(ctx, eff, cred)
		}
	}
	settings, own, err := startupSettings(g.params)
	if err != nil {
		return nil, err
	}
	up := s.upstream.Find(upstream.Key{User: as.User, Database: database}, eff, cred)
	if refused := checkOwn(own); refused != nil {
		return nil, refused
	}
	id := s.lastID.Add(1)
	c := &client{
		svc: &s.services, up: up, front: g.front, state: session.New(settings, setting.From(own)),
		who: identity{id: id, app: g.params["application_name"], scope: freshness.SessionScope(id)},
	}
	c.ctx, c.end = context.WithCancel(s.ctx)
	if err := s.enter(c); err != nil {
		c.end()
		return nil, err
	}
	if err := g.welcome(ctx, c); err != nil {
		s.leave(c)
		return nil, err
	}
	return c, nil
}

// credentials are how to log in to the servers for a client.
func credentials(id auth.Identity, eff config.Effective) backend.Credentials {
	cred := backend.Credentials{User: eff.ServerUser}
	switch {
	case eff.ServerPassword != "":
		cred.Password = eff.ServerPassword
	case eff.ServerUser == id.User:
		cred.Password, cred.Keys, cred.MD5 = id.Secret.Password, id.Secret.Keys, id.Secret.MD5
	}
	return cred
}

// welcome tells the client that its session has begun.
func (g *greeting) welcome(ctx context.Context, c *client) error {
	reported, err := c.up.StartupReply(ctx, c.state.Settings.Reset())
	if err != nil {
		g.s.upstream.Forget(c.up)
		return err
	}
	secretSize := 4
	if g.minor >= 2 {
		secretSize = 32
	}
	if err := g.s.register(c, secretSize); err != nil {
		return err
	}
	out := []byte{wire.Authentication, 0, 0, 0, 8, 0, 0, 0, 0}
	for n, v := range reported {
		out = wire.AppendParameter(out, n, v)
	}
	out, err = (&pgproto3.BackendKeyData{ProcessID: c.who.key.pid, SecretKey: c.who.key.secret}).Encode(out)
	if err != nil {
		return err
	}
	out = wire.AppendReady(out, wire.TxIdle)
	if _, err := g.front.Write(out); err != nil {
		g.s.unregister(c)
		return err
	}
	c.told.atLogin = reported
	if c.up.Config.PoolMode == "session" {
		c.state.Pins |= router.PinSession
	}
	if unreadableText(c.state.Settings.Reset()) {
		c.state.Pins |= router.PinSetting
	}
	c.notePins()
	return nil
}

// enter counts a client in, unless a limit is reached.
func (s *Server) enter(c *client) error {
	eff := c.up.Config
	n := s.metrics.ClientEntered()
	d := c.up.Enter()
	u := s.clientsOf(c.up.Key.User).Add(1)
	over := ""
	switch {
	case s.cfg.MaxClients > 0 && n > int64(s.cfg.MaxClients):
		over = "max_clients"
	case eff.DatabaseClients > 0 && d > int64(eff.DatabaseClients):
		over = "max_clients of database \"" + c.up.Key.Database + "\""
	case eff.UserClients > 0 && u > int64(eff.UserClients):
		over = "max_clients of user \"" + c.up.Key.User + "\""
	default:
		return nil
	}
	s.leave(c)
	return wire.Fatalf("53300", "sorry, too many clients already: %s is reached", over)
}

// leave counts a client out.
func (s *Server) leave(c *client) {
	s.metrics.ClientLeft()
	c.up.Leave()
	s.clientsOf(c.up.Key.User).Add(-1)
}

func (s *Server) clientsOf(user string) *atomic.Int64 {
	if n, ok := s.userClients.Load(user); ok {
		return n.(*atomic.Int64)
	}
	n, _ := s.userClients.LoadOrStore(user, new(atomic.Int64))
	return n.(*atomic.Int64)
}

// serveClient lives a session through.
func (s *Server) serveClient(c *client) {
	if s.cfg.Log.Connections {
		c.log().Info("client connected", zap.String("client", remoteHost(c.front.NetConn())))
	}
	began := time.Now()
	defer c.end()
	err := c.serve()
	s.unregister(c)
	s.leave(c)
	if !s.cfg.Log.Connections {
		return
	}
	fields := []zap.Field{zap.Duration("after", time.Since(began))}
	if !errors.Is(err, errTerminate) && !errors.Is(err, io.EOF) {
		fields = append(fields, zap.NamedError("because", err))
	}
	c.log().Info("client disconnected", fields...)
}
