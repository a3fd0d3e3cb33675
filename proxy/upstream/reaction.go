package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/pool/cluster"
)

// reaction is what the proxy does as the servers of one cluster come, go and change
// their roles. Its methods are called by the cluster's one telling goroutine.
type reaction struct {
	name        string
	log         *zap.Logger
	pools       func() []*Pools
	closeHeld   func(*cluster.Server) int
	forget      func(*cluster.Server) // called when a server has left
	started     func(*cluster.Server) // called when a server is up that was started since it was last
	primaryWait func() time.Duration

	primary *cluster.Server // the latest
	lost    time.Time       // when it was, if there is none
	// unlisted is when it was said last that it is not listed any more.
	unlisted time.Time

	failovers atomic.Uint64 // times another server became the primary
}

// changed takes over a new topology: what it means is logged, and connections to
// servers that are no longer what they were are not used again.
func (r *reaction) changed(before, after *cluster.Topology) {
	for i := range before.States {
		if s := before.States[i].Server; !after.Has(s) {
			r.left(s, after)
		}
	}
	for i := range after.States {
		now := after.States[i]
		old := before.State(now.Server)
		if old.Status != now.Status || now.Status.Usable() && (old.Role != now.Role || old.Timeline != now.Timeline) {
			r.logServer(now)
		}
		r.logMany(old, now)
		r.logUnproved(old, now)
		r.logUnlisted(old, now)
		if now.Status.Usable() && now.Started != old.Started && !old.Many {
			r.started(now.Server)
		}
		r.cutOff(old, now, after)
	}
	r.logPrimary(before, after)
}

// left gives up what there was for a server that is not of the cluster any more.
func (r *reaction) left(s *cluster.Server, t *cluster.Topology) {
	r.log.Info("server has left", zap.String("event", "server_left"), zap.String("cluster", r.name), zap.String("server", s.Address))
	for _, p := range r.pools() {
		if p.Cluster.Name() == r.name {
			p.servers.Retire(t)
		}
	}
	r.forget(s)
}

// cutOff closes connections to a server: those idle if it is not what they were made
// to, those in use too if nothing must go on there. A replica that was promoted keeps
// them, for they can do everything now.
func (r *reaction) cutOff(old, now cluster.State, t *cluster.Topology) {
	gone := old.Status.Usable() && !now.Status.Usable()
	demoted := old.Role == cluster.RolePrimary && now.Role == cluster.RoleReplica
	restarted := old.Started != "" && old.Started != now.Started && now.Started != "" && !now.Many
	if !gone && !demoted && !restarted {
		return
	}
	var closing sync.WaitGroup
	for _, p := range r.pools() {
		if p.Cluster.Name() != r.name {
			continue
		}
		switch pl := p.servers.Known(now.Server); {
		case pl == nil:
		case gone:
			closing.Go(pl.Evict)
		default:
			closing.Go(pl.Expire)
		}
	}
	closing.Wait()
	if t.Abandoned(now.Server) {
		if n := r.closeHeld(now.Server); n > 0 {
			r.log.Warn("connections in use were closed: their server is not to be relied on", r.fields(now, zap.Int("connections", n))...)
		}
	}
}

func (r *reaction) fields(st cluster.State, more ...zap.Field) []zap.Field {
	return append([]zap.Field{zap.String("cluster", r.name), zap.String("server", st.Server.Address),
		zap.Stringer("role", st.Role)}, more...)
}

// logMany says that several servers answer at an address, or that they do no more.
func (r *reaction) logMany(old, now cluster.State) {
	switch {
	case now.Many && !old.Many:
		r.log.Error("several servers answer at one address: what is known of one is not true of another, so most reads there go to the primary; give each server an address of its own",
			r.fields(now)...)
	case old.Many && !now.Many:
		r.log.Info("one server answers at the address again", r.fields(now)...)
	}
}

