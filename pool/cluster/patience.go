package cluster

import (
	"context"
	"time"
)

// patience bounds the time of one question after the other, as context.WithTimeout does,
// but makes a context and a timer only where the last ones have run out: thousands of questions a
// second are answered in time. It belongs to one goroutine; end gives it up.
type patience struct {
	parent context.Context

	ctx    context.Context // nil if the next question needs a new one
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// begin returns the context of a question that may take d. done must follow.
func (p *patience) begin(d time.Duration) context.Context {
	if p.ctx != nil {
		p.timer.Reset(d)
		return p.ctx
	}
	ctx, cancel := context.WithCancelCause(p.parent)
	p.ctx, p.cancel = ctx, cancel
	p.timer = time.AfterFunc(d, func() { cancel(context.DeadlineExceeded) })
	return ctx
}

// done is that the question is answered, or given up.
func (p *patience) done() {
	if !p.timer.Stop() { // the context has ended, or is about to
		p.end()
	}
}

// end gives up what is kept for further questions.
func (p *patience) end() {
	if p.ctx != nil {
		p.timer.Stop()
		p.cancel(nil)
		p.ctx = nil
	}
}
