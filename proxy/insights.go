package proxy

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
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

var errNoInsight = errors.New("nothing is counted: insight.enabled is false")

// WriteInsights writes what statements cost, and what was found, as JSON.
func (s *Server) WriteInsights(w io.Writer) error {
	if s.insight == nil {
		return errNoInsight
	}
	return json.NewEncoder(w).Encode(s.insight.Summary())
}
