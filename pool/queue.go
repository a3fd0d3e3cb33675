package pool

import (
	"context"
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
	slow    context.Context // of the rest of the wait; nil as long as it is short
	refused error           // the server's last, for want of slots

	before, after *waiter // in the queue
}

func newWaiter() any {
	w := &waiter{grant: make(chan grant, 1), timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	return w
}

// slowContext asks the caller for its context, once.
func (w *waiter) slowContext(caller SlowPath) context.Context {
	if w.slow == nil {
		w.slow = caller.SlowContext()
	}
	return w.slow
}

// expired is the error of who waited for too long.
func (w *waiter) expired() error {
	if w.refused != nil {
		return &timeout{w.refused}
	}
	return ErrTimeout
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

// pushFront puts back who was in front.
func (q *queue) pushFront(w *waiter) {
	w.before, w.after = nil, q.front
	if q.front == nil {
		q.back = w
	} else {
		q.front.before = w
	}
	q.front = w
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
