package session_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

// Each file of testdata is histories: events, a line each, and behind "=> " what the
// session is then. An event is a verb and what follows its colon:
//
//	session: name=value …          a new session with these startup settings
//	here: SQL                      the proxy executes it, if it may
//	done: SQL -- parameter …       a server carried it out
//	failed: SQL, not run: SQL      a server refused it, in the midst or before it began
//	text: SQL                      done on a replica: it may have to be run elsewhere
//	ready: I (or T, or E) failed   the batch ended
//	end:                           a batch that no server took part in ended
//	read back: name=value … temp   what the server carries; what it keeps beside settings
//	unreadable:, moved:, lost:, refused:
func TestHistories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			h := &history{t: t, plans: router.NewPlans(router.Options{})}
			for line := range strings.Lines(string(raw)) {
				if strings.HasPrefix(line, "=> ") {
					continue
				}
				if out.WriteString(line); line != "\n" && line[0] != '#' {
					fmt.Fprintf(&out, "=> %s\n", h.event(strings.TrimSuffix(line, "\n")))
				}
			}
			if d := cmp.Diff(string(raw), out.String()); d != "" && !*update {
				t.Error(d)
			}
			if *update {
				if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// history is the session of a data file.
type history struct {
	t     *testing.T
	plans *router.Plans
	state session.State
}

func (h *history) event(line string) string {
	verb, rest, _ := strings.Cut(line, ":")
	rest = strings.TrimSpace(rest)
	said := ""
	switch verb {
	case "session":
		h.state = session.New(setting.Settings{}, setting.From(pairs(rest)), setting.Settings{})
	case "here":
		said = h.here(h.plans.Get([]byte(rest)))
	case "done":
		said = h.ran(rest, session.Done, false)
	case "text":
		said = h.ran(rest, session.Done, true)
	case "failed":
		said = h.ran(rest, session.Failed, false)
	case "not run":
		said = h.ran(rest, session.NotRun, false)
	case "ready":
		h.state.Ready(rest[0], strings.Contains(rest, "failed"), func(name string) string { return name + " as the server says it" })
	case "end":
		h.state.EndLocal()
	case "read back":
		h.readBack(rest)
	case "unreadable":
		h.state.Unreadable()
	case "moved":
		h.state.Moved()
	case "lost":
		h.state.Moved()
		h.state.Pins = 0 // what was on the connection
	case "refused":
		h.state.Refused()
	default:
		h.t.Fatalf("no event: %s", line)
	}
	return said + h.state.String()
}

func pairs(s string) map[string]string {
	values := map[string]string{}
	for _, field := range strings.Fields(s) {
		if name, value, ok := strings.Cut(field, "="); ok {
			values[name] = value
		}
	}
	return values
}

// here has the proxy execute a statement, as package local does.
func (h *history) here(p *router.Plan) string {
	switch {
	case !h.state.Executable(p, false, false, setting.IsCustom):
		return "(needs a server) "
	case p.Own.Verb != router.OwnNone:
		h.state.Proxy.Set(router.Set{Name: "pgweir." + p.Own.Name, Value: p.Own.Value, Local: p.Own.Local, Reset: p.Own.Verb == router.OwnReset})
		return ""
	}
	if tag := h.state.Execute(p); tag != "" {
		return "(" + tag + ") "
	}
	return ""
}

// ran has a server answer a statement; what it means for the connection is said first.
func (h *history) ran(line string, out session.Outcome, replica bool) string {
	text, params, _ := strings.Cut(line, " -- ")
	var args []router.Argument
	for _, v := range strings.Fields(params) {
		args = append(args, router.Argument{Value: v, Null: v == "NULL", Text: true, Bool: true})
	}
	st := session.Executed{Plan: h.plans.Get([]byte(text))}
	st.Sets = bound(st.Plan, args)
	if replica {
		st.Text = text
	}
	e := h.state.Ran(&st, out, nil)
	if e == (session.Effects{}) {
		return ""
	}
	var said []string
	add := func(is bool, what string) {
		if is {
			said = append(said, what)
		}
	}
	add(e.Ended == session.Committed, "committed")
	add(e.Ended == session.RolledBack, "rolled back")
	add(e.Residue != session.NoResidue, "leaves "+e.Residue.String())
	add(e.Inspect != 0, "ask for "+e.Inspect.String())
	add(e.Startup, "set the startup settings again")
	add(e.Unpinned != 0, "unpinned "+e.Unpinned.String())
	add(e.Forgets, "forgets statements")
	return "(" + strings.Join(said, ", ") + ") "
}

func (h *history) readBack(rest string) {
	values := pairs(rest)
	f := session.Found{Values: setting.From(values), Defined: setting.From(values).Custom().List()}
	for word, pin := range map[string]router.PinSet{
		" temp": router.PinTemp, " lock": router.PinLock, " listen": router.PinListen, " cursor": router.PinCursor, " stays": router.PinSetting,
	} {
		if strings.Contains(" "+rest, word) {
			f.Kept |= pin
		}
	}
	h.state.ReadBack(f, session.Inspectable)
}
