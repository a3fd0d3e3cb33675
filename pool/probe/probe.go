// Package probe asks servers what package cluster decides by: a Prober asks for role,
// timeline and identity, a Sampler for LSNs. Both keep a connection to each server. They
// send SQL of their own and parse none.
package probe

import (
	"context"

	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Open opens a connection to a server, logged in to a database of its own choice. Its
// error is cluster.ErrNoLogin as long as nobody's login is known. It must honour ctx and
// may be called concurrently.
type Open func(ctx context.Context, s *cluster.Server) (*backend.Backend, error)
