package analysis

import (
	"slices"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// What the session tells package audit of a statement that is about to run.

// audit has a statement checked whose plan has a finding, and returns the error that is to
// answer it, or nil.
func (a *Analysis) audit(st audit.Statement) (refused *wire.Error) {
	s := a.state()
	if st.Plan.Tenant == nil || s.Tx.Phase.Failed() || st.Plan.SQL.Verb == router.PreparedPrepare {
		return nil // it does not run
	}
	by := audit.Session{
		User: a.Up.Key.User, Application: a.Application, Database: a.Up.Database.Label(), Role: a.actsAs(s),
		Protection: a.Up.Database.Protection(), Catalog: a.Up.Database.Plans.Snapshot(),
	}
	by.Tenants, by.Certain = a.tenants(st.Plan)
	a.b.Notices, refused = a.Service.Audit.Check(&st, &by, a.b.Notices)
	return refused
}

// shown is what is told of a text that may execute what was prepared by SQL.
func shown(sql *session.SQLPrepared, text []byte) []byte {
	if sql != nil && sql.Needs != nil {
		return []byte(sql.Needs.Statement.SQL)
	}
	return text
}

// auditBind is audit of a Bind. Where its statement executes another one, prepared by
// SQL, the proxy has put a name into its text, so that literals are not where p says.
func (a *Analysis) auditBind(m *batch.Message, p *router.Plan, bind []byte) *wire.Error {
	st := audit.Statement{Plan: p, Bind: bind}
	if m.SQL != nil && m.SQL.Needs != nil {
		st.Shown = shown(m.SQL, nil)
		return a.audit(st)
	}
	if m.Prepared != nil {
		st.Text = []byte(m.Prepared.Text)
	} else {
		st.Text, _ = a.b.Unnamed(a.Front.Buffered(), &a.Names.Unnamed, m.Parse)
	}
	st.Shown = st.Text
	return a.audit(st)
}

// tenants are the values of the settings that name the tenant, as they will be when the
// statement of p runs: what the batch sets before it is not yet in force. They are not
// certain where something may have set them that the session does not follow.
func (a *Analysis) tenants(p *router.Plan) (values []string, certain bool) {
	a.hearTenants()
	certain = a.state().Certain()
	for i := range a.said {
		said := a.said[i]
		said.hear(p, nil)
		certain = certain && said.how != touched
		v := said.value
		if said.how == unsaid {
			v, _ = a.state().Settings.Now().Value(said.name)
		}
		if v != "" {
			values = append(values, v)
		}
	}
	return values, certain
}

// tenantSaid is what a batch has said of a setting that names the tenant.
type tenantSaid struct {
	name  string
	value string // as it was last set
	how   howSaid
}

// howSaid is how a batch has said what value a setting has.
type howSaid uint8

const (
	unsaid  howSaid = iota
	said            // it set it
	touched         // it may have set it to anything
)

// hear follows what a message says.
func (s *tenantSaid) hear(p *router.Plan, params []router.Argument) {
	switch v, ok := setBy(p, params, s.name); {
	case ok:
		s.value, s.how = v, said
	case slices.Contains(p.Touches, s.name):
		s.how = touched
	}
}

// hearTenants follows the messages that came since it was called last.
func (a *Analysis) hearTenants() {
	if a.said == nil {
		for _, name := range a.Service.Config.Tenant.Settings {
			a.said = append(a.said, tenantSaid{name: setting.Fold(name)})
		}
	}
	for ; a.heard < len(a.b.Messages); a.heard++ {
		m := &a.b.Messages[a.heard]
		if m.Plan == nil || m.Here || !m.Kind.Executes() {
			continue
		}
		for i := range a.said {
			a.said[i].hear(m.Plan, m.Params)
		}
	}
}

// setBy is what a plan sets name to. Of several the first value counts: what stands
// between it and a reset is what is looked at.
func setBy(p *router.Plan, params []router.Argument, name string) (value string, ok bool) {
	sets, _ := batch.BoundSets(p, params)
	for i := range sets {
		if set := &sets[i]; set.Name == name {
			if ok = true; !set.Reset && set.Value != "" {
				return set.Value, true
			}
		}
	}
	if !ok && len(p.Parts) > 0 {
		return setByParts(p.Parts, name)
	}
	return "", ok
}

// setByParts is setBy for the parts of a string. It is known if the string begins by it, and
// the value stays in force for all that comes behind.
func setByParts(parts []*router.Plan, name string) (value string, ok bool) {
	first, ended := 0, false
	for ; first < len(parts) && (parts[first].Tx.Verb == router.TxBegin || len(parts[first].Sets) > 0); first++ {
		if v, set := setBy(parts[first], nil, name); set {
			value, ok = v, true
		}
	}
	for _, part := range parts[first:] {
		tx := part.Tx.Verb != router.TxNone
		if slices.Contains(part.Touches, name) || ended && !tx {
			return "", false
		}
		ended = ended || tx
	}
	return value, ok
}

// actsAs is the role whose rights the session has.
func (a *Analysis) actsAs(s *session.State) string {
	now := s.Settings.Now()
	for _, name := range []string{setting.Role, setting.Authorization} {
		if v, _ := now.Value(name); v != "" && v != "none" {
			return v
		}
	}
	return a.Up.Config.ServerUser
}
