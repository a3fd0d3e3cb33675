package proxy

import (
	"context"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/tenant"
)

// inspect looks at what the database itself does to keep tenants apart, each time its
// catalog is read, and tells of what has changed. ask runs queries there.
func (a *auditor) inspect(ctx context.Context, d *database, s *catalog.Snapshot, ask catalog.Query) {
	if a.policy == nil {
		return
	}
	roles, err := tenant.LoadRoles(ctx, ask)
	if err != nil {
		// Routing does not depend on it. What is not known to be covered is danger.
		if ctx.Err() == nil {
			a.log.Warn("tenant protection could not be inspected", zap.String("database", d.label()), zap.Error(err))
		}
		return
	}
	now := tenant.Inspect(s, a.policy, roles, d.logins())
	before := d.inspection.Swap(now)
	a.report(d.label(), before, now)
}

// gapGroup is gaps that are one line of the log.
type gapGroup struct {
	kind   tenant.GapKind
	role   string
	detail string
}

// report logs the gaps that were not there before, those of one kind together, and
// that others are gone.
func (a *auditor) report(database string, before, now *tenant.Inspection) {
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

// logins are the names under which sessions of a database log in to its servers.
func (os *origins) logins(d *database) (names []string) {
	for _, o := range os.all() {
		if o.db == d && !slices.Contains(names, o.eff.ServerUser) {
			names = append(names, o.eff.ServerUser)
		}
	}
	slices.Sort(names)
	return names
}

// collectAudit adds what the tenant audit tells of itself.
func (s *Server) collectAudit(count func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, float64, ...string)) {
	if s.audit.policy == nil {
		return
	}
	st := s.audit.ledger.stats()
	for k, n := range st.tables {
		count(descUnfiltered, n, k.table, k.kind, k.severity.String())
	}
	gauge(descAuditKept, float64(st.statements))
	count(descAuditDrop, st.evicted)
	count(descRejected, st.rejected)
	count(descExempted, st.exempted)
	for _, d := range s.origins.databases() {
		in := d.inspection.Load()
		if in == nil {
			continue
		}
		var gaps [tenant.GapKinds]int
		for i := range in.Gaps {
			gaps[in.Gaps[i].Kind]++
		}
		for k, n := range gaps {
			gauge(descGaps, float64(n), d.label(), tenant.GapKind(k).String())
		}
	}
}
