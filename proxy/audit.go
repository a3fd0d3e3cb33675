package proxy

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/tenant"
)

// The tenant audit: what becomes of a statement whose Plan has a finding. Statements
// without one cost a comparison with nil.

// auditor is what all sessions share of it. It is safe for concurrent use.
type auditor struct {
	policy   *tenant.Policy // nil if nothing is audited
	modes    *tenant.Modes
	exempt   config.Exempt
	patterns []*regexp.Regexp
	ledger   *ledger
	clear    bool     // tenants are shown as they are
	salt     [32]byte // or hashed with this
	log      *zap.Logger
}

func newAuditor(c config.Tenant, log *zap.Logger) *auditor {
	a := &auditor{modes: tenant.NewModes(c.Audit), exempt: c.Exempt, clear: c.Audit.ShowTenants, log: log}
	a.ledger = newLedger(max(c.Audit.MaxStatements, 1), c.Audit.LogInterval, a.write)
	if c.Audited() && a.modes.Used() {
		a.policy = tenant.NewPolicy(c)
	}
	for _, p := range c.Exempt.Patterns {
		if re, err := regexp.Compile(p); err == nil { // Validate refuses others
			a.patterns = append(a.patterns, re)
		}
	}
	_, _ = rand.Read(a.salt[:]) // never fails
	return a
}

// crossTenant stands in the comment that makes a statement exempt.
var crossTenant = []byte("pgweir:cross-tenant")

// audit takes note of the finding of a statement that is about to run. text is the one
// that p is the plan of, shown what is told of it, bind what follows the names in the Bind
// that runs it, nil without one. It returns the error that is to answer the statement, or nil.
func (c *client) audit(u *unit, p *router.Plan, text, shown, bind []byte) *wire.Error {
	f := p.Tenant
	if f == nil || c.tx.failed || p.SQL.Verb == router.PreparedPrepare {
		return nil // it does not run
	}
	session, sure := c.tenants(u, p)
	unbound := f.Unbound()
	switch {
	case f.Verdict == tenant.Exempt:
		reason := f.Reason
		if reason == "" && bytes.Contains(shown, crossTenant) {
			reason = "no reason given"
		}
		if reason == "" {
			return nil // the configuration says so: nothing to report
		}
		return c.takeNote(u, f, shown, session, tenant.Case{Tables: unbound}, reason)
	case f.Verdict == tenant.Missing:
		if refused := c.takeNote(u, f, shown, session, tenant.Case{Tables: unbound}, ""); refused != nil {
			return refused
		}
	}
	if len(f.Values) == 0 || len(session) == 0 || !sure || !c.mismatches(p, session, text, bind) {
		return nil
	}
	return c.takeNote(u, f, shown, session, tenant.Case{Tables: f.Tables[len(unbound):], Mismatch: true}, "")
}

// takeNote counts one case and does what its mode asks for.
func (c *client) takeNote(u *unit, f *tenant.Finding, text []byte, session []string, k tenant.Case, reason string) *wire.Error {
	a := c.s.audit
	k.User, k.Application = c.o.key.user, c.app
	k.Severity = c.severity(&k, len(session) > 0)
	now := run{
		at: time.Now(), mode: a.modes.For(&k), user: k.User, application: k.Application,
		tenant: strings.Join(session, ","), reason: reason,
	}
	if now.reason == "" {
		now.reason = a.exempts(&k)
	}
	if now.mode == tenant.ModeOff && now.reason == "" {
		return nil
	}
	key := sightingKey{c.o.db.label(), f.Fingerprint, k.Kind(), k.Severity, now.reason != ""}
	if key.fingerprint == "" {
		key.fingerprint = router.Fingerprint(string(text)) // a filtered statement's is made when it is needed
	}
	s := a.ledger.find(key)
	if s == nil {
		s = a.ledger.keep(a.describe(key, &k, string(text)))
	}
	if s.pattern && now.reason == "" {
		now.reason = "pattern"
	}
	if now.reason != "" {
		now.mode = tenant.ModeLog
	}
	a.ledger.note(s, now)
	switch now.mode {
	case tenant.ModeNotice:
		u.notices = complaint("01000", &k).AppendWarning(u.notices)
	case tenant.ModeReject:
		return complaint("42501", &k)
	}
	return nil
}

// auditQuery is audit of a simple query, which may execute what was prepared by SQL.
func (c *client) auditQuery(u *unit, o *op, p *router.Plan, text []byte) *wire.Error {
	shown := text
	if o.sql != nil && o.sql.needs != nil {
		shown = []byte(o.sql.needs.SQL)
	}
	return c.audit(u, p, text, shown, nil)
}

// auditBind is audit of a Bind. Where its statement executes another one, prepared by
// SQL, the proxy has put a name into its text, so that literals are not where p says.
func (c *client) auditBind(u *unit, o *op, p *router.Plan, bind []byte) *wire.Error {
	text := c.unnamed.text
	if o.stmt != nil {
		text = []byte(o.stmt.Text)
	}
	if o.sql != nil && o.sql.needs != nil {
		return c.audit(u, p, nil, []byte(o.sql.needs.SQL), bind)
	}
	return c.audit(u, p, text, text, bind)
}

// exempts says by what the configuration exempts a session, if it does.
func (a *auditor) exempts(k *tenant.Case) string {
	switch {
	case slices.Contains(a.exempt.Users, k.User):
		return "user"
	case slices.Contains(a.exempt.Applications, k.Application):
		return "application"
	}
	return ""
}

