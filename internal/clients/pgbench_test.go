package clients

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// pgbenchScripts are pgbench's names for its scripts, and how many transactions all
// clients together run of each. The work is given rather than the time, so that a slow
// machine tests no less; each client runs at least five.
var pgbenchScripts = map[string]int{"select-only": 8000, "tpcb-like": 2000}

// TestPgbench runs pgbench's own two scripts in every query mode with few and many
// clients through the proxy. No transaction may fail, and afterwards the books must
// balance and every transaction pgbench counted must be in the history, once.
func TestPgbench(t *testing.T) {
	cluster := newCluster(t, nil)
	proxy := target{startProxy(t, cluster), newDatabase(t, cluster)}
	direct := target{cluster.Primary.Addr(), proxy.database}
	runPgbench(t, direct, "-i", "-q", "-s", "5")
	var wrote int
	for _, mode := range []string{"simple", "extended", "prepared"} {
		for _, clients := range []int{1, 8, 64, 256} {
			for script, transactions := range pgbenchScripts {
				each := max(transactions/clients, 5)
				t.Run(fmt.Sprintf("%s/%s/%d", mode, script, clients), func(t *testing.T) {
					pgbenchCell(t, proxy, mode, script, clients, each)
					if script == "tpcb-like" {
						wrote += clients * each
					}
				})
			}
		}
	}
	requireBalance(t, cluster, proxy.database, wrote)
}

var (
	pgbenchDone   = regexp.MustCompile(`number of transactions actually processed: (\d+)`)
	pgbenchFailed = regexp.MustCompile(`number of failed transactions: (\d+)`)
	pgbenchWrong  = regexp.MustCompile(`(?i)aborted|error|fatal|failed \(`)
)

// pgbenchCell runs one combination.
func pgbenchCell(t *testing.T, to target, mode, script string, clients, each int) {
	t.Helper()
	out := runPgbench(t, to, "-n", "-M", mode, "-b", script, "-c", strconv.Itoa(clients), "-j", "2", "-t", strconv.Itoa(each))
	if found := pgbenchWrong.FindString(out); found != "" {
		t.Errorf("pgbench speaks of %q:\n%s", found, out)
	}
	if n := number(t, pgbenchFailed, out); n != 0 {
		t.Errorf("%d transactions failed:\n%s", n, out)
	}
	if n := number(t, pgbenchDone, out); n != clients*each {
		t.Errorf("%d transactions of %d:\n%s", n, clients*each, out)
	}
}

func number(t *testing.T, pattern *regexp.Regexp, out string) int {
	t.Helper()
	m := pattern.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no %q in what pgbench prints:\n%s", pattern, out)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func runPgbench(t *testing.T, to target, args ...string) string {
	t.Helper()
	path, err := lookFor("pgbench")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = to.environ(), &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("pgbench %v: %v\n%s", args, err, out.String())
	}
	return out.String()
}

// requireBalance checks the books of the TPC-B tables on every server.
func requireBalance(t *testing.T, cluster *pgtest.Cluster, database string, transactions int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()
	if err := cluster.WaitReplay(ctx); err != nil {
		t.Fatal(err)
	}
	const books = `select format('%s %s %s %s rows %s',
		(select sum(delta) from pgbench_history), (select sum(abalance) from pgbench_accounts),
		(select sum(tbalance) from pgbench_tellers), (select sum(bbalance) from pgbench_branches),
		(select count(*) from pgbench_history))`
	delta, err := cluster.Primary.Value(ctx, database, "select coalesce(sum(delta), 0)::text from pgbench_history")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%[1]s %[1]s %[1]s %[1]s rows %[2]d", delta, transactions)
	for _, s := range cluster.Servers() {
		got, err := s.Value(ctx, database, books)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("history, accounts, tellers, branches on %s: %s, want %s", s.Name, got, want)
		}
	}
}
