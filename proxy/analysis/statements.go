package analysis

import (
	"fmt"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

func (a *Analysis) newPrepared(shared *prepared.Statement, p *router.Plan, sql *session.SQLPrepared) *session.Prepared {
	under := a.state().Meaning(a.Up.Database.Definitions())
	if a.hasOwnObjects() {
		under.Definitions = 0
	}
	if a.namesUnknown() {
		under.Definitions, under.Known = 0, session.UnknownText
	}
	return &session.Prepared{Statement: shared, First: shared, Under: under, Plan: p, Snapshot: a.Up.Database.Plans.Snapshot(), SQL: sql}
}

// plan is the plan of a text for this session.
func (a *Analysis) plan(text []byte) *router.Plan {
	p := a.Up.Database.Plans.Get(text)
	if p.Flags.Has(router.FlagIgnorant) && a.Service.Audit.Policy() != nil && a.Up.Database.Stale() && a.Lease == NotHeld {
		// What it uses may just have been created, and is not to escape the audit.
		a.Up.Database.AwaitCatalog(a.Interrupt.SlowContext())
		a.Interrupt.EndWait()
		p = a.Up.Database.Plans.Get(text)
	}
	return p.For(a.Up.Key.User, a.Application)
}

// misspelt tells of a hint that is none, once a session: its author believes in it.
func (a *Analysis) misspelt(p *router.Plan, text []byte) {
	if !p.Flags.Has(router.FlagMisspelt) {
		return
	}
	a.Service.Metrics.HintMisspelt()
	if *a.Hints++; *a.Hints > 1 {
		return
	}
	hint := router.Misspelt(string(text))
	a.Service.Log.Warn("a comment looks like a hint and is none", zap.String("hint", hint), zap.String("user", a.Up.Key.User),
		zap.String("database", a.Up.Key.Database), zap.String("application", a.Application))
	a.b.Notices = wire.AppendNotice(a.b.Notices, "WARNING", "01000", "pgweir knows no hint \""+hint+
		"\": there are pgweir:primary, pgweir:replica, pgweir:consistency=LEVEL, pgweir:min_lsn=LSN and pgweir:cross-tenant")
}

// refresh is the plan of a statement, made anew if the catalog has changed.
func (a *Analysis) refresh(p *session.Prepared) *router.Plan {
	now := a.Up.Database.Plans.Snapshot()
	if p.Snapshot == now {
		return p.Plan
	}
	p.Snapshot = now
	if p.Statement.SQL == "" {
		p.Plan = a.planOf(p.SQL, a.plan([]byte(p.Text)))
	} else if outer := a.plan([]byte(p.Statement.SQL)); outer.SQL.Inner != nil {
		p.Plan = outer.SQL.Inner
	}
	return p.Plan
}

// planOf is p, or the plan of the statement that p's text executes, unless what p
// itself holds (its arguments) is the stricter.
func (a *Analysis) planOf(sql *session.SQLPrepared, p *router.Plan) *router.Plan {
	if sql == nil || sql.Needs == nil || p.SQL.Verb != router.PreparedExecute {
		return p
	}
	return p.Executing(a.refresh(sql.Needs))
}

// reading tells apart what the same text may mean where it is parsed: prepared statements are
// shared among those only to whom it means the same. Names in it mean what the catalog holds
// when it is parsed, and a server that has parsed it before need not find out what was remade
// since, nor of which types parameters are by another search_path; literals are read by the
// session's settings.
func (a *Analysis) reading(p *router.Plan, text []byte) string {
	literals := p.LiteralsOf(text)
	if literals == router.LiteralsNone && !p.Uses {
		return ""
	}
	if p.Uses && (a.hasOwnObjects() || a.namesUnknown()) || literals != router.LiteralsNone && a.readsByItself(literals) {
		return fmt.Sprintf("%d.%d.%d", a.ID, a.Batch, len(a.b.Messages))
	}
	var b strings.Builder
	if p.Uses {
		b.WriteString(strconv.FormatUint(a.Up.Database.Definitions(), 10) + "\x00" + session.NamesKey(a.state().Settings.Now()))
	}
	now := a.state().Settings.Now()
	if literals == router.LiteralsNone || now == (setting.Settings{}) {
		return b.String()
	}
	for _, name := range setting.PlannedBy {
		if v, ok := now.Value(name); ok {
			b.WriteString(name + "=" + v + "\x00")
		}
	}
	return b.String()
}

// hasOwnObjects reports whether the session may see objects that others do not: those of its
// open transaction and of the batch, and temporary ones.
func (a *Analysis) hasOwnObjects() bool {
	return a.state().SeesOwnObjects() || a.b.Traits.Has(batch.ChangesCatalog)
}

// namesUnknown reports whether the settings by which names are looked up are not known where a
// message stands.
func (a *Analysis) namesUnknown() bool {
	return a.state().Known != session.Known || a.b.Traits.Has(batch.Renames) || a.b.Traits.Has(batch.EndsTx) && a.state().NamesChanged()
}

// readsByItself reports whether the session reads literals by settings that are not known or
// not for long, or the literals depend on the time.
func (a *Analysis) readsByItself(literals router.Literals) bool {
	s := a.state()
	return literals == router.LiteralsTimed || a.b.Traits.Has(batch.ChangesSettings) || s.Tx.Did.Has(session.DidSet) ||
		s.Known != session.Known || s.Pins&(router.PinSetting|router.PinOpaque) != 0
}

// A statement's text that names another one prepared by SQL bears the client's
// name for it. Servers know it by the name all clients share, so that it can be
// prepared wherever it is needed and clashes with nobody's.

func errRepeated(name string) *wire.Error {
	return wire.Errorf("42P05", "prepared statement \"%s\" already exists", name)
}

func errNoStatement(name string) *wire.Error {
	return wire.Errorf("26000", "prepared statement \"%s\" does not exist", name)
}

// misnamed is why what a PREPARE or EXECUTE names is not, or no longer, what it was
// taken for when it was parsed.
func (a *Analysis) misnamed(sql *session.SQLPrepared) *wire.Error {
	if sql == nil {
		return nil
	}
	named := a.names.Statement([]byte(sql.Name))
	switch {
	case sql.Makes != nil && named != nil:
		return errRepeated(sql.Name)
	case sql.Needs != nil && (named == nil || named.Statement != sql.Needs.Statement):
		return errNoStatement(sql.Name)
	}
	return nil
}

// mayPrepare are the pins of a session whose connection may hold statements prepared by SQL
// that the session does not know.
const mayPrepare = router.PinPrepared | router.PinOpaque

// rewriteSQL puts the shared name into the text of a PREPARE, EXECUTE or DEALLOCATE, as
// m.Text, and what it makes or needs into m.SQL. It returns why it cannot.
func (a *Analysis) rewriteSQL(m *batch.Message, p *router.Plan, text []byte) *wire.Error {
	before, after := string(text[:p.SQL.NameStart]), string(text[p.SQL.NameEnd:])
	st := a.names.Statement([]byte(p.SQL.Name))
	failed := a.state().Tx.Phase.Failed()
	switch p.SQL.Verb {
	case router.PreparedPrepare:
		if st == nil && a.state().Pins&router.PinPrepared != 0 {
			return nil // its server may know the name
		}
		if st != nil && m.Kind == batch.Query && !failed { // the extended protocol fails at Execute
			return errRepeated(p.SQL.Name)
		}
		shared := a.Service.Registry.SQLStatement(before, after, a.reading(p, text))
		m.Text = shared.SQL
		m.SQL = &session.SQLPrepared{Makes: a.newPrepared(shared, p.SQL.Inner, nil), Name: p.SQL.Name}
	case router.PreparedExecute:
		if st == nil && a.state().Pins&mayPrepare != 0 {
			return nil // only its server may know the name
		}
		if st == nil && failed {
			return ErrAborted
		}
		if st == nil && m.Kind == batch.Parse {
			return nil // the server says so when it is executed
		}
		if st == nil {
			return errNoStatement(p.SQL.Name)
		}
		m.Text = before + st.Name + after
		m.SQL = &session.SQLPrepared{Needs: st, Name: p.SQL.Name}
	case router.PreparedDeallocate:
		if st == nil || failed {
			return nil // the server refuses it
		}
		if st.Naming == session.BothNames {
			m.SQL = &session.SQLPrepared{Ends: st, Name: p.SQL.Name}
			return nil
		}
		m.Text = before + st.Name + after
		m.SQL = &session.SQLPrepared{Needs: st, Ends: st, Name: p.SQL.Name}
	case router.PreparedNone, router.PreparedDeallocateAll:
		return nil
	}
	a.b.Traits |= batch.Rewritten
	return nil
}
