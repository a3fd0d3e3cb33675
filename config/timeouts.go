package config

import "time"

// Timeouts bound what clients and their statements may take; 0 is no bound. For one
// database or one user 0 inherits, and Off takes the bound away.
type Timeouts struct {
	// ClientIdle ends a session whose client says nothing for that long outside a
	// transaction (57P05), IdleTransaction one within it (25P03). PostgreSQL's own
	// idle_session_timeout and idle_in_transaction_session_timeout hold besides.
	ClientIdle      time.Duration `yaml:"client_idle" off:"true"`
	IdleTransaction time.Duration `yaml:"idle_transaction" off:"true"`
	// Transaction ends a session whose transaction takes that long (25P04).
	Transaction time.Duration `yaml:"transaction" off:"true"`
	// Statement cancels what a server takes that long for (57014): a query or what was
	// sent with one Sync.
	Statement time.Duration `yaml:"statement" off:"true"`
}

// Off is the value of a timeout that is written "off".
const Off = time.Duration(-1)

// Any reports whether there is a bound.
func (t Timeouts) Any() bool { return t != Timeouts{} }

// effective are the timeouts of a user, of a database and of all: the first that is given
// counts, and none for Off.
func effective(all ...Timeouts) Timeouts {
	first := func(of func(Timeouts) time.Duration) time.Duration {
		for _, t := range all {
			if d := of(t); d != 0 {
				return max(d, 0)
			}
		}
		return 0
	}
	return Timeouts{
		ClientIdle:      first(func(t Timeouts) time.Duration { return t.ClientIdle }),
		IdleTransaction: first(func(t Timeouts) time.Duration { return t.IdleTransaction }),
		Transaction:     first(func(t Timeouts) time.Duration { return t.Transaction }),
		Statement:       first(func(t Timeouts) time.Duration { return t.Statement }),
	}
}
