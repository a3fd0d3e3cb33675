package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// A server that is not quite PostgreSQL answers other questions. Amazon Aurora's instances
// share one storage: a reader has no log to replay, and pg_last_wal_replay_lsn() is an error
// there. What it has read up to, and what the writer's storage holds for good, its own
// row of aurora_replica_status() tells.
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora_replica_status.html
//
// Other servers may let the account in, and not tell how far they are. They are used where
// nothing of that has to be known.

// Flavour is what servers are.
type Flavour string

// The flavours of config.Cluster.
const (
	Auto   Flavour = "auto" // they are asked
	Aurora Flavour = "aurora"
)

// dialect is what a connection's server can be asked.
type dialect uint8

const (
	unasked dialect = iota
	postgres
	aurora
	silent // PostgreSQL that does not tell how far it is
)

// isAurora is an expression.
const isAurora = "pg_catalog.to_regproc('pg_catalog.aurora_version') IS NOT NULL"

const auroraState = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('server_version_num'), " + backend.Started

// auroraPosition asks for the row of the instance itself, which is as of now: what it says of
// others is as of their last update. A commit is acknowledged once it is in the writer's
// storage, but with synchronous_commit off.
const auroraPosition = `SELECT session_id = 'MASTER_SESSION_ID', durable_lsn,
  CASE WHEN durable_lsn < current_read_lsn THEN durable_lsn ELSE current_read_lsn END, last_update_timestamp IS NULL
FROM pg_catalog.aurora_replica_status() WHERE server_id = pg_catalog.aurora_db_instance_identifier()`

// What Aurora has instead of a system identifier and timelines: its storage lets but one
// instance write.
const (
	auroraID       = "aurora"
	auroraTimeline = 1
)

// silentState is stateQuery without what a server may refuse to tell.
const silentState = `SELECT pg_catalog.pg_is_in_recovery(),
	greatest(c.timeline_id, r.min_recovery_end_timeline), s.system_identifier, pg_catalog.current_setting('server_version_num'), ` + backend.Started + `
FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r, pg_catalog.pg_control_system() s`

// refuses reports whether a server says that something is not there to be asked, or not to be
// asked by this account.
func refuses(err error) bool {
	var refused *backend.ServerError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code() {
	case "0A000", "42501", "42883", "55000": // not supported, no privilege, no such function, not in this state
		return true
	}
	return false
}

// answers reports whether an error is an answer all the same: the server goes on.
func answers(err error) bool {
	var said *backend.ServerError
	return errors.Is(err, errNoPosition) || errors.As(err, &said) && !strings.HasPrefix(said.Code(), "57") && !errors.Is(err, io.EOF)
}

// askAurora asks an instance for its state.
func askAurora(ctx context.Context, b *backend.Backend) (found cluster.Probe, err error) {
	found.SystemID, found.Timeline = auroraID, auroraTimeline
	err = b.Query(ctx, auroraState, func(v [][]byte) (err error) {
		found.InRecovery, found.Started = string(v[0]) == "t", string(v[2])
		found.Version, err = strconv.Atoi(string(v[1]))
		return err
	})
	if err != nil {
		return found, err
	}
	p, err := askPosition(ctx, b)
	if err != nil && !answers(err) {
		return found, err
	}
	found.LSN, found.Unproved = p.readable, err
	if !found.InRecovery {
		found.LSN = p.durable
	}
	return found, nil
}

// errNoPosition is that Aurora does not tell how far an instance is as of now.
var errNoPosition = errors.New("aurora_replica_status() does not tell how far it is")

// position is how far an instance of Aurora is.
type position struct {
	writer            bool
	durable, readable lsn.LSN
}

func askPosition(ctx context.Context, b *backend.Backend) (p position, err error) {
	told := false
	err = b.Query(ctx, auroraPosition, func(v [][]byte) error {
		p.writer = string(v[0]) == "t"
		if v[1] == nil || v[2] == nil && !p.writer || string(v[3]) != "t" {
			return nil
		}
		told = true
		if p.durable, err = parseNumber(v[1]); err != nil || v[2] == nil {
			return err
		}
		p.readable, err = parseNumber(v[2])
		return err
	})
	if err == nil && !told {
		err = errNoPosition
	}
	return p, err
}

func parseNumber(text []byte) (lsn.LSN, error) {
	n, err := strconv.ParseUint(string(text), 10, 64)
	return lsn.LSN(n), err
}

// askSilent asks a server for what it tells of its state.
func askSilent(ctx context.Context, b *backend.Backend, why error) (found cluster.Probe, err error) {
	err = b.Query(ctx, silentState, func(v [][]byte) error {
		found.InRecovery, found.SystemID, found.Started = string(v[0]) == "t", string(v[2]), string(v[4])
		_, err := fmt.Sscan(string(v[1])+" "+string(v[3]), &found.Timeline, &found.Version)
		return err
	})
	found.Unproved = why
	return found, err
}

// findDialect asks what a server can be asked that has refused what PostgreSQL answers.
func findDialect(ctx context.Context, b *backend.Backend) (d dialect, err error) {
	d = silent
	err = b.Query(ctx, "SELECT "+isAurora, func(v [][]byte) error {
		if string(v[0]) == "t" {
			d = aurora
		}
		return nil
	})
	return d, err
}

// dialect is how a new connection to a server begins to ask.
func (p *Prober) dialect(s *cluster.Server) dialect {
	if _, known := p.aurora.Load(s); known || p.flavour == Aurora {
		return aurora
	}
	return unasked
}
