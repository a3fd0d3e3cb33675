package proxy

import (
	"context"
	"time"
)

// Shutdown ends the service: no new clients, idle sessions end now, others when
// they are idle or ctx ends. It returns when everything is closed.
func (s *Server) Shutdown(ctx context.Context) {
	s.draining.Store(true)
	s.closeListeners()
	s.awaitSessions(ctx, s.endIdle)
	s.Close()
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
	s.draining.Store(true)
	s.closeListeners()
	cancel := s.cancelRunning()
	s.stop()
	s.abortAll()
	cancel()
	s.background.Wait() // from here on nobody begins anything
	s.awaitSessions(context.Background(), s.abortAll)
	s.Shadow.Close()
	s.upstream.Close()
	s.audit.Flush(time.Now(), true)
}

// endIdle wakes the sessions that are idle outside a transaction; they end.
func (s *Server) endIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		m.client.EndIdle()
	}
}

// cancelRunning prepares to cancel what runs on the servers now, which would run to its
// end there with nobody to answer to. The requests are sent by send, after the sessions
// have been told why they end.
func (s *Server) cancelRunning() (send func()) {
	var requests []func(context.Context) error
	s.mu.Lock()
	for _, m := range s.members {
		if request := m.client.Interrupt().BeginCancel(); request != nil {
			requests = append(requests, request)
		}
	}
	s.mu.Unlock()
	return func() { s.cancelAll(requests) }
}

// abortAll ends all sessions wherever they are.
func (s *Server) abortAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		m.client.Abort()
	}
}
