// Package explain asks servers now and then how they mean to execute a statement. Sessions
// offer what they have just executed and what is proved to read only; one goroutine takes
// one of these a second at most, and has a replica EXPLAIN it, without ANALYZE, on a
// connection of its own, as the same user, under the same settings and with the same values
// of parameters: row-level security and statistics make other plans of others. What is kept of
// the answer has no literal (package execplan); the sample is dropped with it.
//
// A session is never waited for and never waits: if nobody is there to take its sample, it
// makes none. A nil Sampler, which there is while insight.plans is off, wants nothing.
package explain

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Options are what a Sampler works with. All but Changed must be set.
type Options struct {
	Every   time.Duration // how long a plan is good for
	Timeout time.Duration // of a server
	Primary bool          // it is asked where there is no replica
	Generic bool          // values of parameters are never used
	Log     *zap.Logger
	// Changed counts, for each database, what may have changed its plans.
	Changed func() map[string]uint64
}

// Sample is a statement that was executed. It has literals: it must not be kept, logged or
// shown.
type Sample struct {
	Statement *insight.Statement
	Text      string // as it was executed
	Types     string // of its parameters, as in a Parse
	// Values are its parameters, which follow the names in a Bind. Without, and where they are
	// not to be used, the plan is generic.
	Values   []byte
	Settings setting.Settings // in force
	From     *Source
}

// Source is whose samples they are: one session's. A nil Source offers none.
type Source struct {
	sampler  *Sampler
	topology func() *cluster.Topology
	open     Open
}

// Open opens a connection to a server, with the rights of the session's and under another
// name of the application.
type Open func(ctx context.Context, s *cluster.Server, application string) (*backend.Backend, error)

// Source makes the Source of a session.
func (x *Sampler) Source(topology func() *cluster.Topology, open Open) *Source {
	if x == nil {
		return nil
	}
	return &Source{x, topology, open}
}

// MaxSize is how long text and values of a sample may be each, in bytes.
const MaxSize = 256 << 10

// application is the name of the connections.
const application = "pgweir explain"

// Sampler has statements explained. It is safe for concurrent use.
type Sampler struct {
	options Options
	planner *insight.Planner // of Run's goroutine

	open    atomic.Bool // for one sample
	now     atomic.Int64
	offered chan *Sample
}

// New makes the Sampler of b.
func New(b *insight.Book, o Options) *Sampler {
	return &Sampler{options: o, planner: b.NewPlanner(o.Every), offered: make(chan *Sample, 1)}
}

// Wants reports whether a sample of s would be taken.
func (from *Source) Wants(s *insight.Statement) bool {
	return from != nil && from.sampler.open.Load() && s.PlanDue(from.sampler.now.Load())
}

// WantsValues reports whether a sample should have the values of its parameters.
func (from *Source) WantsValues() bool { return !from.sampler.options.Generic }

// Offer gives a sample, which is the Sampler's from then on.
func (from *Source) Offer(s *Sample) {
	if x := from.sampler; x.open.CompareAndSwap(true, false) {
		s.From = from
		x.offered <- s // has room for one
	}
}

const (
	pace        = time.Second // between two samples, at least
	reviewEvery = 10 * time.Second
)

// Run takes samples until ctx ends.
func (x *Sampler) Run(ctx context.Context) {
	if x == nil {
		return
	}
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	var reviewed time.Time
	changed := map[string]uint64{}
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-x.offered:
			x.take(ctx, s)
			ticker.Reset(pace)
		case now := <-ticker.C:
			x.now.Store(now.Unix())
			x.again(changed, now)
			if now.Sub(reviewed) >= reviewEvery {
				reviewed = now
				x.review(now)
			}
			if len(x.offered) == 0 {
				x.open.Store(true)
			}
		}
	}
}

// again has statements planned anew if something changed in their database. changed is what
// had by the last time.
func (x *Sampler) again(changed map[string]uint64, now time.Time) {
	for database, n := range x.options.Changed() {
		if before, known := changed[database]; known && n != before {
			x.planner.Again(database, now)
		}
		changed[database] = n
	}
}

func (x *Sampler) review(now time.Time) {
	for _, s := range x.planner.Review(now) {
		p := s.Planned()
		x.options.Log.Warn("statement is slower by another plan", zap.String("event", "plan_regressed"),
			zap.String("database", s.Database), zap.String("statement", s.Text), zap.String("fingerprint", s.Fingerprint),
			zap.String("plan", p.Before.Change(p.Plan)), zap.Time("since", p.Since), zap.Duration("p95_before", p.Earlier.P95), zap.Duration("p95", p.Usual.P95))
	}
}

// take has one sample explained.
func (x *Sampler) take(ctx context.Context, s *Sample) {
	ctx, cancel := context.WithTimeout(ctx, 2*x.options.Timeout)
	defer cancel()
	plan, err := x.explain(ctx, s)
	now := time.Now()
	if err != nil {
		x.planner.Failed(s.Statement, now)
		x.options.Log.Debug("no plan", zap.String("database", s.Statement.Database), zap.String("fingerprint", s.Statement.Fingerprint), zap.String("because", reason(err)))
		return
	}
	if changed := x.planner.Note(s.Statement, plan, now); changed != nil {
		x.options.Log.Info("plan changed", zap.String("event", "plan_changed"),
			zap.String("database", s.Statement.Database), zap.String("statement", s.Statement.Text), zap.String("fingerprint", s.Statement.Fingerprint),
			zap.String("plan", changed.Before.Change(plan)), zap.Float64("cost_before", changed.Before.Cost), zap.Float64("cost", plan.Cost))
	}
}

// pick is the replica that has least to do; else the primary, if it may be asked, or nil.
func (x *Sampler) pick(t *cluster.Topology) (best *cluster.Server) {
	for _, s := range t.Replicas {
		if !s.Disabled() && (best == nil || s.Load() < best.Load()) {
			best = s
		}
	}
	if best == nil && x.options.Primary {
		best = t.Primary
	}
	return best
}

// reason is why there is no plan, without what a server's message may quote.
func reason(err error) string {
	var refused *backend.ServerError
	if errors.As(err, &refused) {
		return "the server refused it: SQLSTATE " + refused.Code()
	}
	return err.Error()
}
