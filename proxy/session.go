package proxy

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy/analysis"
	"github.com/pgweir/pgweir/proxy/auth"
	"github.com/pgweir/pgweir/proxy/client"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// session makes an authenticated client's session: where its statements go, and
// that its startup settings are what a server accepts.
func (h *handshake) session(ctx context.Context, as auth.Identity, database string) (*member, error) {
	s := h.s
	eff, ok := h.terms.cfg.Resolve(as.User, database)
	if !ok {
		return nil, noDatabase(database)
	}
	s.upstream.Clusters()[eff.Cluster].Account.OfferFallback(credentials(as, eff), eff.Database)
	if r := h.params["replication"]; r != "" {
		if on, ok := setting.ParseBool(r); !ok || on {
			return nil, h.replicate(ctx, eff, credentials(as, eff))
		}
	}
	if name, ok := h.params["application_name"]; ok {
		h.params["application_name"] = printable(name, s.upstream.Clusters()[eff.Cluster].Topology().Version())
	}
	start, err := parseStartup(h.params)
	if err != nil {
		return nil, err
	}
	if h.terms.cfg.ApplicationNameAddHost {
		start.settings = start.settings.With("application_name", addHost(start.application, h.nc.RemoteAddr()))
	}
	if err := s.consoles.admit(database); err != nil {
		return nil, err
	}
	up, err := s.enter(as, database)
	if err != nil {
		return nil, err
	}
	// Whoever entered before the terms changed was met by what changed them.
	if now := s.terms.Load(); now != h.terms && !now.verifier.Knows(as.User, up.Terms().AuthQuery != "") {
		s.leave(up)
		return nil, wire.Fatalf("57P01", "terminating connection due to administrator command")
	}
	m, err := h.reply(ctx, as, up, &start)
	if err != nil {
		s.leave(up)
		return nil, err
	}
	return m, nil
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

// reply makes and registers a session, and tells its client that it has begun.
func (h *handshake) reply(ctx context.Context, as auth.Identity, up *upstream.Pools, start *startup) (*member, error) {
	s := h.s
	var state session.State
	var reported map[string]string
	var usual setting.Settings
	err := up.Admit(ctx, as.ByPassword() || up.Credentials().ByPassword())
	if err == nil {
		usual, err = up.Defaults(ctx)
	}
	if err == nil {
		state = session.New(usual, start.settings, start.proxy)
		reported, err = up.StartupReply(ctx, state.Settings.Reset())
	}
	if err != nil {
		s.upstream.Forget(up)
		return nil, err
	}
	c := client.New(s.ctx, s.service.Load(), up, h.front, s.members.lastID.Add(1), start.application, state)
	m, err := s.members.register(c, up, h.secretSize())
	if err != nil {
		c.Drop()
		return nil, err
	}
	h.unwatch() // it is told why it ends, from here on
	if err := h.greet(reported, m.pid, m.secret); err != nil {
		s.members.unregister(m)
		c.Drop()
		return nil, err
	}
	up.Traffic.LoggedIn()
	c.Begin(reported, m.pid)
	return m, nil
}

// secretSize is how long the secret of a cancel request is, in bytes, by the protocol's version.
func (h *handshake) secretSize() int {
	if h.minor >= 2 {
		return 32
	}
	return 4
}

// greet tells the client that its session has begun.
func (h *handshake) greet(parameters map[string]string, pid uint32, secret []byte) error {
	out := []byte{wire.Authentication, 0, 0, 0, 8, 0, 0, 0, 0}
	for n, v := range parameters {
		out = wire.AppendParameter(out, n, v)
	}
	out, err := (&pgproto3.BackendKeyData{ProcessID: pid, SecretKey: secret}).Encode(out)
	if err != nil {
		return err
	}
	return h.Send(wire.AppendReady(out, wire.TxIdle))
}

// serveMember lives a session through. Its frame lies on the stack of every idle client, so what
// is told before and after is told elsewhere.
func (s *Server) serveMember(m *member, host string) {
	s.tellBegin(m, host)
	began := time.Now()
	err := m.client.Serve()
	s.members.unregister(m)
	s.leave(m.up)
	s.tellEnd(m, time.Since(began), err)
}

func (s *Server) tellBegin(m *member, host string) {
	if s.terms.Load().cfg.Log.Connections {
		m.client.Log().Info("client connected", zap.String("client", host))
	}
}

func (s *Server) tellEnd(m *member, after time.Duration, err error) {
	if !s.terms.Load().cfg.Log.Connections {
		return
	}
	fields := []zap.Field{zap.Duration("after", after)}
	if !errors.Is(err, analysis.ErrTerminate) && !errors.Is(err, io.EOF) {
		fields = append(fields, zap.NamedError("because", err))
	}
	m.client.Log().Info("client disconnected", fields...)
}
