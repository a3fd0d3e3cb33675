package client

import (
	"time"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
)

// A server ends a session whose client is silent for too long; it cannot where it holds
// nothing of the session, or has not heard of its BEGIN.
// https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-IDLE-SESSION-TIMEOUT
var (
	errIdle              = wire.Fatalf("57P05", "terminating connection due to idle-session timeout")
	errIdleInTransaction = wire.Fatalf("25P03", "terminating connection due to idle-in-transaction timeout")
)

// idleLimit is how long the client may be silent now, 0 for ever, and the error its
// session ends with then.
func (c *Client) idleLimit() (time.Duration, *wire.Error) {
	s, name, e := &c.state, "idle_session_timeout", errIdle
	switch {
	case s.Tx.Phase.InBlock():
		name, e = "idle_in_transaction_session_timeout", errIdleInTransaction
	case c.lease.midBatch():
		return 0, nil
	}
	if !s.InForceKnown() {
		return 0, nil // its server knows
	}
	value, set := s.Settings.Now().Value(name)
	if !set {
		value = c.up.Database.Plans.Snapshot().OfServer(name)
	}
	return setting.Milliseconds(value), e
}
