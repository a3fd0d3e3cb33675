package activity

import (
	"sync/atomic"
	"time"
)

// Traffic counts what is done for the clients of one user and database. Safe for concurrent use.
type Traffic struct {
	logins, assigned, transactions, statements atomic.Uint64
	received, sent                             atomic.Uint64
	inTransaction, inStatements, waiting       atomic.Int64
}

// answered counts a batch that is over, and the transaction that it ended, if that is not below 0.
func (t *Traffic) answered(b Batch, sent uint64, transaction time.Duration) {
	t.statements.Add(b.Statements)
	t.received.Add(b.Received)
	t.sent.Add(sent)
	t.inStatements.Add(int64(b.Took))
	if transaction >= 0 {
		t.transactions.Add(1)
		t.inTransaction.Add(int64(transaction))
	}
}

// LoggedIn counts a login.
func (t *Traffic) LoggedIn() { t.logins.Add(1) }

// Assigned counts a server connection that a client got.
func (t *Traffic) Assigned() { t.assigned.Add(1) }

// Waited counts a wait for a server connection.
func (t *Traffic) Waited(d time.Duration) { t.waiting.Add(int64(d)) }

// Totals are sums of what Traffic counts.
type Totals struct {
	Logins, Assigned, Transactions, Statements uint64
	Received, Sent                             uint64 // bytes
	InTransaction, InStatements, Waiting       time.Duration
}

// AddTo adds what was counted to sums.
func (t *Traffic) AddTo(s *Totals) {
	s.Logins += t.logins.Load()
	s.Assigned += t.assigned.Load()
	s.Transactions += t.transactions.Load()
	s.Statements += t.statements.Load()
	s.Received += t.received.Load()
	s.Sent += t.sent.Load()
	s.InTransaction += time.Duration(t.inTransaction.Load())
	s.InStatements += time.Duration(t.inStatements.Load())
	s.Waiting += time.Duration(t.waiting.Load())
}
