package upstream

import (
	"context"
	"sync"
	"time"

	"github.com/pgweir/pgweir/pool/cluster"
)

// knocks finds out whether servers are there that nobody can log in to yet.
type knocks struct {
	every time.Duration

	mu   sync.Mutex // protects last
	last map[*cluster.Server]knock
}

// knock is what came of one.
type knock struct {
	at  time.Time
	err error
}

// knock connects to a server, unless it did so lately, and leaves without a word, of which a
// server makes none either. The error is why there was no connection.
func (k *knocks) knock(ctx context.Context, s *cluster.Server, connect func(context.Context, *cluster.Server) error) error {
	k.mu.Lock()
	last := k.last[s]
	k.mu.Unlock()
	if time.Since(last.at) < k.every {
		return last.err
	}
	err := connect(ctx, s)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last == nil {
		k.last = map[*cluster.Server]knock{}
	}
	k.last[s] = knock{time.Now(), err}
	return err
}
