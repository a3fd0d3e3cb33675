package client

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Told is what a client is told of an error: the one place where errors get their SQLSTATE. What a server said is
// passed on; the rest says which side broke.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func Told(err error, cfg config.Config) *wire.Error {
	var own *wire.Error
	var server *backend.ServerError
	var login *pgconn.PgError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &server):
		return fromFrame(server.Frame)
	case errors.As(err, &login):
		return &wire.Error{Code: login.Code, Message: login.Message, Detail: login.Detail, Hint: login.Hint}
	case errors.Is(err, pool.ErrTimeout):
		return wire.Errorf("53300", "no server connection became free within %v", cfg.Pool.AcquireTimeout).
			WithHint("All connections of the pool are in use. Transactions may be kept open too long, or pool.size be too small.")
	case errors.Is(err, cluster.ErrNoPrimary), errors.Is(err, context.DeadlineExceeded):
		return wire.Errorf("57P03", "no primary server within %v: %v", cfg.Routing.PrimaryWait, err)
	case errors.Is(err, pool.ErrClosed):
		return wire.Errorf("57P01", "the proxy is shutting down")
	default:
		return wire.Errorf("08006", "connection to the server failed: %v", err)
	}
}

// fromFrame reads an ErrorResponse, for it to be told at another place.
func fromFrame(frame []byte) *wire.Error {
	field := func(f byte) string { return string(wire.ErrorField(frame, f)) }
	return &wire.Error{
		Code: field('C'), Message: field('M'), Detail: field('D'), Hint: field('H'),
		Position: field('P'), Routine: field('R'),
	}
}
