package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/interrupt"
)

// ErrServerLost is that a server connection failed.
var ErrServerLost = errors.New("server connection lost")

// Lost is ErrServerLost with what showed it. It is not inlined: what it takes to make it would
// stand on the stack of every session.
//
//go:noinline
func Lost(err error) error { return fmt.Errorf("%w: %w", ErrServerLost, err) }

// Unreachable reports whether err is of a server that is not there, rather than
// of a login it refused or could not be given, or of a client that is gone.
func Unreachable(err error) bool {
	if err == nil {
		return false // the usual case, which allocates nothing
	}
	var refused *pgconn.PgError
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.As(err, new(*interrupt.ClientGone)):
		return false
	case errors.Is(err, pool.ErrGone):
		return true
	case errors.As(err, &refused):
		return strings.HasPrefix(refused.Code, "57P0") // starting up, shutting down
	}
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// LockedOut reports whether a server refused a login because of who logs in, and by what: it will
// refuse the next one too.
func LockedOut(err error) bool {
	if err == nil {
		return false // the usual case, which allocates nothing
	}
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return errors.Is(err, backend.ErrNoSecret)
	}
	return strings.HasPrefix(refused.Code, "28") || refused.Code == "42501" && refused.Routine == "CheckMyDatabase" // no CONNECT
}

// CutOff reports whether a round trip failed because its connection ended, rather
// than because the server refused what it was asked.
func CutOff(err error) bool {
	if err == nil {
		return false // the usual case, which allocates nothing
	}
	var refused *backend.ServerError
	if errors.As(err, &refused) {
		return Ending(refused.Frame)
	}
	return true
}

// Ending reports whether a server says that it ends a session because of itself, not
// because of what the session did.
func Ending(frame []byte) bool {
	switch string(wire.ErrorField(frame, 'C')) {
	case "57P01", "57P02", "57P03":
		return true
	}
	return false
}

// noDatabase reports whether a server says that there is no such database.
func noDatabase(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "3D000"
}

// Told is what a client is told of an error: the one place where errors get their SQLSTATE. What a server said is
// passed on; the rest says which side broke.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func Told(err error, primaryWait time.Duration) *wire.Error {
	var own *wire.Error
	var server *backend.ServerError
	var login *pgconn.PgError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &server):
		return wire.ReadError(server.Frame)
	case errors.As(err, &login):
		told := &wire.Error{Code: login.Code, Message: login.Message, Detail: login.Detail, Hint: login.Hint}
		if noDatabase(err) {
			told.Severity = "FATAL" // the session's own has been dropped, or has another name now
		}
		return told
	case errors.Is(err, pool.ErrPaused):
		return wire.Errorf("53300", "no server connection was to be had in time: the database is paused at the admin console").
			WithHint("RESUME at the admin console has clients go on.")
	case errors.Is(err, pool.ErrTimeout):
		return toldTimeout(err)
	case errors.Is(err, cluster.ErrNoPrimary), errors.Is(err, context.DeadlineExceeded):
		return wire.Errorf("57P03", "no primary server within %v: %v", primaryWait, err)
	case errors.Is(err, pool.ErrClosed):
		return wire.Errorf("57P01", "the proxy is shutting down")
	default:
		return wire.Errorf("08006", "connection to the server failed: %v", err)
	}
}

// toldTimeout is what a client is told that waited for a connection for too long.
func toldTimeout(err error) *wire.Error {
	told := wire.Errorf("53300", "no server connection became free in time")
	if refused := pool.Refusal(err); refused != nil {
		told.Detail = "The server had no slot for another one: " + refused.Error()
		return told.WithHint("All of the server's slots are in use, by pgweir or others. Transactions may be kept open too long, or max_connections be too small.")
	}
	return told.WithHint("All connections of the pool, or all that its limits allow, are in use. Transactions may be kept open too long, or pool.size be too small.")
}

// ErrStandby is that a connection to the primary led to a standby: its address leads
// elsewhere now, or it is no longer what it was.
var ErrStandby = fmt.Errorf("a standby answers: %w", pool.ErrGone)

// standbyWait is how long a server may take to say whether it is a standby.
const standbyWait = 5 * time.Second

// OfStandby reports whether a connection at rest is to a standby, or was lost. A server that
// was promoted tells those that were made before with their next answer, so that it is asked.
func OfStandby(ctx context.Context, b *backend.Backend) bool {
	if b.Parameter("in_hot_standby") != "on" {
		return false
	}
	if b.LastUser() != 0 {
		ctx, cancel := context.WithTimeout(ctx, standbyWait)
		defer cancel()
		if _, err := b.RoundTrip(ctx, wire.AppendQuery(nil, "")); err != nil {
			return true
		}
	}
	return b.Parameter("in_hot_standby") == "on"
}
