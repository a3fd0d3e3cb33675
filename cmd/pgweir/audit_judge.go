package main

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/progress"
	"github.com/pgweir/pgweir/internal/statements"
	"github.com/pgweir/pgweir/router/tenant"
)

// report is what audit has found.
type report struct {
	Source     string         `json:"source"`               // what the database is known from
	Tables     int            `json:"tenant_tables"`        // how many there are
	Statements map[string]int `json:"statements,omitempty"` // read, by verdict; and distinct
	Issues     []issue        `json:"issues"`

	place, version string
	statementsRead bool
}

// issue is one thing found: a gap of the database, or a statement.
type issue struct {
	Severity string   `json:"severity"`
	Kind     string   `json:"kind"`
	Tables   []string `json:"tables,omitempty"`
	Role     string   `json:"role,omitempty"`
	Policies []string `json:"policies,omitempty"`
	Commands []string `json:"commands,omitempty"`
	Detail   string   `json:"detail"`
	Remedy   string   `json:"remedy,omitempty"`

	// Of a statement.
	File        string   `json:"file,omitempty"`
	Line        int      `json:"line,omitempty"`
	Count       int      `json:"count,omitempty"` // times it was found
	Also        []string `json:"also,omitempty"`  // further places
	Statement   string   `json:"statement,omitempty"`
	Fingerprint string   `json:"fingerprint,omitempty"`

	severity tenant.Severity
}

// maxPlaces bounds the further places of one statement.
const maxPlaces = 20

// inspect reports the gaps of the database itself.
func (r *report) inspect(in *tenant.Inspection) {
	r.Issues = []issue{}
	for _, g := range in.Gaps {
		x := issue{
			Severity: g.Severity.String(), severity: g.Severity, Kind: g.Kind.String(),
			Role: g.Role, Policies: g.Policies, Commands: g.Commands, Detail: g.Detail, Remedy: g.Remedy,
		}
		if g.Table != "" {
			x.Tables = []string{g.Qualified()}
		}
		r.Issues = append(r.Issues, x)
	}
}

// judging is the judging of statements, each distinct one once.
type judging struct {
	*audited
	judge    *tenant.Judge
	sessions *sessions
	in       *tenant.Inspection
	patterns []*regexp.Regexp
	byText   map[string]*tenant.Finding
	byKey    map[string]*issue // by kind and fingerprint
	order    []*issue
}

// judge reports the statements of files that lack a filter. meter hears how far it is.
func (r *report) judge(s *audited, in *tenant.Inspection, files []string, format statements.Format, stdin io.Reader, meter *progress.Meter) error {
	j := &judging{
		audited: s, judge: tenant.New(s.policy, s.schema), sessions: newSessions(s.policy.Settings), in: in,
		byText: map[string]*tenant.Finding{}, byKey: map[string]*issue{},
	}
	for _, p := range s.exempt.Patterns {
		j.patterns = append(j.patterns, regexp.MustCompile(p)) // Validate refuses others
	}
	r.Statements, r.statementsRead = map[string]int{}, true
	for _, name := range files {
		shown, data, err := readFile(name, stdin)
		if err != nil {
			return fmt.Errorf("read statements: %w", err)
		}
		list, err := statements.Read(shown, data, format)
		if err != nil {
			return err
		}
		for i := range list {
			r.Statements[j.one(&list[i])]++
			meter.Tell("%s: %d of %d statements", shown, i+1, len(list))
		}
	}
	slices.SortStableFunc(j.order, func(a, b *issue) int { return -cmp.Compare(a.severity, b.severity) })
	r.Issues = make([]issue, 0, len(j.order))
	for _, x := range j.order {
		r.Issues = append(r.Issues, *x)
	}
	return nil
}

