package proxy

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
)

// Settings belong to the session, not to a server connection. The session keeps
// their values with PostgreSQL's own rules for transactions; a connection is made to
// carry them before it runs a statement. What a statement sets beyond what its text
// says is read back (readback.go).
//
// Outside a transaction a connection carries c.settings. Inside one it began with
// what c.settings was then, and has gone through the same steps as the session.

// sessionSettings are the settings of a session as transactions see them.
type sessionSettings struct {
	startup session.Settings // of the startup packet: what RESET returns to
	now     session.Settings
	// base is what an open transaction's end without commit returns to.
	base   session.Settings
	atRisk bool // base is valid: the transaction changed something
}

// change applies one SET or RESET of the session, not local to the transaction.
func (s *sessionSettings) change(set router.Set, value string) {
	s.risk()
	if set.Reset {
		if v, ok := s.startup.Value(set.Name); ok {
			s.now = s.now.With(set.Name, v)
		} else {
			s.now = s.now.Without(set.Name)
		}
		return
	}
	s.now = s.now.With(set.Name, value)
}

func (s *sessionSettings) risk() {
	if !s.atRisk {
		s.base, s.atRisk = s.now, true
	}
}

// resetAll is RESET ALL, which leaves the session acting as who it acts.
func (s *sessionSettings) resetAll() {
	s.risk()
	identity := s.now.Only(session.Role, session.Authorization)
	s.now = s.startup
	for n, v := range identity.All() {
		s.now = s.now.With(n, v)
	}
}

// commit and rollback end a transaction.
func (s *sessionSettings) commit() { s.atRisk = false }

func (s *sessionSettings) rollback() {
	if s.atRisk {
		s.now, s.atRisk = s.base, false
	}
}

// custom reports whether the session has set none but custom settings.
func (s *sessionSettings) custom() bool {
	for _, ch := range s.startup.Diff(s.now) {
		if !session.IsCustom(ch.Name) {
			return false
		}
	}
	return true
}

// usual reports whether names in a text mean what they mean to the other sessions of the user.
func (s *sessionSettings) usual() bool {
	for _, name := range []string{"search_path", session.Role, session.Authorization} {
		if _, ok := s.now.Value(name); ok {
			return false
		}
	}
	return true
}

// atBegin is what a connection must carry before the open transaction's BEGIN.
func (s *sessionSettings) atBegin() session.Settings {
	if s.atRisk {
		return s.base
	}
	return s.now
}

// step is what a transaction did that another server must do too if it takes the
// transaction over: a savepoint, or a change of a setting.
type step struct {
	text string // of SAVEPOINT, or of SET; empty for a setting whose value is known

	savepoint bool
	name      string           // of the savepoint
	kept      session.Settings // the session's then

	set router.Set
}

// bound are the op's settings with its parameters in place. It fails if the session
// cannot follow them.
func (o *op) bound() ([]router.Set, bool) {
	for _, set := range o.plan.Sets {
		if set.Param|set.NameParam|set.LocalParam != 0 {
			return o.bind()
		}
	}
	return o.plan.Sets, true
}

func (o *op) bind() ([]router.Set, bool) {
	sets := slices.Clone(o.plan.Sets)
	for i := range sets {
		var ok bool
		if sets[i], ok = sets[i].Bound(o.params); !ok {
			return nil, false
		}
	}
	return sets, true
}

// uncarried is a plan whose settings the session cannot follow after all.
func uncarried(p *router.Plan) *router.Plan {
	q := *p
	for _, set := range q.Sets {
		if set.NameParam != 0 {
			q.Pins |= router.PinOpaque
		}
	}
	q.Sets, q.SetOnly = nil, false
	q.Target, q.Pins = router.TargetPrimary, q.Pins|router.PinSetting|router.PinTemp
	q.Flags |= router.FlagSetsState | router.FlagSetsLocal
	return &q
}

