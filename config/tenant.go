package config

import (
	"fmt"
	"regexp"
	"slices"
)

// check adds what is wrong with the tenant section.
func (t Tenant) check(fs *Faults) {
	checkSettingNames(fs, "tenant.settings", t.Settings)
	checkNames(fs, "tenant.columns", t.Columns)
	tables := make([]string, len(t.Tables))
	for i, tt := range t.Tables {
		at := fmt.Sprintf("tenant.tables[%d]", i)
		switch {
		case tt.Table == "" || tt.Column == "":
			fs.add(at, "needs both table and column")
		case slices.Contains(tables[:i], tt.Table):
			fs.add(at+".table", "%q is given twice", tt.Table)
		case slices.Contains(t.Exempt.Tables, tt.Table):
			fs.add(at+".table", "%q is also in tenant.exempt.tables", tt.Table)
		}
		tables[i] = tt.Table
	}
	t.Exempt.check(fs)
	t.Audit.check(fs)
	if strict := t.Audit.strict(); strict != "" && !t.Audited() {
		fs.add(strict, "nothing is audited without tenant.columns or tenant.tables")
	}
}

var fingerprint = regexp.MustCompile(`^[0-9a-f]{16}$`)

func (e Exempt) check(fs *Faults) {
	checkNames(fs, "tenant.exempt.tables", e.Tables)
	checkNames(fs, "tenant.exempt.users", e.Users)
	checkNames(fs, "tenant.exempt.applications", e.Applications)
	for i, f := range e.Statements {
		if !fingerprint.MatchString(f) {
			fs.add(fmt.Sprintf("tenant.exempt.statements[%d]", i), "%q is no fingerprint: 16 hexadecimal digits, as in the log", f)
		}
	}
	for i, p := range e.Patterns {
		at := fmt.Sprintf("tenant.exempt.patterns[%d]", i)
		re, err := regexp.Compile(p)
		switch {
		case err != nil:
			fs.add(at, "%s", err)
		case re.MatchString(""):
			fs.add(at, "%q matches every statement; to audit none, set tenant.audit.mode to off", p)
		}
	}
}

func (a Audit) check(fs *Faults) {
	if a.Mode == "" {
		fs.add("tenant.audit.mode", "must be off, log, notice or reject")
	}
	if a.MaxStatements < 1 {
		fs.add("tenant.audit.max_statements", "must be 1 or more, found %d", a.MaxStatements)
	}
	if a.LogInterval <= 0 {
		fs.add("tenant.audit.log_interval", "must be more than 0; to log nothing, set tenant.audit.mode to off")
	}
	for i, r := range a.Rules {
		at := fmt.Sprintf("tenant.audit.rules[%d]", i)
		if r.Mode == "" {
			fs.add(at, "a rule needs mode: off, log, notice or reject")
		}
		if r == (AuditRule{Mode: r.Mode}) {
			fs.add(at, "a rule needs a condition; for everything, set tenant.audit.mode")
		}
	}
}

// strict is the key that asks for more than the log, which is not a default; empty
// if there is none.
func (a Audit) strict() string {
	if a.Mode == "notice" || a.Mode == "reject" {
		return "tenant.audit.mode"
	}
	for i, r := range a.Rules {
		if r.Mode == "notice" || r.Mode == "reject" {
			return fmt.Sprintf("tenant.audit.rules[%d].mode", i)
		}
	}
	return ""
}

// checkNames refuses empty and repeated names.
func checkNames(fs *Faults, at string, names []string) {
	for i, n := range names {
		where := fmt.Sprintf("%s[%d]", at, i)
		if n == "" {
			fs.add(where, "a name must not be empty")
		} else if slices.Contains(names[:i], n) {
			fs.add(where, "%q is given twice", n)
		}
	}
}