// one judges one statement and returns the word it is counted under.
func (j *judging) one(s *statements.Statement) string {
	session := j.sessions.run(s)
	f, known := j.byText[s.Text]
	if !known {
		f = j.judge.Text(s.Text)
		j.byText[s.Text] = f
	}
	switch {
	case f.Verdict == tenant.Missing:
		if j.exempts(s) {
			return tenant.Exempt.String()
		}
		j.note(s, f, f.Unbound(), f.Kind.String(), session)
	case f.Verdict != tenant.Exempt && mismatches(f, s, session):
		if j.exempts(s) {
			return tenant.Exempt.String()
		}
		j.note(s, f, f.Tables, tenant.Mismatch, session)
		return tenant.Mismatch
	}
	return f.Verdict.String()
}

// exempts reports whether the configuration exempts a statement or who sent it.
func (j *judging) exempts(s *statements.Statement) bool {
	if slices.Contains(j.exempt.Users, s.User) || slices.Contains(j.exempt.Applications, s.Application) {
		return true
	}
	if len(j.patterns) == 0 {
		return false
	}
	shown := grammar.Shape(s.Text)
	return slices.ContainsFunc(j.patterns, func(re *regexp.Regexp) bool { return re.MatchString(shown) })
}

// note adds a statement to the issues, or to the one of its like.
func (j *judging) note(s *statements.Statement, f *tenant.Finding, tables []tenant.Table, kind string, session []string) {
	fingerprint := f.Fingerprint
	if fingerprint == "" {
		fingerprint = grammar.Fingerprint(s.Text)
	}
	severity := j.severity(tables, kind, len(session) > 0)
	x := j.byKey[kind+fingerprint]
	if x == nil {
		x = issueOf(tables, kind)
		x.File, x.Line, x.Statement, x.Fingerprint = s.File, s.Line, grammar.Shape(s.Text), fingerprint
		j.byKey[kind+fingerprint] = x
		j.order = append(j.order, x)
	} else if len(x.Also) < maxPlaces {
		x.Also = append(x.Also, fmt.Sprintf("%s:%d", s.File, s.Line))
	}
	x.Count++
	x.severity = max(x.severity, severity)
	x.Severity = x.severity.String()
}

// issueOf is what is reported of a statement.
func issueOf(tables []tenant.Table, kind string) *issue {
	x := &issue{Kind: kind}
	var remedies []string
	for i := range tables {
		t := &tables[i]
		if !slices.Contains(x.Tables, t.Qualified()) {
			x.Tables = append(x.Tables, t.Qualified())
		}
		if t.Suggestion != "" && !slices.Contains(remedies, t.Suggestion) {
			remedies = append(remedies, t.Suggestion)
		}
	}
	x.Remedy = strings.Join(remedies, " AND ")
	x.Detail = "statement does not filter by tenant on " + strings.Join(x.Tables, ", ")
	if kind == tenant.Mismatch {
		x.Detail = "statement names another tenant than its session for " + strings.Join(x.Tables, ", ")
	}
	return x
}

// severity is that of the service. Without a log it is not known whether a tenant is
// set, so what row-level security covers is a warning.
func (j *judging) severity(tables []tenant.Table, kind string, tenantSet bool) tenant.Severity {
	for i := range tables {
		if !j.covered(&tables[i]) {
			return tenant.Danger
		}
	}
	if tenantSet && kind != tenant.Mismatch {
		return tenant.Info
	}
	return tenant.Warning
}

// covered reports whether row-level security binds all logins, or, where none is known,
// whoever has no special rights.
func (j *judging) covered(t *tenant.Table) bool {
	if len(j.logins) == 0 {
		return j.in.Covers("", t)
	}
	return !slices.ContainsFunc(j.logins, func(login string) bool { return !j.in.Covers(login, t) })
}

// reaches reports whether anything was found of a severity or above.
func (r *report) reaches(word string) bool {
	return word != never && slices.ContainsFunc(r.Issues, func(x issue) bool {
		return x.Severity == word || word == "info" || word == "warning" && x.severity == tenant.Danger
	})
}
