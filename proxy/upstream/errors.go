package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
)

// Unreachable reports whether err is of a server that is not there, rather than
// of a login it refused or could not be given.
func Unreachable(err error) bool {
	if err == nil {
		return false // the usual case, which allocates nothing
	}
	var refused *pgconn.PgError
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, pool.ErrGone):
		return true
	case errors.As(err, &refused):
		return strings.HasPrefix(refused.Code, "57P0") // starting up, shutting down
	}
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
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
