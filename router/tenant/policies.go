package tenant

import (
	"slices"
	"strings"

	"github.com/pgweir/pgweir/router/catalog"
)

// command is an SQL command as policies are made for.
type command struct {
	name  string
	code  byte // of pg_policy.polcmd
	check bool // new rows are checked, old ones not looked for
}

var commands = []command{
	{"SELECT", 'r', false}, {"INSERT", 'a', true}, {"UPDATE", 'w', false}, {"UPDATE", 'w', true}, {"DELETE", 'd', false},
}

// policies judges a table's policies for every login, and for one that no policy
// names. It reports whom they let read everything whatever is set.
func (t *inspected) policies(add func(Gap)) (openTo map[string]bool) {
	openTo = map[string]bool{}
	var found []Gap
	for _, login := range append([]string{""}, t.logins...) {
		if _, exempt := t.roles.exempt(login); exempt {
			continue
		}
		openTo[login] = false
		for _, c := range commands {
			g, bad := t.command(login, c)
			if bad && g.Kind == GapPolicyOpen && c.code == 'r' {
				openTo[login] = true
			}
			if bad && (login != "" || len(t.logins) == 0) {
				found = joinGap(found, g)
			}
		}
	}
	for _, g := range found {
		add(g)
	}
	return openTo
}

// joinGap adds g to the list, or its command to a gap that differs in nothing else.
func joinGap(list []Gap, g Gap) []Gap {
	for i := range list {
		if x := &list[i]; x.Kind == g.Kind && x.Role == g.Role && slices.Equal(x.Policies, g.Policies) {
			if !slices.Contains(x.Commands, g.Commands[0]) {
				x.Commands = append(x.Commands, g.Commands[0])
			}
			return list
		}
	}
	return append(list, g)
}

// command judges what the policies let one login do with one command.
func (t *inspected) command(login string, c command) (g Gap, bad bool) {
	permissive, restrictive := t.policiesFor(login, c)
	g.Commands = []string{c.name}
	if len(permissive) == 0 {
		g.Kind, g.Detail = GapNoPolicy, "no policy permits the command: it finds no row"
		g.Remedy = "none if that is meant; else CREATE POLICY"
		return g, true
	}
	always, _ := t.rows(permissive, restrictive, c, tenantSet)
	unset, by := t.rows(permissive, restrictive, c, neverSet)
	reset, byReset := t.rows(permissive, restrictive, c, resetOnce)
	if reset > unset {
		unset, by = reset, byReset
	}
	for _, p := range by {
		g.Policies = append(g.Policies, p.Name)
		if len(p.Roles) > 0 {
			g.Role = login
		}
	}
	switch {
	case always == rowsAll && unset == rowsAll:
		g.Kind, g.Detail = GapPolicyOpen, "the policies let every row through"
		g.Remedy = "compare the tenant column with the session's tenant"
	case unset == rowsAll:
		g.Kind = GapPolicyOpenUnset
		g.Detail = "the policies let every row through while " + t.settings() + " is not set"
		g.Remedy = "let an unset setting match no row: compare the column with NULLIF(current_setting('" + t.exampleSetting() + "', true), '')"
	case max(always, unset) == rowsUnsure:
		g.Kind = GapPolicyUnclear
		g.Detail = "which rows the policies let through depends on other columns, tables or functions"
		g.Remedy = "see for yourself"
	default:
		return g, false
	}
	return g, true
}

func (t *inspected) settings() string {
	if len(t.policy.Settings) == 0 {
		return "the tenant's setting"
	}
	return strings.Join(t.policy.Settings, ", ")
}

func (t *inspected) exampleSetting() string {
	if len(t.policy.Settings) == 0 {
		return "app.tenant"
	}
	return t.policy.Settings[0]
}

// policiesFor are the policies that apply to a login and a command.
func (t *inspected) policiesFor(login string, c command) (permissive, restrictive []catalog.Policy) {
	for _, p := range t.Policies {
		if p.Command != '*' && p.Command != c.code {
			continue
		}
		if len(p.Roles) > 0 && !slices.ContainsFunc(p.Roles, func(r string) bool { return login != "" && t.roles.has(login, r) }) {
			continue
		}
		if p.Permissive {
			permissive = append(permissive, p)
		} else {
			restrictive = append(restrictive, p)
		}
	}
	return permissive, restrictive
}

// rows is what the policies let through together: what a permissive one does and
// every restrictive one too. by are the permissive ones that let through most.
func (t *inspected) rows(permissive, restrictive []catalog.Policy, c command, s sessionState) (rows rowCheck, by []catalog.Policy) {
	e := &evaluator{state: s, settings: t.policy.Settings, column: t.column, functions: t.roles.functions}
	one := func(p catalog.Policy) rowCheck {
		if c.check && p.Check != "" {
			return e.rows(p.Check)
		}
		return e.rows(p.Using) // it is the check too where there is none
	}
	for _, p := range permissive {
		switch r := one(p); {
		case r > rows:
			rows, by = r, []catalog.Policy{p}
		case r == rows:
			by = append(by, p)
		}
	}
	for _, p := range restrictive {
		rows = min(rows, one(p))
	}
	return rows, by
}
