package compare

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/insight"
)

// Rules say which differences are failures, for CI.
type Rules []rule

type rule struct {
	what string
	part float64
}

// What rules are about.
const (
	aboutTimes    = "slower"
	aboutQueries  = "more-queries"
	aboutFindings = "new-findings"
)

// ParseRules reads rules: slower=20% is a statement that takes so much longer, more-queries=10% a
// route that sends so many more statements, new-findings a warning that was not there before.
func ParseRules(texts []string) (rules Rules, err error) {
	for _, text := range texts {
		what, value, has := strings.Cut(text, "=")
		if has != (what == aboutTimes || what == aboutQueries) || !has && what != aboutFindings {
			return nil, fmt.Errorf("--fail-on %s: must be slower=20%%, more-queries=10%% or new-findings", text)
		}
		r := rule{what: what}
		if has {
			percent, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
			if err != nil || !(percent >= 1) || !strings.HasSuffix(value, "%") {
				return nil, fmt.Errorf("--fail-on %s: %q must be a percentage from 1%% on", text, value)
			}
			r.part = percent / 100
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// Smallest are the smallest parts that rules name; 0 for none. Whatever is to break a rule
// must be found.
func (rules Rules) Smallest() (slower, more float64) {
	for _, r := range rules {
		for _, x := range []struct {
			what string
			part *float64
		}{{aboutTimes, &slower}, {aboutQueries, &more}} {
			if r.what == x.what && (*x.part == 0 || r.part < *x.part) {
				*x.part = r.part
			}
		}
	}
	return slower, more
}

// Broken says what of a report breaks rules.
func (rules Rules) Broken(r *Report) (all []string) {
	for _, rule := range rules {
		fail := func(what, name string) { all = append(all, fmt.Sprintf("%s: %s: %s", rule.what, what, name)) }
		for i := range r.Statements {
			if s := &r.Statements[i]; rule.what == aboutTimes && s.Status == Slower && s.Change >= 1+rule.part {
				fail(fmt.Sprintf("%.2f times as long", s.Change), s.Statement)
			}
		}
		for i := range r.Routes {
			if x := &r.Routes[i]; rule.what == aboutQueries && x.Status == More && x.Change >= 1+rule.part {
				fail(fmt.Sprintf("%.4g statements each, %.4g before", x.After, x.Before), x.name())
			}
		}
		for i := range r.Patterns {
			if p := &r.Patterns[i]; rule.what == aboutFindings && p.Status == New && p.Severity == insight.Warning {
				fail(p.Kind, p.Statement)
			}
		}
	}
	return all
}
