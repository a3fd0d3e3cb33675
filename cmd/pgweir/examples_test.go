package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAuditExample runs the commands of examples/audit/README.md where it says, and compares what they
// print with what stands there. -update rewrites it.
func TestAuditExample(t *testing.T) {
	t.Chdir("../../examples/audit")
	const page = "README.md"
	want, err := os.ReadFile(page)
	must(t, err)
	got, commands := "", 0
	for rest := string(want); ; commands++ {
		before, after, ok := strings.Cut(rest, "$ ../../bin/pgweir ")
		if got += before; !ok {
			break
		}
		command, after, _ := strings.Cut(after, "\n")
		_, rest, ok = strings.Cut(after, "```\n")
		if !ok {
			t.Fatalf("%q is not in a block", command)
		}
		out, code := pgweir("", strings.Fields(command)...)
		got += fmt.Sprintf("$ ../../bin/pgweir %s\n%sexit %d\n```\n", command, out, code)
	}
	if commands != 2 {
		t.Errorf("%d commands", commands)
	}
	if *update {
		must(t, os.WriteFile(page, []byte(got), 0o644))
		return
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}
