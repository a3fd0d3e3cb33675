package proxy

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/router"
)

// replicate serves a replication connection: it gets one of its own to the
// primary, and everything passes unseen until either side closes.
// https://www.postgresql.org/docs/current/protocol-replication.html
func (h *handshake) replicate(ctx context.Context, eff config.Effective, cred backend.Credentials) error {
	s, cl := h.s, h.s.upstream.Clusters()[eff.Cluster]
	primary, err := cl.WaitPrimary(ctx)
	if err != nil {
		return err
	}
	reach, err := cl.Account.Reach(primary)
	if err != nil {
		return err
	}
	params := map[string]string{}
	for n, v := range h.params {
		if n != "user" && n != "database" {
			params[n] = v
		}
	}
	l, err := backend.Open(ctx, reach, cred, eff.Database, params)
	if err != nil {
		return err
	}
	defer l.Conn.Close()
	out := []byte{wire.Authentication, 0, 0, 0, 8, 0, 0, 0, 0}
	for n, v := range l.Parameters {
		out = wire.AppendParameter(out, n, v)
	}
	if out, err = (&pgproto3.BackendKeyData{ProcessID: l.PID, SecretKey: l.Key}).Encode(out); err != nil {
		return err
	}
	if err := h.Send(wire.AppendReady(out, wire.TxIdle)); err != nil {
		return err
	}
	s.metrics.Statement(router.TargetPrimary, router.ReasonReplication, router.ClassUnknown)
	s.log.Info("replication connection", zap.String("client", remoteHost(h.nc)), zap.String("server", primary.Address))
	return h.copyBothWays(l.Conn)
}

// copyBothWays copies from each side to the other until one side ends or the service does.
func (h *handshake) copyBothWays(server net.Conn) error {
	front := h.front.NetConn()
	_ = h.nc.SetDeadline(time.Time{})
	stop := context.AfterFunc(h.s.ctx, func() { _ = front.Close(); _ = server.Close() })
	defer stop()
	if _, err := server.Write(h.front.Buffered()); err != nil {
		return err
	}
	h.front.Free()
	done := make(chan struct{})
	go copyTo(server, front, done)
	_, _ = io.Copy(front, server)
	_ = front.Close()
	_ = server.Close()
	<-done
	return errServed
}

// copyTo copies from one side to the other; an end of the one ends the other.
func copyTo(to, from net.Conn, done chan<- struct{}) {
	defer close(done)
	_, _ = io.Copy(to, from)
	_ = to.Close()
}
