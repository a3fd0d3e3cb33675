package proxy_test

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// showConsole: the console is there for who may use it, and commands are for who may give them.
func showConsole(r *running) {
	r.begin(func(c *config.Config) { c.Databases = map[string]config.Database{r.db: {}} })
	r.cfg.Databases = map[string]config.Database{r.db: {}}
	command := func() string {
		conn, err := pgx.Connect(bounded(r, patience), r.dsn("pgweir"))
		if err != nil {
			return wantCode(err)
		}
		defer func() { _ = conn.Close(context.Background()) }()
		_, err = conn.Exec(bounded(r, patience), "RECONNECT")
		return wantCode(err)
	}
	require.Equal(r, "3D000", command())
	r.reload(func(c *config.Config) { c.Console.StatsUsers = []string{pgtest.Superuser} })
	require.Equal(r, "42501", command())
	r.reload(func(c *config.Config) { c.Console.AdminUsers = []string{pgtest.Superuser} })
	require.Empty(r, command())
}