// describe makes what does not change of a sighting.
func (a *auditor) describe(key sightingKey, k *tenant.Case, text string) *sighting {
	s := &sighting{sightingKey: key, statement: router.Shape(text)}
	s.pattern = slices.ContainsFunc(a.patterns, func(re *regexp.Regexp) bool { return re.MatchString(s.statement) })
	if len(s.statement) > maxStatementBytes {
		s.statement = strings.ToValidUTF8(s.statement[:maxStatementBytes], "") + "…"
	}
	for i := range k.Tables {
		if name := k.Tables[i].Qualified(); !slices.Contains(s.tables, name) {
			s.tables = append(s.tables, name)
		}
	}
	if !s.exempt && !s.pattern {
		s.counts = a.ledger.counters(k)
	}
	return s
}

// severity joins what the statement lacks with what protects the rows besides.
func (c *client) severity(k *tenant.Case, tenantSet bool) tenant.Severity {
	in := c.o.db.inspection.Load()
	role := c.actsAs()
	covered := !slices.ContainsFunc(k.Tables, func(t tenant.Table) bool { return !in.Covers(role, &t) })
	switch {
	case !covered:
		return tenant.Danger
	case tenantSet && !k.Mismatch:
		return tenant.Info
	}
	return tenant.Warning
}

// complaint is what a client is told of a case.
func complaint(code string, k *tenant.Case) *wire.Error {
	var names, hints []string
	for i := range k.Tables {
		t := &k.Tables[i]
		if name := `"` + t.Qualified() + `"`; !slices.Contains(names, name) {
			names = append(names, name)
		}
		if t.Suggestion != "" && !slices.Contains(hints, t.Suggestion) {
			hints = append(hints, t.Suggestion)
		}
	}
	tables := "table "
	if len(names) > 1 {
		tables = "tables "
	}
	tables += strings.Join(names, ", ")
	if k.Mismatch {
		return wire.Errorf(code, "statement names another tenant than its session for %s", tables).
			WithHint("The tenant of the session is what its settings say.")
	}
	hint := "If all tenants are meant, say so: /* pgweir:cross-tenant reason=… */"
	if len(hints) > 0 {
		hint = "Add " + strings.Join(hints, " AND ") + ". " + hint
	}
	return wire.Errorf(code, "statement does not filter by tenant on %s", tables).WithHint(hint)
}

// tenants are the values of the settings that name the tenant, as they will be when the
// statement of p runs: what the unit sets before it is not yet in force. They are not
// sure where something may have set them that the session does not follow.
func (c *client) tenants(u *unit, p *router.Plan) (values []string, sure bool) {
	sure = c.settingsKnown() && c.pins&(router.PinSetting|router.PinOpaque) == 0
	for _, name := range c.s.cfg.Tenant.Settings {
		name = strings.ToLower(name)
		v, ok := setBy(&op{plan: p}, name)
		sure = sure && (ok || !slices.Contains(p.Touches, name))
		for i := len(u.ops) - 1; i >= 0 && !ok; i-- {
			o := &u.ops[i]
			if o.plan == nil || !o.executes() {
				continue
			}
			v, ok = setBy(o, name)
			sure = sure && (ok || !slices.Contains(o.plan.Touches, name))
		}
		if !ok {
			v = c.inForce(name)
		}
		if v != "" {
			values = append(values, v)
		}
	}
	return values, sure
}

// setBy is what an op sets name to. Of several the first value counts: what stands
// between it and a reset is what is looked at.
func setBy(o *op, name string) (value string, ok bool) {
	sets, _ := o.bound()
	for i := range sets {
		if set := &sets[i]; set.Name == name {
			if ok = true; !set.Reset && set.Value != "" {
				return set.Value, true
			}
		}
	}
	return "", ok
}

// actsAs is the role whose rights the session has.
func (c *client) actsAs() string {
	for _, name := range []string{session.Role, session.Authorization} {
		if v := c.inForce(name); v != "" && v != "none" {
			return v
		}
	}
	return c.o.eff.ServerUser
}

// hide is a tenant as the log may show it.
func (a *auditor) hide(tenant string) string {
	if a.clear || tenant == "" {
		return tenant
	}
	h := hmac.New(sha256.New, a.salt[:])
	_, _ = h.Write([]byte(tenant))
	return "hash:" + hex.EncodeToString(h.Sum(nil)[:8])
}

// write logs a sighting, seen n times since it was last logged.
func (a *auditor) write(s sighting, n uint64) {
	level, message := zapcore.WarnLevel, "statement without a tenant filter"
	switch {
	case s.exempt || s.pattern:
		level, message = zapcore.InfoLevel, "statement exempt from the tenant audit"
	case s.kind == tenant.Mismatch:
		message = "statement names another tenant than its session"
	case s.severity == tenant.Info:
		level = zapcore.InfoLevel
	}
	fields := []zap.Field{
		zap.String("fingerprint", s.fingerprint), zap.String("kind", s.kind), zap.Stringer("severity", s.severity),
		zap.Strings("tables", s.tables), zap.Stringer("mode", s.mode),
		zap.String("user", s.user), zap.String("application", s.application), zap.String("database", s.database),
		zap.String("tenant", a.hide(s.tenant)), zap.Uint64("count", n), zap.Uint64("total", s.count),
		zap.Time("first", s.first), zap.Time("last", s.at), zap.String("statement", s.statement),
	}
	if s.run.reason != "" {
		fields = append(fields, zap.String("reason", s.run.reason))
	}
	a.log.Log(level, message, fields...)
}
