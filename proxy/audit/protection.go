package audit

import (
	"context"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/tenant"
)

// Inspect looks at what a database itself does to keep tenants apart, and logs how that
// differs from what was found before, nil the first time. It is to be called each time the
// catalog is read; logins are the roles whose rights matter, ask runs queries there. If
// nothing can be learned, or is asked for, what was found before is returned.
func (a *Auditor) Inspect(ctx context.Context, database string, before *tenant.Inspection, s *catalog.Snapshot,
	logins []string, ask catalog.Query,
) *tenant.Inspection {
	if a.policy == nil {
		return before
	}
	roles, err := tenant.LoadRoles(ctx, ask)
	if err != nil {
		// Routing does not depend on it. What is not known to be covered is danger.
		if ctx.Err() == nil {
			a.log.Warn("tenant protection could not be inspected", zap.String("database", database), zap.Error(err))
		}
		return before
	}
	now := tenant.Inspect(s, a.policy, roles, logins)
	if a.terms.Load().modes.Used() { // it may be turned on while the service runs, and counts then
		a.report(database, before, now)
	}
	return now
}

// gapGroup is gaps that are one line of the log.
type gapGroup struct {
	kind   tenant.GapKind
	role   string
	detail string
}

// report logs the gaps that were not there before, those of one kind together, and
// that others are gone.
func (a *Auditor) report(database string, before, now *tenant.Inspection) {
	groups := map[gapGroup][]string{}
	var order []gapGroup
	for _, g := range now.Gaps {
		if before != nil && slices.ContainsFunc(before.Gaps, func(b tenant.Gap) bool { return sameGap(&b, &g) }) {
			continue
		}
		k := gapGroup{g.Kind, g.Role, g.Detail}
		if _, ok := groups[k]; !ok {
			order = append(order, k)
		}
		groups[k] = append(groups[k], g.Qualified())
	}
	for _, k := range order {
		level := zapcore.WarnLevel
		severity := tenant.SeverityOf(k.kind)
		if severity == tenant.Info {
			level = zapcore.InfoLevel
		}
		fields := []zap.Field{
			zap.String("database", database), zap.Stringer("kind", k.kind), zap.Stringer("severity", severity), zap.String("detail", k.detail),
		}
		if k.role != "" {
			fields = append(fields, zap.String("role", k.role))
		}
		if tables := groups[k]; tables[0] != "" {
			fields = append(fields, zap.Int("count", len(tables)), zap.Strings("tables", tables[:min(len(tables), maxLoggedTables)]))
		}
		a.log.Log(level, "tenant protection", fields...)
	}
	if before == nil || len(order) > 0 || len(before.Gaps) != len(now.Gaps) {
		a.log.Info("tenant protection inspected", zap.String("database", database),
			zap.Int("tables", now.Tables), zap.Int("gaps", len(now.Gaps)), zap.Int("new", countAll(groups)))
	}
}

// maxLoggedTables bounds the tables one line of the log names; pgweir audit names all.
const maxLoggedTables = 100

func countAll(groups map[gapGroup][]string) (n int) {
	for tables := range maps.Values(groups) {
		n += len(tables)
	}
	return n
}

func sameGap(a, b *tenant.Gap) bool {
	return a.Kind == b.Kind && a.Schema == b.Schema && a.Table == b.Table && a.Role == b.Role &&
		slices.Equal(a.Policies, b.Policies) && slices.Equal(a.Commands, b.Commands)
}
