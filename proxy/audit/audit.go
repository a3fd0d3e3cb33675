// Package audit is the tenant audit: what becomes of a statement whose Plan shows that
// it may touch rows of several tenants. Auditor.Check joins what the statement lacks
// with what protects the rows besides (the database's row-level security, the session's
// tenant) to a severity, takes the mode that the configuration gives it, and records it.
// What was seen is kept in bounded memory, logged once an interval, counted by table,
// and listed by Auditor.Rows, always without literals.
//
// A statement without a finding in its Plan need not be checked, which costs a
// comparison with nil.
package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/tenant"
)

// Auditor is what all sessions share of the audit. It is safe for concurrent use.
type Auditor struct {
	policy   *tenant.Policy // nil if nothing is audited
	terms    atomic.Pointer[terms]
	findings *findings
	salt     [32]byte // what tenants are hashed with
	log      *zap.Logger
}

// terms are what the configuration in force says of findings. They never change.
type terms struct {
	modes    *tenant.Modes
	exempt   config.Exempt
	patterns []*regexp.Regexp
	clear    bool // tenants are shown as they are
}

func newTerms(c config.Tenant) *terms {
	t := &terms{modes: tenant.NewModes(c.Audit), exempt: c.Exempt, clear: c.Audit.ShowTenants}
	for _, p := range c.Exempt.Patterns {
		if re, err := regexp.Compile(p); err == nil { // Validate refuses others
			t.patterns = append(t.patterns, re)
		}
	}
	return t
}

// New makes an Auditor of a valid configuration.
func New(c config.Tenant, log *zap.Logger) *Auditor {
	a := &Auditor{log: log}
	a.terms.Store(newTerms(c))
	a.findings = newFindings(max(c.Audit.MaxStatements, 1), c.Audit.LogInterval, a.write)
	if c.Audited() {
		a.policy = tenant.NewPolicy(c)
	}
	_, _ = rand.Read(a.salt[:]) // never fails
	return a
}

// Configure has findings treated as another configuration says. Which statements lack what,
// the policy, stays.
func (a *Auditor) Configure(c config.Tenant) {
	a.terms.Store(newTerms(c))
	a.findings.configure(max(c.Audit.MaxStatements, 1), c.Audit.LogInterval)
}

// Policy is what plans need to find what lacks a tenant filter; nil if nothing is audited.
func (a *Auditor) Policy() *tenant.Policy { return a.policy }

// Flush logs what was seen since it was last logged, if its interval is over at a time or
// all is asked for. It is to be called now and then, and with all in the end.
func (a *Auditor) Flush(at time.Time, all bool) { a.findings.flush(at, all) }

// Statement is a statement that is about to run.
type Statement struct {
	Plan  *router.Plan
	Text  []byte // that Plan was made of; nil if the text that runs is another
	Shown []byte // what is told of it
	Bind  []byte // what follows the names in the Bind that runs it; nil without one
}

// Session is whose statement it is.
type Session struct {
	User, Application string
	Database          string // the label it has in logs and metrics
	Role              string // whose rights the session has
	Tenants           []string
	Certain           bool               // that the session's tenants are these
	Protection        *tenant.Inspection // what the database does itself; nil if that is not known
	Catalog           *catalog.Snapshot
}

// crossTenant stands in the comment that makes a statement exempt.
var crossTenant = []byte("pgweir:cross-tenant")

// Check records what a statement lacks and does what its mode asks for. It returns
// notices with the frames appended that the client is to get before the statement's
// answer, and the error that is to be the answer, or nil. Its Plan must have a finding.
func (a *Auditor) Check(st *Statement, by *Session, notices []byte) ([]byte, *wire.Error) {
	f := st.Plan.Tenant
	unbound := f.Unbound()
	switch f.Verdict {
	case tenant.Exempt:
		reason := f.Reason
		if reason == "" && bytes.Contains(st.Shown, crossTenant) {
			reason = "no reason given"
		}
		if reason == "" {
			return notices, nil // the configuration says so: nothing to report
		}
		return a.record(st, by, tenant.Case{Tables: unbound}, reason, notices)
	case tenant.Missing, tenant.Unknown:
		var refused *wire.Error
		if notices, refused = a.record(st, by, tenant.Case{Tables: unbound}, "", notices); refused != nil {
			return notices, refused
		}
	case tenant.NotTenant, tenant.Filtered, tenant.Many:
	}
	if len(f.Values) == 0 || len(by.Tenants) == 0 || !by.Certain || !namesOther(st, by) {
		return notices, nil
	}
	return a.record(st, by, tenant.Case{Tables: f.Tables[len(unbound):], Mismatch: true}, "", notices)
}

