package router

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pgweir/pgweir/config"
)

// rules are the rules of one database, compiled.
type rules struct {
	list     []rule
	patterns int // how many have a pattern
}

type rule struct {
	route             Route
	consistency       Consistency
	user, application string
	table, function   string
	pattern           *regexp.Regexp
}

// compileRule reads one rule; config.Validate has refused those that fail here.
func compileRule(c config.Rule) (rule, error) {
	r := rule{user: c.User, application: c.Application, table: c.Table, function: c.Function}
	var ok bool
	if r.route, ok = ParseRoute(c.Route); !ok {
		return r, fmt.Errorf("unknown route %q", c.Route)
	}
	if r.consistency, ok = ParseConsistency(c.Consistency); !ok && c.Consistency != "" {
		return r, fmt.Errorf("unknown consistency %q", c.Consistency)
	}
	if c.Pattern != "" {
		var err error
		if r.pattern, err = regexp.Compile(c.Pattern); err != nil {
			return r, fmt.Errorf("pattern: %w", err)
		}
	}
	return r, nil
}

func compileRules(list []config.Rule) rules {
	var all rules
	for _, c := range list {
		r, err := compileRule(c)
		if err != nil {
			continue
		}
		if r.pattern != nil {
			all.patterns++
		}
		all.list = append(all.list, r)
	}
	return all
}

// appendMatches appends to key which patterns match text, a bit each.
func (r *rules) appendMatches(key, text []byte) []byte {
	bits, n := byte(0), 0
	for i := range r.list {
		if r.list[i].pattern == nil {
			continue
		}
		if r.list[i].pattern.Match(text) {
			bits |= 1 << (n % 8)
		}
		if n++; n%8 == 0 {
			key = append(key, bits)
			bits = 0
		}
	}
	return append(key, bits)
}

// apply gives p the first rule that matches. Rules that ask for a user or an
// application before it become variants, in order.
func (r *rules) apply(p *Plan, text string) {
	var variants []Variant
	base := *p
	for i := range r.list {
		rule := &r.list[i]
		if !rule.matches(p, text) {
			continue
		}
		if rule.user == "" && rule.application == "" {
			p.send(rule.route, ReasonRule)
			p.RuleConsistency = rule.consistency
			break
		}
		v := base
		v.send(rule.route, ReasonRule)
		v.RuleConsistency = rule.consistency
		variants = append(variants, Variant{User: rule.user, Application: rule.application, Plan: &v})
	}
	p.Variants = variants
}

func (r *rule) matches(p *Plan, text string) bool {
	return (r.table == "" || anyNamed(p.Relations, r.table)) &&
		(r.function == "" || anyNamed(p.Functions, r.function)) &&
		(r.pattern == nil || r.pattern.MatchString(text))
}

// anyNamed reports whether list holds name. Where either has no schema, the
// names alone are compared.
func anyNamed(list []string, name string) bool {
	for _, s := range list {
		if s == name {
			return true
		}
		if bare(s) == bare(name) && (bare(s) == s || bare(name) == name) {
			return true
		}
	}
	return false
}

func bare(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
