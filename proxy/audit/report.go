package audit

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/router/tenant"
)

// describe makes what does not change of a finding under some terms.
func (a *Auditor) describe(t *terms, key findingKey, k *tenant.Case, text string) *finding {
	f := &finding{findingKey: key, statement: grammar.Shape(text), under: t}
	f.pattern = slices.ContainsFunc(t.patterns, func(re *regexp.Regexp) bool { return re.MatchString(f.statement) })
	if len(f.statement) > maxStatementBytes {
		f.statement = strings.ToValidUTF8(f.statement[:maxStatementBytes], "") + "…"
	}
	for i := range k.Tables {
		if name := k.Tables[i].Qualified(); !slices.Contains(f.tables, name) {
			f.tables = append(f.tables, name)
		}
	}
	if !f.exempt && !f.pattern {
		f.counts = a.findings.counters(k)
	}
	return f
}

// write logs a finding, seen n times since it was last logged.
func (a *Auditor) write(f finding, n uint64) {
	level, message := zapcore.WarnLevel, "statement without a tenant filter"
	switch {
	case f.exempt || f.pattern:
		level, message = zapcore.InfoLevel, "statement exempt from the tenant audit"
	case f.kind == tenant.Mismatch:
		message = "statement names another tenant than its session"
	case f.severity == tenant.Info:
		level = zapcore.InfoLevel
	}
	fields := []zap.Field{
		zap.String("fingerprint", f.fingerprint), zap.String("kind", f.kind), zap.Stringer("severity", f.severity),
		zap.Strings("tables", f.tables), zap.Stringer("mode", f.mode),
		zap.String("user", f.user), zap.String("application", f.application), zap.String("database", f.database),
		zap.String("tenant", a.Shown(f.tenant)), zap.Uint64("count", n), zap.Uint64("total", f.count),
		zap.Time("first", f.first), zap.Time("last", f.at), zap.String("statement", f.statement),
	}
	if f.occurrence.reason != "" {
		fields = append(fields, zap.String("reason", f.occurrence.reason))
	}
	a.log.Log(level, message, fields...)
}

// Columns are those of Rows.
func Columns() []string {
	return []string{
		"severity", "kind", "tables", "count", "mode", "statement", "fingerprint", "user", "application", "tenant",
		"first_seen", "last_seen", "exempt",
	}
}

// Rows are the findings kept of a database, the gravest and most frequent first.
func (a *Auditor) Rows(database string) [][]string {
	list := a.findings.list(database)
	rows := make([][]string, len(list))
	for i := range list {
		rows[i] = a.row(&list[i])
	}
	return rows
}

func (a *Auditor) row(f *finding) []string {
	const layout = "2006-01-02 15:04:05.000Z"
	return []string{
		f.severity.String(), f.kind, strings.Join(f.tables, ", "), strconv.FormatUint(f.count, 10), f.mode.String(),
		f.statement, f.fingerprint, f.user, f.application, a.Shown(f.tenant),
		f.first.UTC().Format(layout), f.at.UTC().Format(layout), f.occurrence.reason,
	}
}
