package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/demo"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// runDemo runs the demo command with start in place of the proxy.
func runDemo(t *testing.T, start demo.StartFunc, args ...string) error {
	was := startProxy
	startProxy = start
	t.Cleanup(func() { startProxy = was })
	cmd := demoCommand()
	cmd.SetArgs(args)
	cmd.SetOut(&bytes.Buffer{})
	cmd.SetErr(&bytes.Buffer{})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	return cmd.ExecuteContext(t.Context())
}

func TestDemoFlags(t *testing.T) {
	flags := demoCommand().Flags()
	for name, want := range map[string]string{
		"listen": "127.0.0.1:6432", "http": "127.0.0.1:9930", "rows": "20000", "once": "false",
	} {
		require.Equal(t, want, flags.Lookup(name).DefValue, name)
	}
}

func TestDemoPassesFlagsOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	used := l.Addr().String()
	none := func(context.Context, config.Config) (*demo.Proxy, error) {
		return nil, errors.New("must not be started")
	}
	require.ErrorContains(t, runDemo(t, none, "--listen", used), used+" is in use")
	require.ErrorContains(t, runDemo(t, none, "--listen", "127.0.0.1:0", "--http", used), used+" is in use")
	require.ErrorContains(t, runDemo(t, none, "--listen", "127.0.0.1:0", "--http", "", "--rows", "0"), "--rows 0")
	require.Error(t, runDemo(t, none, "surplus"))
}

// TestDemoKeepsItsWord: with the real proxy every statement runs where the heading above it says.
func TestDemoKeepsItsWord(t *testing.T) {
	pgtest.SkipShort(t)
	at := freeAddresses(t, 2)
	var out bytes.Buffer
	cmd := demoCommand()
	cmd.SetArgs([]string{"--once", "--listen", at[0], "--http", at[1]})
	cmd.SetOut(&out)
	require.NoError(t, cmd.ExecuteContext(t.Context()))
	for _, want := range []string{
		"pgweir insights findings: n_plus_one: sent 8 times", "faster: takes 0.",
		"pgweir insights plans: Seq Scan on public.deliveries", "reads all of 20000 rows for about 1, by ", "instead: CREATE INDEX CONCURRENTLY ON public.deliveries (organization_id, address)",
		"executed by: Seq Scan on public.deliveries → Index Scan by deliveries_organization_id_address_idx on public.deliveries",
	} {
		require.Contains(t, out.String(), want)
	}
	for heading, want := range map[string]string{
		"A read runs on a replica":                       "replica",
		"Reads are shared among the replicas":            "replica replica replica replica",
		"A write runs on the primary":                    "primary",
		"A moment later it runs on a replica":            "replica",
		"A transaction begins on a replica and moves to": "replica primary primary primary",
		"A function that writes goes to the primary":     "primary",
		"So does a read that locks rows":                 "primary",
		"A prepared statement runs on any server":        "replica replica replica replica",
		"Row-level security: organization 2 sees others": "replica replica",
		"Without the setting there is nothing to see":    "replica",
		"EXPLAIN of a read is a read":                    "replica",
	} {
		_, stop, ok := strings.Cut(out.String(), ". "+heading)
		require.True(t, ok, "no %q in %s", heading, out.String())
		stop, _, _ = strings.Cut(stop, "\n\n")
		var roles []string
		for _, m := range regexp.MustCompile(` role (\w+), `).FindAllStringSubmatch(stop, -1) {
			roles = append(roles, m[1])
		}
		require.Equal(t, want, strings.Join(roles, " "), heading+stop)
	}
}