// apply carries out the settings of a plan in the session.
func (c *client) apply(o *op) {
	sets, _ := o.bound()
	for _, set := range sets {
		c.touched = c.touched.With([]string{set.Name})
		switch {
		case set.Local:
		case set.Exact:
			c.settings.change(set, set.Value)
		case reportedAs[set.Name] != "" && !set.Reset:
			c.tx.reported = append(c.tx.reported, set.Name)
		default:
			c.unread = true
		}
		// Outside a transaction too: a BEGIN in the same unit makes it a part of its own.
		c.tx.step(step{set: set})
	}
}

// carriesAfter notes what the connection carries when a transaction has ended.
func (c *client) carriesAfter(commit bool) {
	if c.b == nil {
		return
	}
	if commit {
		c.b.Note(c.settings.now)
	} else if c.within {
		c.b.Note(c.prior)
	}
	c.within = false
}

// endSettings ends a transaction, explicit or not, for the settings of the session
// and of its connection.
func (c *client) endSettings(commit bool) {
	if commit {
		c.settings.commit()
	} else {
		c.settings.rollback()
		c.noteIsolation()
		if !c.tx.kept { // all of it is undone
			c.unread, c.tx.reported = false, nil
		}
	}
	c.carriesAfter(commit)
}

// endUnitSettings ends what is left open at a ReadyForQuery outside a transaction. A
// ROLLBACK in the unit may have undone what the connection took over at its
// beginning: what it carries is to be asked then.
func (c *client) endUnitSettings(commit bool) {
	if c.undid {
		c.undid = false
		c.unread = c.unread || c.settings.atRisk || c.within
		if commit {
			c.settings.commit()
		} else {
			c.settings.rollback()
		}
		return
	}
	c.endSettings(commit)
}

// guard is a statement that is there only if the settings before it were taken over.
// It is bound, not run.
const guard = "pgweir: adopted"

// adoptAhead makes the connection carry the session's settings in the same write as the
// unit, but in a transaction of their own: they stay whatever becomes of the unit.
// If it fails there is no guard, and by its failure the server discards the unit too.
func (c *client) adoptAhead(u *unit) {
	for _, ch := range u.ahead {
		c.injectSet(u, ch.Name, ch.Value, ch.Reset, false)
	}
	u.out = wire.AppendParse(u.out, guard, "BEGIN", nil)
	u.out = wire.AppendSync(u.out)
	u.queue = append(u.queue, op{kind: opParse, quiet: true, guard: true}, op{kind: opSync, quiet: true})
	for i := range u.queue {
		u.queue[i].ahead = true
	}
	u.out = wire.AppendBind(u.out, nil, guard, []byte{0, 0, 0, 0, 0, 0})
	u.out = wire.AppendTarget(u.out, wire.Close, 'S', guard)
	u.queue = append(u.queue, op{kind: opBind, quiet: true, guard: true}, op{kind: opClose, quiet: true, guard: true})
}

// opening brings a server to where the open transaction is.
func (c *client) opening(u *unit) {
	c.inject(u, c.tx.begin)
	for _, text := range c.tx.prelude {
		c.inject(u, text)
	}
	for _, s := range c.tx.steps {
		c.injectStep(u, s)
	}
}

// takeOver makes the connection carry the session's settings from within the
// implicit transaction of the unit.
func (c *client) takeOver(u *unit) {
	if len(u.adopt) == 0 {
		return
	}
	c.prior, c.within = c.b.Settings(), true
	for _, ch := range u.adopt {
		c.injectSet(u, ch.Name, ch.Value, ch.Reset, false)
	}
}

// settable reports whether the proxy can answer a SET itself: nothing is held that
// it must run on, and a server has taken each name before, so that any value will do.
func (c *client) settable(p *router.Plan, u *unit) bool {
	if len(p.Sets) == 0 || c.b != nil || u.server || c.inUnit || c.tx.failed || c.pins != 0 {
		return false
	}
	for _, set := range p.Sets {
		if set.Local && !c.tx.open || !c.up.Database.Customs.Known(set.Name) {
			return false
		}
	}
	return true
}

// setQuery carries a setting to a server. Its parameters are name, value (NULL is
// the default) and whether it is for the transaction only.
const setQuery = "SELECT pg_catalog.set_config($1, $2, $3)"

