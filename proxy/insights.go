package proxy

import (
	"encoding/json"
	"errors"
	"io"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/proxy/explain"
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

var errNoInsight = errors.New("nothing is counted: insight.enabled is false")

// WriteInsights writes what statements cost, and what was found, as JSON.
func (s *Server) WriteInsights(w io.Writer) error {
	if s.insight == nil {
		return errNoInsight
	}
	return json.NewEncoder(w).Encode(s.insight.Summary())
}
