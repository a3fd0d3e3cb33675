// Package metrics counts what sessions do, and shows that to Prometheus together with
// what pools, statement plans and the cluster tell of themselves. Sessions call a method
// of Metrics for each thing that happens: an atomic addition to an array indexed by
// enums, without a lock, an allocation or a look-up of labels on the way of a statement.
// Everything in here is safe for concurrent use.
//
// A new metric gets a count and a method here, a description in names.go, a line in
// collect.go and one in docs/metrics.md, which a test compares.
package metrics

import (
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/router"
)

// Metrics are the counts since the process began, and some of what is there now.
type Metrics struct {
	sources Sources
	names   names

	// Statements and their batches.
	statements [router.Targets][router.Reasons][router.Classes]atomic.Uint64
	answered   byClass
	sent       byClass
	waits      [Waits]histogram
	retries    [Retries]atomic.Uint64

	// Clients.
	clients       atomic.Int64
	logins        atomic.Uint64
	loginFailures atomic.Uint64
	login         histogram
	odd           struct {
		cancels            [Cancels]atomic.Uint64
		vanished, misspelt atomic.Uint64
		timeouts           [Timeouts]atomic.Uint64
	}

	// Errors.
	proxyErrors  atomic.Uint64
	serverErrors atomic.Uint64
	serversLost  atomic.Uint64

	// Reads no replica was fresh enough for at once, by level.
	freshness [router.Consistencies]struct {
		delayed, redirected atomic.Uint64
	}

	// Pins, by bit of PinSet.
	pins [Pins]struct {
		now   atomic.Int64
		total atomic.Uint64
	}

	settings settings
	bounded  struct {
		pools *bounded[poolID, pool.Stats]
		plans *bounded[string, router.Stats]
	}
}

// Pins is how many kinds of pins are told apart: one for each bit of a router.PinSet.
const Pins = 16

// New makes Metrics that ask sources when they are collected.
func New(sources Sources) *Metrics {
	m := &Metrics{
		sources: sources, names: newNames(),
		answered: newByClass("statement_seconds", "From a batch's last frame to its last answer, by the kind of server and the class of what decided that."),
		sent:     newByClass("added_seconds", "From a batch's last frame until it goes to a server: analysis, choice, waiting and settings."),
		login:    histogram{desc: desc("login_seconds", "Logins of clients.")},
	}
	waits := desc("wait_seconds", "Waits of batches, by what for: a connection (pool; those that found one idle are not in it), a replica that is fresh enough (freshness), a primary to appear (primary).", "for")
	for w := range m.waits {
		m.waits[w].desc, m.waits[w].values = waits, []string{Wait(w).String()}
	}
	m.settings.adopted = newAdopted()
	m.bounded.pools, m.bounded.plans = newPools(), newPlans()
	return m
}

// Statement counts a statement that ran.
func (m *Metrics) Statement(t router.Target, r router.Reason, c router.Class) {
	m.statements[t][r][c].Add(1)
}

// Statements calls each with how many statements of each kind ran, of those that did.
func (m *Metrics) Statements(each func(router.Target, router.Reason, router.Class, uint64)) {
	for t := range m.statements {
		for r := range m.statements[t] {
			for c := range m.statements[t][r] {
				if n := m.statements[t][r][c].Load(); n > 0 {
					each(router.Target(t), router.Reason(r), router.Class(c), n)
				}
			}
		}
	}
}

// Answered counts a batch that took d from its last frame to its last answer.
func (m *Metrics) Answered(t router.Target, c router.Class, d time.Duration) {
	m.answered.observe(t, c, d)
}

// Sent counts a batch that took d from its last frame until it went to a server.
func (m *Metrics) Sent(t router.Target, c router.Class, d time.Duration) { m.sent.observe(t, c, d) }

// Wait is what a batch waits for.
type Wait uint8

const (
	WaitPool      Wait = iota // a server connection
	WaitFreshness             // a replica that is fresh enough
	WaitPrimary               // a primary to appear

	Waits = iota // how many there are
)

var waitNames = [Waits]string{"pool", "freshness", "primary"}

// String is the label of the wait.
func (w Wait) String() string { return waitNames[w] }

// Awaited counts a wait.
func (m *Metrics) Awaited(w Wait, d time.Duration) { m.waits[w].observe(d) }

