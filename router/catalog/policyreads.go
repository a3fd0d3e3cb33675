package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
)

// policyExpressionsQuery: what the row-level security policies ask of rows that are read
// and of rows that are written.
const policyExpressionsQuery = `
SELECT pg_catalog.pg_get_expr(x.polqual, x.polrelid), pg_catalog.pg_get_expr(x.polwithcheck, x.polrelid)
  FROM pg_catalog.pg_policy x`

// readableFunctionsQuery: name and source of users' functions whose source can be read.
const readableFunctionsQuery = `
SELECT p.proname, COALESCE(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc)
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 WHERE l.lanname IN ('sql', 'plpgsql') AND p.oid >= 16384`

// SettingsOfPolicies returns the custom settings that the row-level security policies of
// q's database read, themselves or in functions in LANGUAGE sql or plpgsql that they call,
// however deep: calls of current_setting with a constant name, in lower case, ordered. A
// name that is computed is not found; a function counts with all others of its name. Any role may ask.
func SettingsOfPolicies(ctx context.Context, q Query) ([]string, error) {
	found := readings{settings: map[string]bool{}, calls: map[string]bool{}}
	l := &loader{ctx: ctx, query: q}
	l.read("policies", policyExpressionsQuery, 2, func(r row) {
		found.scan(r.text(0))
		found.scan(r.text(1))
	})
	sources := map[string][]string{} // by name
	if len(found.calls) > 0 {
		l.read("functions of policies", readableFunctionsQuery, 2, func(r row) {
			sources[r.text(0)] = append(sources[r.text(0)], r.text(1))
		})
	}
	if l.err != nil {
		return nil, fmt.Errorf("find the settings that policies read: %w", l.err)
	}
	found.follow(sources)
	return slices.Sorted(maps.Keys(found.settings)), nil
}

// readings are the custom settings that texts read, and the functions they call.
type readings struct{ settings, calls map[string]bool }

// scan reads one text. What cannot be read with certainty ends it.
func (r *readings) scan(text string) {
	l := lexer{text: text}
	var last token
	for t := l.next(); t.kind != tokenEnd && t.kind != tokenBroken; t = l.next() {
		if t.punct("(") && last.name() {
			r.calls[last.text] = true
			after := l // a copy: the arguments are scanned as anything else
			name, next := after.next(), after.next()
			whole := next.punct(",") || next.punct(")") || next.punct(":") // or a cast follows
			if last.text == "current_setting" && name.kind == tokenString && strings.Contains(name.text, ".") && whole {
				r.settings[setting.Fold(name.text)] = true
			}
		}
		last = t
	}
}

// follow scans the sources of what is called, each once.
func (r *readings) follow(sources map[string][]string) {
	for more := true; more; {
		more = false
		for name := range r.calls { // what is added on the way may be met or not
			for _, text := range sources[name] {
				more = true
				r.scan(text)
			}
			delete(sources, name)
		}
	}
}
