package logs

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// room is how many bytes of lines may wait. As many may be on their way to the writer besides.
	room = 4 << 20
	// keep is how large a buffer may be that is used again.
	keep = 64 << 10
	// syncPatience bounds how long Sync waits, which zap calls before it ends the process.
	syncPatience = time.Second
)

var errNotWritten = errors.New("the log is not read")

// Queue is lines on their way to a writer. Write never waits: what has no room is dropped.
//
//	Write ──▶ waiting ──take──▶ run ──▶ out       in order, a line at a time
//	  └ no room: dropped          └ an error: dropped
type Queue struct {
	out     io.Writer
	wake    chan struct{} // holds one if there may be something to do
	ended   chan struct{} // closed once run has ended
	dropped atomic.Uint64

	mu      sync.Mutex // protects the fields below
	waiting lines
	untold  uint64        // dropped and not told yet
	flows   bool          // the last line tried was written
	busy    bool          // something is to be written, or being written
	idle    chan struct{} // who waits for the end of that; nil for nobody
	closed  bool
}

// lines are lines, one after the other, and where each ends.
type lines struct {
	text []byte
	ends []int
}

func newQueue(out io.Writer) *Queue {
	return &Queue{out: out, wake: make(chan struct{}, 1), ended: make(chan struct{}), flows: true}
}

// start begins to write; tell is called with how many lines were lost, once others have been written since.
func (q *Queue) start(tell func(lost uint64)) { go q.run(tell) }

// Write queues a copy of a line. It reports no error: a logger has nobody to tell.
func (q *Queue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || len(q.waiting.text)+len(line) > room {
		q.dropLocked(1)
		return len(line), nil
	}
	q.busy = true
	if len(q.waiting.ends) == 0 {
		q.rouse()
	}
	q.waiting.text = append(q.waiting.text, line...)
	q.waiting.ends = append(q.waiting.ends, len(q.waiting.text))
	return len(line), nil
}

func (q *Queue) dropLocked(n uint64) {
	q.untold += n
	q.dropped.Add(n)
}

func (q *Queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Sync waits for what is queued, but not long.
func (q *Queue) Sync() error {
	q.mu.Lock()
	if q.busy && q.idle == nil {
		q.idle = make(chan struct{})
	}
	idle, busy := q.idle, q.busy
	q.mu.Unlock()
	if busy && !within(idle, syncPatience) {
		return errNotWritten
	}
	return nil
}

// close ends the queue. If the writer is stuck for longer, it stays behind with what is queued.
func (q *Queue) close(patience time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.rouse()
	within(q.ended, patience)
}

func within(done <-chan struct{}, patience time.Duration) bool {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-done:
		return true
	case <-late.C:
		return false
	}
}

// run writes until the queue is closed and empty.
func (q *Queue) run(tell func(lost uint64)) {
	defer close(q.ended)
	var spare lines
	for {
		next, lost, closed := q.take(spare)
		if lost > 0 {
			tell(lost) // behind what was queued when the first of them was lost
		}
		q.writeAll(next)
		switch {
		case len(next.ends) > 0 || lost > 0:
		case closed:
			return
		default:
			<-q.wake
		}
		if spare = (lines{}); cap(next.text) <= keep {
			spare = lines{next.text[:0], next.ends[:0]}
		}
	}
}

// take is what waits, for which spare is put in place, and how many lines are to be told as lost.
func (q *Queue) take(spare lines) (next lines, lost uint64, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flows && !q.closed {
		lost, q.untold = q.untold, 0
	}
	next, q.waiting = q.waiting, spare
	if q.busy = len(next.ends) > 0 || lost > 0; !q.busy && q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
	return next, lost, q.closed
}

// writeAll writes lines one by one, as others may write to the same place.
func (q *Queue) writeAll(some lines) {
	var failed uint64
	var err error
	from := 0
	for _, end := range some.ends {
		if _, err = q.out.Write(some.text[from:end]); err != nil {
			failed++
		}
		from = end
	}
	if len(some.ends) > 0 {
		q.mu.Lock()
		q.dropLocked(failed)
		q.flows = err == nil
		q.mu.Unlock()
	}
}
