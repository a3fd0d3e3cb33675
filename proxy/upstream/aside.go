package upstream

import (
	"context"
	"errors"

	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

var errPaused = errors.New("the database is paused")

// Aside opens a connection to a server as clients of p have them, under an application's name
// of its own, unless the database is paused: then nobody is to be there. It is the proxy's own:
// no session gets it.
func (p *Pools) Aside(ctx context.Context, s *cluster.Server, application string) (*backend.Backend, error) {
	if p.paused.Load() {
		return nil, errPaused
	}
	b, err := p.Database.account.slots.Of(s).Own(ctx, func(ctx context.Context) (*backend.Backend, error) {
		return p.open(ctx, s, map[string]string{"application_name": application})
	})
	if err != nil {
		return nil, err
	}
	_, err = p.learn(ctx, s, b, nil)
	return b, err
}
