package proxy

import (
	"context"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// watchInterval is how often clients are looked at that wait for an answer. One that is
// gone is noticed within two of them.
const watchInterval = 300 * time.Millisecond

// watchClients looks for clients that are gone while they wait for an answer, and cancels
// what runs for them: it would keep its server connection, and its locks, for nobody.
func (s *Server) watchClients() {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	var all []*member
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		s.consoles.lookAtClients()
		all = s.members.appendTo(all[:0])
		var requests []func(context.Context) error
		for _, m := range all {
			if request := m.client.Interrupt().LookAtClient(); request != nil {
				requests = append(requests, request)
			}
		}
		clear(all)
		if len(requests) > 0 {
			s.background.Go(func() { s.cancelAll(requests) })
		}
	}
}

// cancelTimeout bounds cancel requests that no client has sent.
const cancelTimeout = 2 * time.Second

// cancelAll sends cancel requests.
func (s *Server) cancelAll(requests []func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(64)
	for _, request := range requests {
		g.Go(func() error { return request(ctx) })
	}
	if err := g.Wait(); err != nil {
		s.log.Warn("a running statement could not be canceled", zap.Error(err))
	}
}
