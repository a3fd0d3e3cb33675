package pool

import (
	"time"

	"github.com/pgweir/pgweir/pool/backend"
)

// waiter is one goroutine waiting for a grant.
type waiter struct {
	want    Want
	since   time.Time
	timeout time.Duration // of the wait; 0 is none
	grant   chan grant    // of capacity 1
	granted bool          // no longer among the waiters
	timer   *time.Timer

	before, after *waiter // in the queue
}

func newWaiter() any {
	w := &waiter{grant: make(chan grant, 1), timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	return w
}

// queue is a list of waiters that allocates nothing.
type queue struct {
	front, back *waiter
	n           int
}

func (q *queue) push(w *waiter) {
	w.before, w.after = q.back, nil
	if q.back == nil {
		q.front = w
	} else {
		q.back.after = w
	}
	q.back = w
	q.n++
}

func (q *queue) remove(w *waiter) {
	if w.before == nil {
		q.front = w.after
	} else {
		w.before.after = w.after
	}
	if w.after == nil {
		q.back = w.before
	} else {
		w.after.before = w.before
	}
	w.before, w.after = nil, nil
	q.n--
}

// grant is a connection, or the place to dial one (a place already counted in open and dialing).
type grant struct {
	b   *backend.Backend
	err error
}
