package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/adminclient"
)

func reloadCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the running proxy read its configuration again",
		Long: `Have the proxy that runs on this host read its configuration again, as SIGHUP does.

The proxy is found by the address that key http of the configuration names; where
http_web_config asks for a user, it is taken from PGWEIR_HTTP_USER and its password
from PGWEIR_HTTP_PASSWORD. A file with a fault changes nothing: the faults are
printed, and the exit code is 1. What changed, and what needs a restart, is in the
proxy's log.`,
		Example: `  pgweir reload --config pgweir.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := askReload(cmd.Context(), path); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "reloaded; the log says what changed")
			return err
		},
	}
	configFlag(cmd, &path)
	return cmd
}

// askReload has the proxy read its file, which may be faulty: what is wrong with it the proxy
// says, for it tells its log and its metrics, too.
func askReload(ctx context.Context, path string) error {
	cfg, err := loadHTTP(path)
	var faults config.Faults
	if errors.As(err, &faults) {
		return fmt.Errorf("%w\nkey http cannot be read, so the proxy cannot be asked; send its process SIGHUP", err)
	}
	if err != nil {
		return err
	}
	_, err = adminclient.Ask(ctx, cfg.Web, http.MethodPost, "/reload")
	switch {
	case errors.Is(err, adminclient.ErrNoHTTP):
		return fmt.Errorf("%w; send its process SIGHUP", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w; if http was changed in the file, send the process SIGHUP: the key needs a restart", err)
	}
	return err
}
