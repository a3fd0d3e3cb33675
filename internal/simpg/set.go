package simpg

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/setting"
)

// spelled is a setting's name as it is shown.
func (se *session) spelled(name string) string {
	low := setting.Fold(name)
	if g := gucs[low]; g != nil {
		return g.name
	}
	if n, ok := se.set.defined[low]; ok {
		return n
	}
	raise("42704", `unrecognized configuration parameter "%s"`, name)
	return ""
}

func (se *session) show(p *portal, name string) string {
	if name == "all" {
		for _, low := range slices.Sorted(maps.Keys(gucs)) {
			p.rows = append(p.rows, []datum{gucs[low].name, se.shown(low), ""})
		}
	} else {
		p.rows = [][]datum{{se.currentSetting(name, false)}}
	}
	return "SHOW"
}

// assign sets a setting or resets it, by whatever statement.
func (se *session) assign(name, value string, reset, local bool) {
	low, g := settingName(name)
	if g == nil {
		if _, ok := se.set.defined[low]; !ok {
			se.set.defined[low] = name
		}
		se.set.put(low, value, reset, local)
		return
	}
	switch {
	case g.context == "internal":
		raise("55P02", `parameter "%s" cannot be changed`, g.name)
	case g.context == "postmaster":
		raise("55P02", `parameter "%s" cannot be changed without restarting the server`, g.name)
	case g.context == "sighup":
		raise("55P02", `parameter "%s" cannot be changed now`, g.name)
	case g.context == "superuser" && !se.super():
		raise("42501", `permission denied to set parameter "%s"`, g.name)
	}
	if strings.HasPrefix(low, "transaction_") {
		se.assignMode(low, g.canonical(value))
		return
	}
	if !reset {
		value = g.canonical(value)
		se.checkIdentity(low, value)
	}
	if low == "session_authorization" {
		se.set.put("role", "none", false, local) // who acts is the new session's user
	}
	se.set.put(low, value, reset, local)
}

// checkIdentity checks who the session may act as.
func (se *session) checkIdentity(low, value string) {
	if low != "role" && low != "session_authorization" || low == "role" && value == "none" {
		return
	}
	if se.see().roles[value] == nil {
		raise("22023", `role "%s" does not exist`, value)
	}
	user := se.sessionUser()
	switch {
	case low == "role" && !se.roleOf(user).super && !se.hasRole(user, value):
		raise("42501", `permission denied to set role "%s"`, value)
	case low == "session_authorization" && value != se.user && !se.roleOf(se.user).super:
		raise("42501", "permission denied to set session authorization")
	}
}

// assignMode is SET of transaction_isolation and its like.
func (se *session) assignMode(low, value string) {
	var m said
	switch low {
	case "transaction_isolation":
		m.isolation = value
	case "transaction_read_only":
		m.readOnly = value
	case "transaction_deferrable":
		m.deferrable = value
	}
	se.say(m)
}

func (se *session) variableSet(n *pg.VariableSetStmt) string {
	if n.IsLocal && se.tx.block == 'I' && !se.tx.implicit && n.Kind != pg.VariableSetKind_VAR_SET_MULTI {
		se.warn("25P01", "SET LOCAL can only be used in transaction blocks")
	}
	switch n.Kind {
	case pg.VariableSetKind_VAR_SET_VALUE:
		se.assign(n.Name, setValue(n), false, n.IsLocal)
	case pg.VariableSetKind_VAR_SET_DEFAULT:
		se.assignDefault(n.Name, n.IsLocal)
	case pg.VariableSetKind_VAR_SET_CURRENT:
		se.assign(n.Name, se.currentSetting(n.Name, false).(string), false, n.IsLocal)
	case pg.VariableSetKind_VAR_RESET:
		se.assignDefault(n.Name, false)
		return "RESET"
	case pg.VariableSetKind_VAR_RESET_ALL:
		se.set.resetAll()
		return "RESET"
	case pg.VariableSetKind_VAR_SET_MULTI:
		m := saidModes(n.Args)
		if n.Name == "SESSION CHARACTERISTICS" {
			for name, v := range map[string]string{"isolation": m.isolation, "read_only": m.readOnly, "deferrable": m.deferrable} {
				if v != "" {
					se.assign("default_transaction_"+name, v, false, n.IsLocal)
				}
			}
			break
		}
		if se.tx.block == 'I' && !se.tx.implicit {
			se.warn("25P01", "SET TRANSACTION can only be used in transaction blocks")
		}
		se.say(m)
	}
	return "SET"
}

func (se *session) assignDefault(name string, local bool) {
	if low, g := settingName(name); g != nil && strings.HasPrefix(low, "transaction_") {
		se.assignMode(low, se.set.is("default_"+low))
		return
	}
	se.assign(name, "", true, local)
}

// listValued are the settings that take a list of names.
func listValued(name string) bool { return name == "search_path" }

// setValue is the value that SET gives: of several, a list.
func setValue(n *pg.VariableSetStmt) string {
	var parts []string
	list := listValued(setting.Fold(n.Name))
	for _, arg := range n.Args {
		v := argText(arg)
		if list && arg.GetAConst().GetSval() != nil {
			v = quoteName(v)
		}
		parts = append(parts, v)
	}
	if len(parts) > 1 && !list && setting.Fold(n.Name) != "datestyle" {
		name := n.Name
		if g := gucs[setting.Fold(name)]; g != nil {
			name = g.name
		}
		raise("22023", "SET %s takes only one argument", name)
	}
	return strings.Join(parts, ", ")
}

// argText is a constant of SET as text.
func argText(n *pg.Node) string {
	if t := n.GetTypeCast(); t != nil {
		return argText(t.Arg)
	}
	switch v := n.GetAConst().GetVal().(type) {
	case *pg.A_Const_Ival:
		return fmt.Sprint(v.Ival.Ival)
	case *pg.A_Const_Fval:
		return v.Fval.Fval
	case *pg.A_Const_Boolval:
		return fmt.Sprint(v.Boolval.Boolval)
	case *pg.A_Const_Sval:
		return v.Sval.Sval
	}
	return ""
}

// quoteName quotes a name where it needs it.
func quoteName(s string) string {
	plain := s != "" && !(s[0] >= '0' && s[0] <= '9') && s[0] != '$'
	for i := range len(s) {
		c := s[i]
		plain = plain && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_')
	}
	if plain && s != "user" && s != "all" && s != "default" {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}
