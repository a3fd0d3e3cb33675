package grammar

import (
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strings"
	"sync"
	"testing"
)

// deep are texts of n levels, each of another construct.
var deep = map[string]func(n int) string{
	"not":       nested("not ", "true", ""),
	"signs":     nested("- ", "1", ""),
	"plus":      nested("", "1", "+1"),
	"concat":    nested("", "a", "||a"),
	"row":       nested("row(", "1", ")"),
	"rows":      nested("((", "1", "), 2)"),
	"array":     nested("array[", "1", "]"),
	"subscript": nested("a[", "1", "]"),
	"select":    nested("(select ", "1", ")"),
	"exists":    nested("exists(select ", "1", ")"),
	"in":        nested("1 in (", "1", ")"),
	"in select": nested("1 in (select ", "1", ")"),
	"function":  nested("f(", "1", ")"),
	"casts":     nested("", "1", "::int"),
	"cast":      nested("cast(", "1", " as int)"),
	"is null":   nested("", "1", " is null"),
	"case":      nested("case when ", "1", " then 1 end"),
	"else":      nested("case when a then b else ", "1", " end"),
	"coalesce":  nested("coalesce(", "1", ")"),
	"collate":   nested("", "a", " collate c"),
	"zone":      nested("", "a", " at time zone 'x'"),
	"and or":    nested("(true and (true or ", "a", "))"),
	"xml":       nested("xmlconcat(", "a", ")"),
	"json":      nested("json_object('a': ", "1", ")"),
	"window":    nested("f() over (order by ", "1", ")"),
	"filter":    nested("f() filter (where ", "a", ")"),
	"fields":    nested("", "(a)", ".a"),
	"lateral":   nestedFrom("select * from a, lateral (", ") t"),
	"from":      nestedFrom("select * from (", ") t"),
	"with":      nestedFrom("with a as (", ") select 1"),
	"join":      func(n int) string { return "select 1 from a" + strings.Repeat(" join a on true", n) },
	"joins": func(n int) string {
		return "select 1 from " + strings.Repeat("(", n) + "a" + strings.Repeat(" join a on true)", n)
	},
	"union":    func(n int) string { return "select 1" + strings.Repeat(" union select 1", n) },
	"unions":   func(n int) string { return strings.Repeat("(", n) + "select 1" + strings.Repeat(" union select 1)", n) },
	"encoding": func(n int) string { return "select '\xe9', " + strings.Repeat("not ", n) + "true" },
	"default": func(n int) string {
		return "create table t (a int default " + strings.Repeat("f(", n) + "1" + strings.Repeat(")", n) + ")"
	},
	"and": func(n int) string { return "select " + strings.Repeat("(a and ", n) + "a" + strings.Repeat(")", n) },
}

func nested(before, in, behind string) func(int) string {
	return func(n int) string { return "select " + strings.Repeat(before, n) + in + strings.Repeat(behind, n) }
}

func nestedFrom(before, behind string) func(int) string {
	return func(n int) string { return strings.Repeat(before, n) + "select 1" + strings.Repeat(behind, n) }
}

const deepChild = "PGWEIR_TEST_DEEP"

// TestDepth: no text ends the process, whatever stack it was given. Each stack needs a
// process of its own, as threads get what the limit was when it began.
func TestDepth(t *testing.T) {
	if os.Getenv(deepChild) != "" {
		deepest(t)
		return
	}
	for _, stack := range []string{"512", "1024", "2048", "8192", "65536", "unlimited"} {
		if err := exec.Command("sh", "-c", "ulimit -s "+stack).Run(); err != nil && stack != "512" {
			t.Logf("no process of this user may have a stack of %s KB: %v", stack, err)
			break // nor a larger one
		}
		t.Run(stack, func(t *testing.T) {
			child := exec.Command("sh", "-c", "ulimit -s "+stack+"; exec \"$0\" -test.run='^TestDepth$' -test.v", os.Args[0])
			child.Env = append(os.Environ(), deepChild+"=1")
			out, err := child.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%.2000s", err, out)
			}
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "levels") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}

// deepest parses the deepest text of each kind that is not refused, on several
// threads, so that at least one is not the process's first.
func deepest(t *testing.T) {
	t.Logf("%d levels on %d KB", maxDepth, stack>>10)
	for name, of := range deep {
		n := sort.Search(50000, func(n int) bool { return TooDeep(of(n)) }) - 1
		text := of(n)
		t.Logf("%s: %d", name, n)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				if has := int(currentStack()); has > 0 && has < stack-reserved {
					t.Errorf("a thread has %d bytes of stack, believed were %d", has, stack)
				}
				// Whether they refuse it does not matter.
				_, _ = Parse(text)
				_ = Valid(text)
				_ = Fingerprint(text)
			})
		}
		all.Wait()
	}
}

func TestLevels(t *testing.T) {
	for stack, want := range map[int]int{0: 0, 64 << 10: 0, 1 << 20: 611, 2 << 20: 1310, 8 << 20: 5505, 1 << 30: mostLevels} {
		if got := levels(stack); got != want {
			t.Errorf("%d bytes: %d levels, want %d", stack, got, want)
		}
	}
}
