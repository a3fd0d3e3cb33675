package analysis

import (
	"context"
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/preferences"
	"github.com/pgweir/pgweir/router"
)

// refusal looks whether a statement can be executed here, and returns why not. What SHOW
// pgweir.lsn answers is found out here: a refusal must come while the server's
// transaction can still be made to fail with it.
func (a *Analysis) refusal(m *batch.Message) *wire.Error {
	p := m.Plan
	if p.SQL.Verb == router.PreparedDeallocate && a.names.Statement([]byte(p.SQL.Name)) == nil {
		return errNoStatement(p.SQL.Name)
	}
	o := &p.Own
	if o.Verb == router.OwnNone {
		return nil
	}
	name := setting.Fold(o.Name)
	switch {
	case name == "lsn" && o.Verb == router.OwnShow:
		return a.showLSN(m)
	case name == "lsn":
		return wire.Errorf("55P02", "parameter \"pgweir.lsn\" cannot be changed").
			WithHint("To make reads wait for a commit, set pgweir.min_lsn.")
	case name == "unfiltered" && o.Verb == router.OwnShow:
		return nil
	case o.Verb == router.OwnSet:
		return preferences.Check(name, o.Value)
	}
	switch name {
	case "route", "consistency", "min_lsn", "trace", "traceparent":
		return nil
	}
	return preferences.Unknown(o.Name)
}

// showLSN finds an LSN that covers what the session has committed. The primary is
// asked for it, as far as that was not done since.
func (a *Analysis) showLSN(m *batch.Message) *wire.Error {
	if a.awaits() {
		return wire.Errorf("0A000", "SHOW pgweir.lsn must follow a Sync: what came before it may not be committed yet")
	}
	mine := freshness.Read{Level: router.Session, Session: freshness.SessionScope(a.ID), Began: cluster.Now()}
	ctx, cancel := context.WithTimeout(a.Interrupt.SlowContext(), a.Service.Config.Routing.PrimaryWait)
	defer cancel()
	at, err := a.Up.Cluster.Sampled(ctx, a.Up.Database.Commits.Required(&mine))
	if a.Interrupt.EndWait() {
		return interrupt.ErrCanceled
	}
	if err != nil {
		return wire.Errorf("57P03", "the primary's LSN is not known: %v", err)
	}
	m.Canned = []byte(at.String())
	return nil
}

// DescribeHere describes the result of what the proxy executes.
func DescribeHere(p *router.Plan) []byte {
	if p.Own.Verb == router.OwnShow && strings.EqualFold(p.Own.Name, "unfiltered") {
		return wire.AppendTextDescription(nil, audit.Columns()...)
	}
	if p.Own.Verb == router.OwnShow {
		return wire.AppendTextDescription(nil, "pgweir."+setting.Fold(p.Own.Name))
	}
	return noData
}

// Canned answers.
var (
	noData       = []byte{wire.NoData, 0, 0, 0, 4}
	noParameters = []byte{wire.ParameterDescription, 0, 0, 0, 6, 0, 0}
)

// ErrAborted is PostgreSQL's, of an aborted transaction.
var ErrAborted = wire.Errorf("25P02", "current transaction is aborted, commands ignored until end of transaction block")
