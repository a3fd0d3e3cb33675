package proxy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
)

// TestReloadRoute: the route of a session that runs follows the configuration.
func TestReloadRoute(t *testing.T) {
	db := newDatabase(t, "create table items (id int)")
	cfg := baseConfig(t)
	eventual(&cfg)
	cfg = cfg.Complete()
	s := startConfig(t, cfg)
	c := trace(t, s, db)
	require.Equal(t, []string{"replica read"}, c.told("select * from items"))
	cfg.Routing.Route = "primary"
	changes, err := s.Reload(cfg)
	require.NoError(t, err)
	require.Equal(t, []config.Change{{Path: "routing.route", Old: "auto", New: "primary"}}, changes)
	require.Equal(t, []string{"primary route"}, c.told("select * from items"))
	cfg.Routing.Route = "auto"
	_, err = s.Reload(cfg)
	require.NoError(t, err)
	require.Equal(t, []string{"replica read"}, c.told("select * from items"))
}
