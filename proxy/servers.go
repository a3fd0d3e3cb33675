package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
)

// servers is what the proxy does as the servers of one cluster come, go and change
// their roles. Its methods are called by the cluster's one telling goroutine.
type servers struct {
	s    *Server
	name string

	primary *cluster.Server // the latest
	lost    time.Time       // when it was, if there is none

	failovers atomic.Uint64 // times another server became the primary
}

// changed takes over a new topology: what it means is logged, and connections to
// servers that are no longer what they were are not used again.
func (sv *servers) changed(before, after *cluster.Topology) {
	for i := range after.States {
		old, now := before.States[i], after.States[i]
		if old.Status != now.Status || now.Status.Usable() && (old.Role != now.Role || old.Timeline != now.Timeline) {
			sv.logServer(now)
		}
		sv.cutOff(old, now, after)
	}
	sv.logPrimary(before, after)
}

// cutOff closes connections to a server: those idle if it is not what they were made
// to, those in use too if nothing must go on there. A replica that was promoted keeps
// them, for they can do everything now.
func (sv *servers) cutOff(old, now cluster.State, t *cluster.Topology) {
	gone := old.Status.Usable() && !now.Status.Usable()
	demoted := old.Role == cluster.RolePrimary && now.Role == cluster.RoleReplica
	restarted := old.Started != "" && old.Started != now.Started && now.Started != ""
	if !gone && !demoted && !restarted {
		return
	}
	var closing sync.WaitGroup
	for _, o := range sv.s.origins.all() {
		if o.cluster.Name() != sv.name {
			continue
		}
		if p := o.pools[now.Server.Index]; gone {
			closing.Go(p.Evict)
		} else {
			closing.Go(p.Expire)
		}
	}
	closing.Wait()
	if t.Abandoned(now.Server) {
		if n := sv.s.breakOff(now.Server); n > 0 {
			sv.s.log.Warn("connections in use were closed: their server is not to be relied on", sv.fields(now, zap.Int("connections", n))...)
		}
	}
}

// breakOff closes the connections to a server that sessions hold: what runs on them
// fails, and so does what comes next in their transactions. The pools are told before,
// so that none is used again.
func (s *Server) breakOff(server *cluster.Server) (broken int) {
	var conns []*wire.Conn
	s.mu.Lock()
	for _, c := range s.clients {
		if b := c.interrupt.on(server); b != nil {
			conns = append(conns, b.Conn)
		}
	}
	s.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
	return len(conns)
}

func (sv *servers) fields(st cluster.State, more ...zap.Field) []zap.Field {
	return append([]zap.Field{zap.String("cluster", sv.name), zap.String("server", st.Server.Address),
		zap.Stringer("role", st.Role)}, more...)
}

// logServer says what became of a server, and what is to be done.
func (sv *servers) logServer(st cluster.State) {
	log := sv.s.log
	switch st.Status {
	case cluster.StatusServing:
		log.Info("server is up", sv.fields(st, zap.Uint32("timeline", st.Timeline), zap.Int("version", st.Version))...)
	case cluster.StatusSlow:
		log.Warn("server is slow to answer: reads go elsewhere as long as others serve them", sv.fields(st, zap.Error(st.Err))...)
	case cluster.StatusDown:
		log.Warn("server is down", sv.fields(st, zap.Error(st.Err))...)
	case cluster.StatusDuplicate:
		log.Warn("server is configured twice", sv.fields(st, zap.Error(st.Err))...)
	case cluster.StatusDiverged: // for a moment, after every promotion
		log.Warn("replica is not used", sv.fields(st, zap.Uint32("timeline", st.Timeline), zap.Error(st.Err))...)
	case cluster.StatusForeign, cluster.StatusFenced, cluster.StatusSplitBrain:
		log.Error("server is not used: "+st.Status.String(), sv.fields(st, zap.Uint32("timeline", st.Timeline), zap.Error(st.Err))...)
	}
}

// logPrimary says where writes go.
func (sv *servers) logPrimary(before, after *cluster.Topology) {
	if !after.Known || after.Primary == before.Primary && (before.Known || after.Primary != nil) {
		return
	}
	fields := []zap.Field{zap.String("cluster", sv.name)}
	if after.Primary == nil {
		sv.lost = time.Now()
		sv.s.log.Warn("no primary: writes wait for one",
			append(fields, zap.Duration("primary_wait", sv.s.cfg.Routing.PrimaryWait))...)
		return
	}
	fields = append(fields, zap.String("server", after.Primary.Address), zap.Uint32("timeline", after.Timeline))
	if !sv.lost.IsZero() {
		fields = append(fields, zap.Duration("without_primary", time.Since(sv.lost).Round(time.Millisecond)))
	}
	sv.lost = time.Time{}
	if sv.primary != nil && sv.primary != after.Primary {
		sv.failovers.Add(1)
		fields = append(fields, zap.String("before", sv.primary.Address))
		sv.s.log.Warn("another server is the primary", fields...)
	} else {
		sv.s.log.Info("primary found", fields...)
	}
	sv.primary = after.Primary
}
