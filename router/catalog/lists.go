package catalog

import (
	_ "embed"
	"fmt"
	"strings"
)

// listsText is what pg_proc does not say of functions; its head explains it.
//
//go:embed lists.txt
var listsText string

// lists is listsText ready to be asked.
type lists struct {
	harmless, primary, state group
	clean                    map[string]bool // extensions
}

// group maps an extension ("" is PostgreSQL itself) to its names.
type group map[string]*patterns

// patterns are names and prefixes with the reason they are listed for.
type patterns struct {
	exact    map[string]string
	prefixes []prefix
}

type prefix struct{ text, reason string }

// known are the lists of this build; they never change.
var known = mustLists(listsText)

func mustLists(text string) *lists {
	l, err := parseLists(text)
	if err != nil {
		panic(err) // the text is part of the program and a test reads it
	}
	return l
}

func parseLists(text string) (*lists, error) {
	l := &lists{harmless: group{}, primary: group{}, state: group{}, clean: map[string]bool{}}
	var add func(name string)
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "@"):
			var err error
			if add, err = l.open(line[1:]); err != nil {
				return nil, fmt.Errorf("lists.txt line %d: %w", i+1, err)
			}
		case add == nil:
			return nil, fmt.Errorf("lists.txt line %d: names before the first group", i+1)
		default:
			for _, name := range strings.Fields(line) {
				add(name)
			}
		}
	}
	return l, nil
}

// open begins the group that head describes and returns what adds a name to it.
func (l *lists) open(head string) (func(string), error) {
	what, reason, ok := strings.Cut(head, ":")
	words := strings.Fields(what)
	if !ok || len(words) == 0 {
		return nil, fmt.Errorf("%q is no group", head)
	}
	reason = strings.TrimSpace(reason)
	groups := map[string]group{"harmless": l.harmless, "primary": l.primary, "state": l.state}
	if words[0] == "clean" {
		return func(name string) { l.clean[name] = true }, nil
	}
	g, ok := groups[words[0]]
	if !ok {
		return nil, fmt.Errorf("unknown kind %q", words[0])
	}
	extensions := words[1:]
	if len(extensions) == 0 {
		extensions = []string{""}
	}
	return func(name string) {
		for _, e := range extensions {
			g.add(e, name, reason)
		}
	}, nil
}

func (g group) add(extension, name, reason string) {
	p := g[extension]
	if p == nil {
		p = &patterns{exact: map[string]string{}}
		g[extension] = p
	}
	if text, ok := strings.CutSuffix(name, "*"); ok {
		p.prefixes = append(p.prefixes, prefix{text, reason})
		return
	}
	p.exact[name] = reason
}

// reason returns why the function is in the group, and whether it is.
func (g group) reason(extension, name string) (string, bool) {
	p := g[extension]
	if p == nil {
		return "", false
	}
	if r, ok := p.exact[name]; ok {
		return r, true
	}
	for _, x := range p.prefixes {
		if strings.HasPrefix(name, x.text) {
			return x.reason, true
		}
	}
	return "", false
}
