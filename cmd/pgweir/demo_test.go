package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/demo"
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
		"listen": "127.0.0.1:6432", "http": "127.0.0.1:9930", "rows": "5000", "once": "false",
	} {
		require.Equal(t, want, flags.Lookup(name).DefValue, name)
	}
}

func TestDemoPassesFlagsOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	used := l.Addr().String()
	none := func(context.Context, config.Config) (func(context.Context) error, error) {
		return nil, errors.New("must not be started")
	}
	require.ErrorContains(t, runDemo(t, none, "--listen", used), used+" is in use")
	require.ErrorContains(t, runDemo(t, none, "--listen", "127.0.0.1:0", "--http", used), used+" is in use")
	require.ErrorContains(t, runDemo(t, none, "--listen", "127.0.0.1:0", "--http", "", "--rows", "0"), "--rows 0")
	require.Error(t, runDemo(t, none, "surplus"))
}
