package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestInconclusive(t *testing.T) {
	for _, try := range []struct {
		err          error
		inconclusive bool
	}{
		{nil, false},
		{ErrNoLogin, false},
		{errDown, false},
		{io.EOF, false},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, false},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, true},
		{context.DeadlineExceeded, true},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}, true},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}, true},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, false},
		{&net.DNSError{Err: "no such host", Name: "db", IsNotFound: true}, true},
		{&pgconn.PgError{Code: "57P03"}, false}, // starting up, shutting down
		{&pgconn.PgError{Code: "57P01"}, false},
		{&pgconn.PgError{Code: "53300"}, true}, // too many clients
		{&pgconn.PgError{Code: "28P01"}, true},
		{errors.New("anything else"), true},
	} {
		if got := Inconclusive(try.err); got != try.inconclusive {
			t.Errorf("%v: %v", try.err, got)
		}
		if try.err != nil && Inconclusive(fmt.Errorf("connect: %w", try.err)) != try.inconclusive {
			t.Errorf("%v, wrapped", try.err)
		}
	}
}

// What is broken off: what runs on a server that is not to be relied on, or hangs; not
// what may still come to its end.
func TestAbandoned(t *testing.T) {
	for _, try := range []struct {
		status    Status
		err       error
		abandoned bool
	}{
		{StatusServing, nil, false},
		{StatusSlow, errors.New("slow"), false},
		{StatusDown, errDown, false},
		{StatusDown, &pgconn.PgError{Code: "57P03"}, false},
		{StatusDown, &pgconn.PgError{Code: "28P01"}, false},
		{StatusDown, fmt.Errorf("ask: %w", context.DeadlineExceeded), true},
		{StatusDown, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, true},
		{StatusForeign, nil, true},
		{StatusFenced, nil, true},
		{StatusSplitBrain, nil, true},
		{StatusDiverged, nil, false},
		{StatusDuplicate, nil, false},
	} {
		s := &Server{}
		if got := (&Topology{States: []State{{Server: s, Status: try.status, Err: try.err}}}).Abandoned(s); got != try.abandoned {
			t.Errorf("%s, %v: %v", try.status, try.err, got)
		}
	}
}