// record counts one case and does what its mode asks for; reason is why the statement's
// own text makes it exempt.
func (a *Auditor) record(st *Statement, by *Session, k tenant.Case, reason string, notices []byte) ([]byte, *wire.Error) {
	k.User, k.Application = by.User, by.Application
	k.Severity = severity(&k, by)
	now := occurrence{
		at: time.Now(), mode: a.terms.Load().modes.For(&k), user: k.User, application: k.Application,
		tenant: strings.Join(by.Tenants, ","), reason: reason,
	}
	if now.reason == "" {
		now.reason = a.exempts(&k)
	}
	st.Plan.Statement.Audited(now.reason == "" && k.Severity != tenant.Info)
	if now.mode == tenant.ModeOff && now.reason == "" {
		return notices, nil
	}
	f := a.finding(st, by, &k, now.reason != "")
	if f.pattern && now.reason == "" {
		now.reason = "pattern"
	}
	if now.reason != "" {
		now.mode = tenant.ModeLog
	}
	a.findings.record(f, now)
	switch now.mode {
	case tenant.ModeNotice:
		return complaint("01000", &k).AppendWarning(notices), nil
	case tenant.ModeReject:
		return notices, complaint("42501", &k)
	case tenant.ModeOff, tenant.ModeLog:
	}
	return notices, nil
}

// finding is what is kept of a case's statement, made if need be, as it is under the terms in force.
func (a *Auditor) finding(st *Statement, by *Session, k *tenant.Case, exempt bool) *finding {
	key := findingKey{by.Database, st.Plan.Tenant.Fingerprint, k.Kind(), k.Severity, exempt}
	if key.fingerprint == "" {
		key.fingerprint = grammar.Fingerprint(string(st.Shown)) // a filtered statement's is made when it is needed
	}
	t := a.terms.Load()
	if f := a.findings.find(key); f != nil && f.under == t {
		return f
	}
	return a.findings.keep(a.describe(t, key, k, string(st.Shown)))
}

// exempts says by what the configuration exempts a session, if it does.
func (a *Auditor) exempts(k *tenant.Case) string {
	exempt := &a.terms.Load().exempt
	switch {
	case slices.Contains(exempt.Users, k.User):
		return "user"
	case slices.Contains(exempt.Applications, k.Application):
		return "application"
	}
	return ""
}

// severity joins what the statement lacks with what protects the rows besides.
func severity(k *tenant.Case, by *Session) tenant.Severity {
	covered := !slices.ContainsFunc(k.Tables, func(t tenant.Table) bool { return !by.Protection.Covers(by.Role, &t) })
	switch {
	case !covered:
		return tenant.Danger
	case len(by.Tenants) > 0 && !k.Mismatch:
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
	if k.Kind() == tenant.KindUnparsed.String() {
		return wire.Errorf(code, "whether statement filters by tenant on %s is not known", tables).
			WithHint("The grammar is newer than that of PostgreSQL 16. A rule of the kind unparsed says what becomes of such statements.")
	}
	hint := "If all tenants are meant, say so: /* pgweir:cross-tenant reason=… */"
	if len(hints) > 0 {
		hint = "Add " + strings.Join(hints, " AND ") + ". " + hint
	}
	return wire.Errorf(code, "statement does not filter by tenant on %s", tables).WithHint(hint)
}

// Shown is a tenant as the log and statistics may show it.
func (a *Auditor) Shown(tenant string) string {
	if a.terms.Load().clear || tenant == "" {
		return tenant
	}
	h := hmac.New(sha256.New, a.salt[:])
	_, _ = h.Write([]byte(tenant))
	return "hash:" + hex.EncodeToString(h.Sum(nil)[:8])
}
