package proxy

import (
	"context"
	"time"
)

// AwaitClients waits until all clients have left, or ctx ends. Nobody must be accepted any more.
func (s *Server) AwaitClients(ctx context.Context) {
	s.awaitSessions(ctx, func() {
		if s.metrics.Clients() == 0 { // the console alone keeps nothing up
			s.consoles.endAll()
		}
	})
}

// Shutdown ends the service: no new clients, idle sessions end now, others when
// they are idle or ctx ends. It returns when everything is closed, and how many sessions
// were cut off because ctx had ended.
func (s *Server) Shutdown(ctx context.Context) (cutOff int) {
	s.phase.draining.Store(true)
	s.Retire()
	s.awaitSessions(ctx, func() {
		s.members.endIdle()
		if s.metrics.Clients() == 0 {
			s.consoles.endAll()
		}
	})
	cutOff = len(s.members.appendTo(nil))
	s.Close()
	return cutOff
}

// awaitSessions nudges the sessions until all have ended or ctx has. It does so
// again and again, because one may be just about to become idle.
func (s *Server) awaitSessions(ctx context.Context, nudge func()) {
	done := make(chan struct{})
	go func() { s.sessions.Wait(); close(done) }()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		nudge()
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Close ends everything now and returns when it has ended.
func (s *Server) Close() {
	s.phase.draining.Store(true)
	s.Retire()
	s.reloading.Lock()
	s.stop()
	s.reloading.Unlock()
	// What runs is canceled, or it would run to its end on its server with nobody to answer to.
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	s.members.end(ctx, s.members.abortResting(), s.log)
	cancel()
	s.background.Wait() // from here on nobody begins anything
	s.awaitSessions(context.Background(), s.members.abortAll)
	s.Baselines.Close()
	s.Shadow.Close()
	s.upstream.Close()
	s.audit.Flush(time.Now(), true)
	s.tracer.Close()
}
