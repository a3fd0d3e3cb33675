package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/config"
)

// loadConfig is config.Load with a next step for the commonest mistake.
func loadConfig(path string) (config.Config, error) {
	c, err := config.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("%w; name the file with --config", err)
	}
	return c, err
}

// configFlag adds --config, which every command that reads one has.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "/etc/pgweir/pgweir.yaml", "configuration file")
}