// logUnproved says that a server does not tell how far it is, or that it does again.
func (r *reaction) logUnproved(old, now cluster.State) {
	switch {
	case now.Unproved != nil && old.Unproved == nil && now.Role == cluster.RolePrimary:
		r.log.Warn("the primary does not tell how far it is: no replica can be known to be fresh, so reads above eventual run on the primary",
			r.fields(now, zap.Error(now.Unproved))...)
	case now.Unproved != nil && old.Unproved == nil:
		r.log.Warn("a replica does not tell how far it is: it serves reads at eventual only, others run elsewhere",
			r.fields(now, zap.Error(now.Unproved))...)
	case now.Unproved == nil && old.Unproved != nil && now.Up:
		r.log.Info("a server tells how far it is again", r.fields(now)...)
	}
}

// unlistedInterval is how often it is said at most that the primary is not listed: who finds servers may name it now and then.
const unlistedInterval = time.Minute

// logUnlisted says that the primary is used though it is no longer one of the cluster's.
func (r *reaction) logUnlisted(old, now cluster.State) {
	if !now.Unlisted() || old.Unlisted() || !r.unlisted.IsZero() && time.Since(r.unlisted) < unlistedInterval {
		return
	}
	r.unlisted = time.Now()
	r.log.Warn("the primary is not listed any more, but still used: no other primary is known", r.fields(now)...)
}

// logServer says what became of a server, and what is to be done.
func (r *reaction) logServer(st cluster.State) {
	log := r.log.With(zap.String("event", "server_"+st.Status.String()))
	switch st.Status {
	case cluster.StatusUnknown: // nothing has become of it yet
	case cluster.StatusServing:
		log.Info("server is up", r.fields(st, zap.Uint32("timeline", st.Timeline), zap.Int("version", st.Version))...)
	case cluster.StatusSlow:
		log.Warn("server is slow to answer: reads go elsewhere as long as others serve them", r.fields(st, zap.Error(st.Err))...)
	case cluster.StatusDown:
		log.Warn("server is down", r.fields(st, zap.Error(st.Err))...)
	case cluster.StatusLeaving:
		log.Info("server leaves: it is no longer one of the cluster's; transactions there may end", r.fields(st)...)
	case cluster.StatusDuplicate:
		log.Warn("server is configured twice", r.fields(st, zap.Error(st.Err))...)
	case cluster.StatusDiverged: // for a moment, after every promotion
		log.Warn("replica is not used", r.fields(st, zap.Uint32("timeline", st.Timeline), zap.Error(st.Err))...)
	case cluster.StatusForeign, cluster.StatusFenced, cluster.StatusSplitBrain:
		log.Error("server is not used: "+st.Status.String(), r.fields(st, zap.Uint32("timeline", st.Timeline), zap.Error(st.Err))...)
	}
}

// logPrimary says where writes go.
func (r *reaction) logPrimary(before, after *cluster.Topology) {
	if !after.Known || after.Primary == before.Primary && (before.Known || after.Primary != nil) {
		return
	}
	fields := []zap.Field{zap.String("cluster", r.name)}
	if after.Primary == nil {
		r.lost = time.Now()
		r.log.Warn("no primary: writes wait for one",
			append(fields, zap.String("event", "primary_lost"), zap.Duration("primary_wait", r.primaryWait()))...)
		return
	}
	fields = append(fields, zap.String("server", after.Primary.Address), zap.Uint32("timeline", after.Timeline))
	if !r.lost.IsZero() {
		fields = append(fields, zap.Duration("without_primary", time.Since(r.lost).Round(time.Millisecond)))
	}
	r.lost = time.Time{}
	if r.primary != nil && r.primary != after.Primary {
		r.failovers.Add(1)
		fields = append(fields, zap.String("event", "primary_changed"), zap.String("before", r.primary.Address))
		r.log.Warn("another server is the primary", fields...)
	} else {
		r.log.Info("primary found", append(fields, zap.String("event", "primary_found"))...)
	}
	r.primary = after.Primary
}
