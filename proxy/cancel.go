package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/peers"
)

// cancelRequest passes a cancel request on and closes the connection, as
// PostgreSQL does, when it is done; then it sees to it that the batch ends.
func (h *handshake) cancelRequest(request []byte) error {
	ctx, cancel := context.WithTimeout(h.s.ctx, h.terms.cfg.Pool.ConnectTimeout)
	defer cancel()
	insist, known := h.s.cancel(ctx, request)
	if !known && !h.s.cancelElsewhere(ctx, request) && !h.s.cancelAtPeers(request) {
		h.s.metrics.CancelRequested(metrics.CancelUnknown)
		h.s.log.Info("cancel request with a wrong key", zap.String("client", remoteHost(h.nc)))
	}
	_ = h.nc.Close() // the client waits for that
	insist()
	return errServed
}

// peerCancelRequest carries out a cancel request that another instance has handed on, and
// tells it whether it was for a session here. It goes to no other instance.
func (h *handshake) peerCancelRequest(request []byte) error {
	ctx, cancel := context.WithTimeout(h.s.ctx, h.terms.cfg.Pool.ConnectTimeout)
	defer cancel()
	answer := byte(peers.Unknown)
	insist, known := h.s.cancel(ctx, request)
	if known || h.s.cancelElsewhere(ctx, request) {
		answer = peers.Met
	}
	_, _ = h.front.Write([]byte{answer})
	_ = h.nc.Close()
	insist()
	return errServed
}

// Cancel carries out a cancel request that came by way of another process, if its key is of a
// session here, which it reports.
func (s *Server) Cancel(ctx context.Context, request []byte) (known bool) {
	insist, known := s.cancel(ctx, request)
	s.sessions.Go(insist)
	return known
}

// cancel carries out a cancel request if its key is known here. insist is to be called after the
// client was told, and sees to it that its batch ends.
func (s *Server) cancel(ctx context.Context, request []byte) (insist func(), known bool) {
	if !validKey(request) {
		return func() {}, false
	}
	m := s.members.find(binary.BigEndian.Uint32(request), request[4:])
	if m == nil {
		return func() {}, s.consoles.cancel(binary.BigEndian.Uint32(request), request[4:])
	}
	to := m.client.Interrupt()
	batch, err := to.Cancel(ctx)
	if batch == 0 {
		s.metrics.CancelRequested(metrics.CancelIdle)
		return func() {}, true
	}
	s.metrics.CancelRequested(metrics.CancelMet)
	return func() {
		ctx, again := context.WithTimeout(s.ctx, s.terms.Load().cfg.Pool.ConnectTimeout+2*time.Second) // which it insists for
		defer again()
		if err := errors.Join(err, to.Insist(ctx, batch)); err != nil {
			s.log.Warn("cancel request", zap.Error(err))
		}
	}, true
}

// cancelElsewhere passes a cancel request to the other processes of the service.
func (s *Server) cancelElsewhere(ctx context.Context, request []byte) (known bool) {
	if s.network.Cancel == nil || !s.network.Cancel(ctx, request) {
		return false
	}
	s.metrics.CancelRequested(metrics.CancelForwarded)
	return true
}

// cancelAtPeers hands a cancel request on to the other instances of the service.
func (s *Server) cancelAtPeers(request []byte) (known bool) {
	if !validKey(request) || !s.terms.Load().peers.Cancel(s.ctx, request) {
		return false
	}
	s.metrics.CancelRequested(metrics.CancelForwarded)
	return true
}

// validKey reports whether a cancel request has a process number and a secret.
func validKey(request []byte) bool { return len(request) >= 5 && len(request) <= 4+maxKeyLength }