// AwaitedFreshness counts a read for which no replica was fresh enough at once; it
// waited for d, and went to the primary unless a replica became fresh.
func (m *Metrics) AwaitedFreshness(level router.Consistency, d time.Duration, fresh bool) {
	f := &m.freshness[level]
	m.Awaited(WaitFreshness, d)
	f.delayed.Add(1)
	if !fresh {
		f.redirected.Add(1)
	}
}

// Retry is why a batch is sent again before anything of its answer reached the client.
type Retry uint8

const (
	RetryReadOnly Retry = iota // a replica refused it: it is not a read
	RetryConflict              // recovery canceled it
	RetryLost                  // the server went away
	RetryPlan                  // what a prepared statement uses was changed since it was parsed
	RetryShutdown              // the server shuts down, or is the primary no more

	Retries = iota // how many there are
)

var retryNames = [Retries]string{"read_only", "recovery_conflict", "connection_lost", "cached_plan", "shutdown"}

// String is the label of the reason.
func (r Retry) String() string { return retryNames[r] }

// Retried counts a batch that is sent again.
func (m *Metrics) Retried(r Retry) { m.retries[r].Add(1) }

// ClientEntered counts a client in, and returns how many there are with it.
func (m *Metrics) ClientEntered() int64 { return m.clients.Add(1) }

// ClientLeft counts a client out.
func (m *Metrics) ClientLeft() { m.clients.Add(-1) }

// Clients is how many clients there are.
func (m *Metrics) Clients() int64 { return m.clients.Load() }

// LoggedIn counts a login that took d.
func (m *Metrics) LoggedIn(d time.Duration) {
	m.logins.Add(1)
	m.login.observe(d)
}

// LoginFailed counts a login that was refused or broken off.
func (m *Metrics) LoginFailed() { m.loginFailures.Add(1) }

// ClientVanished counts a client that was gone while it waited for an answer.
func (m *Metrics) ClientVanished() { m.odd.vanished.Add(1) }

// HintMisspelt counts a statement with a comment that looks like a hint and is none.
func (m *Metrics) HintMisspelt() { m.odd.misspelt.Add(1) }

// Cancel is what a cancel request found.
type Cancel uint8

// What there is to find.
const (
	CancelMet       Cancel = iota // a batch that was not answered yet
	CancelIdle                    // a session that had nothing to be canceled: it came too late, or too early
	CancelUnknown                 // no session with its key
	CancelForwarded               // no session here, but one of a peer's

	Cancels = iota // how many there are
)

var cancelNames = [Cancels]string{"met", "idle", "unknown", "forwarded"}

// String is the label of the outcome.
func (c Cancel) String() string { return cancelNames[c] }

// CancelRequested counts a cancel request that has been dealt with.
func (m *Metrics) CancelRequested(found Cancel) { m.odd.cancels[found].Add(1) }

// Timeout is what took too long.
type Timeout uint8

// What there is.
const (
	TimeoutIdle            Timeout = iota // a client outside a transaction
	TimeoutIdleTransaction                // a client within one
	TimeoutTransaction
	TimeoutStatement

	Timeouts = iota // how many there are
)

var timeoutNames = [Timeouts]string{"client_idle", "idle_transaction", "transaction", "statement"}

// String is the label of the timeout.
func (t Timeout) String() string { return timeoutNames[t] }

// TimedOut counts a session or statement that was ended because of a timeout.
func (m *Metrics) TimedOut(t Timeout) { m.odd.timeouts[t].Add(1) }

// ProxyError counts an error of the proxy's own that a client is told of.
func (m *Metrics) ProxyError() { m.proxyErrors.Add(1) }

// ServerError counts a server's error that a client is told of.
func (m *Metrics) ServerError() { m.serverErrors.Add(1) }

// ServerLost counts a server connection that ended in the middle of a batch.
func (m *Metrics) ServerLost() { m.serversLost.Add(1) }

// Pinned counts the kinds of pins that a session gained and lost.
func (m *Metrics) Pinned(before, after router.PinSet) {
	for i := range m.pins {
		bit := router.PinSet(1) << i
		switch {
		case after&bit != 0 && before&bit == 0:
			m.pins[i].now.Add(1)
			m.pins[i].total.Add(1)
		case before&bit != 0 && after&bit == 0:
			m.pins[i].now.Add(-1)
		}
	}
}