// injectSet runs one setQuery before the client's statement.
func (c *client) injectSet(u *unit, name, value string, reset, local bool) {
	st := c.s.registry.Statement([]byte(setQuery), noTypes, "")
	c.prepareOwn(u, st)
	p := []byte{0, 0, 0, 3}
	p = binary.BigEndian.AppendUint32(p, uint32(len(name)))
	p = append(p, name...)
	if reset {
		p = append(p, 0xff, 0xff, 0xff, 0xff)
	} else {
		p = binary.BigEndian.AppendUint32(p, uint32(len(value)))
		p = append(p, value...)
	}
	flag := byte('f')
	if local {
		flag = 't'
	}
	p = append(p, 0, 0, 0, 1, flag, 0, 0)
	u.out = wire.AppendBind(u.out, nil, st.Name, p)
	u.out = wire.AppendExecute(u.out, "")
	u.queue = append(u.queue, op{kind: opBind, quiet: true}, op{kind: opExecute, quiet: true})
}

// injectStep brings a server one step further in the transaction.
func (c *client) injectStep(u *unit, s step) {
	if s.text != "" {
		c.b.Held().Unnamed = 0
		c.injectText(u, s.text, nil)
		return
	}
	value, reset := s.set.Value, s.set.Reset
	if reset {
		if v, ok := c.settings.startup.Value(s.set.Name); ok {
			value, reset = v, false
		}
	}
	c.injectSet(u, s.set.Name, value, reset, s.set.Local)
}

// adoptWithin reports whether a connection may take over the session's settings in
// the same implicit transaction as the unit: in one write, and undone by its
// failure. That needs a unit that does not end the transaction itself.
func (c *client) adoptWithin(u *unit, changes []session.Change) bool {
	for _, ch := range changes {
		if strings.HasPrefix(ch.Name, "default_transaction_") {
			return false // they would be too late for it
		}
	}
	if c.pins != 0 || c.tx.open || u.end == endFlush || u.end == endPart {
		return false // the connection stays, whatever is undone
	}
	for i := range u.ops {
		if o := &u.ops[i]; o.executes() && !plain(o.plan) {
			return false
		}
	}
	return true
}

// plain reports whether a plan is of nothing but reading, writing, or settings the session carries.
func plain(p *router.Plan) bool {
	if p == nil || p.Pins|p.Unpins != 0 || p.Tx.Verb != router.TxNone ||
		p.Flags&(router.FlagStays|router.FlagTxControl|router.FlagForgets|router.FlagDirty|router.FlagDDL) != 0 {
		return false
	}
	switch p.Class {
	case router.ClassRead, router.ClassSetting, router.ClassEmpty:
		return true
	}
	return p.Reason == router.ReasonWrite || p.Reason == router.ReasonRowLock
}

// reportedAs are settings whose value servers report, in their own words, by what they
// call them. With another client_encoding all values are other bytes: they are read back.
var reportedAs = map[string]string{
	"datestyle": "DateStyle", "intervalstyle": "IntervalStyle",
	"standard_conforming_strings": "standard_conforming_strings", "timezone": "TimeZone",
}

// takeReported takes over what the server reported of the settings a transaction has set.
func (c *client) takeReported() {
	for _, name := range c.tx.reported {
		c.settings.now = c.settings.now.With(name, c.b.Parameter(reportedAs[name]))
	}
	if len(c.tx.reported) > 0 {
		c.tx.reported = nil
		c.b.Note(c.settings.now)
		if unreadableText(c.settings.now) {
			c.unread = true // which has it stay
		}
	}
}

// ran takes over the settings a statement changed on the server.
func (c *client) ran(u *unit, o *op) {
	if len(o.plan.Sets) == 0 {
		if c.role == cluster.RoleReplica { // it can be run again where the transaction goes
			c.tx.step(step{text: string(c.textOf(u, o))})
		}
		return
	}
	sets, ok := o.bound()
	if !ok {
		c.unread = true
		return
	}
	c.apply(o)
	for _, set := range sets {
		if v, ok := c.settings.startup.Value(set.Name); ok && set.Reset {
			// The server went back to its own default, not to the session's.
			c.restore = append(c.restore, session.Change{Name: set.Name, Value: v, Local: set.Local})
		}
		c.up.Database.Customs.Add(set.Name)
	}
}
