package proxy

import (
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy/auth"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/peers"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// terms are a configuration and what the service made of it. They never change: a client
// that logs in goes through with those that were in force when it came.
type terms struct {
	cfg      config.Config
	tls      *auth.TLS
	verifier *auth.Verifier
	peers    *peers.Peers
	shown    []config.Certificate // to others
}

// termsOf makes terms of a complete, valid configuration. It changes nothing.
func (s *Server) termsOf(cfg config.Config) (*terms, error) {
	t := &terms{cfg: cfg, shown: cfg.Certificates(), peers: peers.New(cfg.Peers, peers.Dial(s.network.Dial))}
	var err error
	if t.tls, err = auth.LoadTLS(cfg.TLS); err != nil {
		return nil, err
	}
	t.verifier, err = auth.New(cfg.Auth, cfg.Users, t.tls, auth.Servers{Secret: s.lookups.secret, Roles: s.lookups.roles})
	return t, err
}

// options are what the part of the service towards the servers works with.
func (s *Server) options(cfg config.Config) upstream.Options {
	return upstream.Options{
		Pool: cfg.Pool, Routing: cfg.Routing, Settings: cfg.Settings, Tenants: cfg.Tenant.Settings, Rules: cfg.RulesFor,
		Audit: s.audit, Insight: s.insight, Log: s.log, CloseHeld: s.members.closeHeld, Dial: s.network.Dial,
		LoginsChanged: func() { s.terms.Load().verifier.Forget() },
	}
}

// adopt puts terms in force for whoever logs in from now on, and for what sessions ask from
// now on.
func (s *Server) adopt(t *terms) {
	cfg := t.cfg
	s.terms.Store(t)
	s.service.Store(&upstream.Service{
		Config: cfg, Log: s.log, Metrics: s.metrics, Audit: s.audit, Registry: s.registry,
		Assertion: batch.NewAssertion(slices.Concat(cfg.Tenant.Settings, cfg.Settings.Assert), s.registry),
		Draining:  &s.phase.draining, Beside: &s.phase.beside, PrimaryReads: cfg.Routing.PrimaryReads == "always",
		OnlyPrimary: s.consoles.onlyPrimary.Load(),
		Current:     &s.service, Shadow: s.Shadow, Insight: s.insight, Explain: s.explain, Tracer: s.tracer, Ending: s.ctx,
	})
}

// Reload puts another complete configuration in force, but for what needs a restart, and
// returns what changed. With an error nothing has. Sessions of users and databases that are
// no longer there end once they are idle.
func (s *Server) Reload(cfg config.Config) ([]config.Change, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if s.ctx.Err() != nil {
		return nil, errors.New("the service has ended")
	}
	before := s.terms.Load()
	changes := cfg.Changes(before.cfg)
	next := cfg.Keeping(before.cfg)
	if faults := next.Validate(); len(faults) > 0 {
		return nil, fmt.Errorf("together with what needs a restart:\n%w", faults)
	}
	t, err := s.termsOf(next)
	if err != nil {
		return nil, err
	}
	servers, err := s.upstream.Prepare(s.options(next), next.Clusters)
	if err != nil {
		return nil, err
	}
	t.verifier.Follow(before.verifier)
	s.audit.Configure(next.Tenant)
	if next.Routing.SoleWriter && !before.cfg.Routing.SoleWriter {
		s.upstream.CommittedElsewhere() // by those who were not alone, and noted nowhere
	}
	servers.Apply(func() { s.adopt(t) }, func(k upstream.Key) (config.Effective, *backend.Credentials, bool) {
		eff, ok := next.Resolve(k.User, k.Database)
		return eff, t.otherLogin(before, k), ok && t.verifier.Knows(k.User, eff.AuthQuery != "")
	})
	s.warm(&next)
	s.lookups.follow(&next)
	s.background.Go(func() { s.lookups.try(t) })
	s.endRetired()
	return changes, nil
}

// otherLogin is by what the clients of a key log in to the servers, if it is configured and was
// not so before; else nil: they may have shown something else.
func (t *terms) otherLogin(before *terms, k upstream.Key) *backend.Credentials {
	now, then := t.configuredLogin(k), before.configuredLogin(k)
	if !now.ByPassword() || now.Equal(then) {
		return nil
	}
	return &now
}

// configuredLogin is by what the clients of a key log in to the servers, as far as that is configured.
func (t *terms) configuredLogin(k upstream.Key) backend.Credentials {
	eff, _ := t.cfg.Resolve(k.User, k.Database)
	return credentials(auth.Identity{User: k.User, Secret: t.verifier.Configured(k.User)}, eff)
}

// Config is the configuration in force.
func (s *Server) Config() config.Config { return s.terms.Load().cfg }

// endRetired ends the idle sessions of who is not let in any more; the others end when
// they are idle.
func (s *Server) endRetired() {
	n := 0
	for _, m := range s.members.appendTo(nil) {
		if m.up.Retired() {
			m.client.EndIdle()
			n++
		}
	}
	if n > 0 {
		s.log.Info("sessions end: their user or database is not in the configuration any more, or somewhere else", zap.Int("sessions", n))
	}
}
