package proxy

import (
	"encoding/json"
	"errors"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/baselines"
	"github.com/pgweir/pgweir/proxy/explain"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// newBook is what statements are counted in; nil if they are not.
func newBook(c config.Insight) *insight.Book {
	if !c.Enabled {
		return nil
	}
	return insight.New(insight.Options{
		MaxStatements: c.MaxStatements, MaxBytes: c.MaxBytes, Exempt: c.ExemptApplications,
		Rows: uint64(c.Rows), Bytes: uint64(c.Bytes), Idle: c.Idle,
	})
}

// newSampler is what has servers tell the plans of statements that are counted; nil if nobody
// is to be asked.
func newSampler(c config.Plans, b *insight.Book, log *zap.Logger, databases func() []*upstream.Database) *explain.Sampler {
	if !c.Enabled || b == nil {
		return nil
	}
	return explain.New(b, explain.Options{
		Every: c.Interval, Timeout: c.Timeout, Primary: c.OnPrimary, Generic: c.Generic, Log: log,
		Changed: func() map[string]uint64 {
			n := map[string]uint64{}
			for _, d := range databases() {
				n[d.Label()] = d.Definitions()
			}
			return n
		},
	})
}

// newKeeper is what keeps that beyond the process, and beyond a change; nil if nothing is counted.
func newKeeper(s *Server, c config.Insight) (*baselines.Keeper, error) {
	return baselines.New(baselines.Options{
		Book: s.insight, Dir: c.Dir, Files: c.Files, Bytes: int64(c.DirBytes), Statements: c.MaxStatements / 2,
		Lag: func() (time.Duration, bool) { return furthestBehind(s.eachCluster) }, Log: s.log,
	})
}

// furthestBehind is how old what the replica shows that is furthest behind; known is false if
// there is none of which that can be known.
func furthestBehind(each func(func(metrics.Cluster))) (lag time.Duration, known bool) {
	each(func(c metrics.Cluster) {
		for i := range c.Topology.States {
			st := &c.Topology.States[i]
			if st.Role == cluster.RoleReplica && st.Status == cluster.StatusServing && c.Topology.Provable(st.Server) {
				lag, known = max(lag, st.Server.Staleness()), true
			}
		}
	})
	return lag, known
}

var errNoInsight = errors.New("nothing is counted: insight.enabled is false")

// WriteInsights writes what statements cost, and what was found, as JSON.
func (s *Server) WriteInsights(w io.Writer) error {
	if s.insight == nil {
		return errNoInsight
	}
	return json.NewEncoder(w).Encode(s.insight.Summary())
}
