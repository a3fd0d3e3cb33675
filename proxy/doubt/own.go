package doubt

import (
	"slices"
	"strings"

	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// Names that may mean temporary objects, which the catalog does not know.

// Of is the plan p of what ran in a session, given the search_path it ran under: where
// that leads to the temporary schema first, what is created may be temporary. usual is the path
// of sessions that set none.
func Of(p *router.Plan, s *session.State, snapshot *catalog.Snapshot, usual func() string) *router.Plan {
	switch {
	case p == nil:
	case DropsOwn(p, s, snapshot):
		q := *p
		q.Flags = q.Flags&^(router.FlagDDL|router.FlagRedefines|router.FlagRemoves) | router.FlagTemporary
		return &q
	case p.Flags.Has(router.FlagCreates) && p.Pins&router.PinTemp == 0 && mayCreateTemporary(s, usual):
		q := *p
		q.Pins |= router.PinTemp
		return &q
	}
	return p
}

// DropsOwn reports whether a session that has temporary objects drops relations of which the
// catalog knows no name: they are its own, or such as no plan knows.
func DropsOwn(p *router.Plan, s *session.State, snapshot *catalog.Snapshot) bool {
	if s.Pins&router.PinTemp == 0 || p.Statements != 1 || p.Unpins&router.PinTemp == 0 || len(p.Relations) == 0 ||
		!p.Flags.Has(router.FlagDDL|router.FlagRemoves) || !snapshot.Loaded() {
		return false
	}
	return !slices.ContainsFunc(p.Relations, func(name string) bool {
		return strings.Contains(name, ".") || snapshot.Relation("", name).Known
	})
}

// mayCreateTemporary reports whether the search_path in force may lead to the temporary
// schema, whoever said so.
func mayCreateTemporary(s *session.State, usual func() string) bool {
	if !s.InForceKnown() {
		return true
	}
	path, set := s.Settings.Now().Value("search_path")
	if !set {
		path = usual()
	}
	return path == "" && !set || router.NamesTempSchema(path)
}
