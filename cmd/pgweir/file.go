package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/config"
)

// errReported ends a command whose output already says what is wrong.
var errReported = errors.New("reported")

// loadConfig is config.Load with a next step for the commonest mistake.
func loadConfig(path string) (config.Config, error) { return hinted(config.Load(path)) }

// loadWithoutSecrets is loadConfig for commands that log in nowhere.
func loadWithoutSecrets(path string) (config.Config, error) {
	return hinted(config.LoadWithoutSecrets(path))
}

// loadHTTP reads only how the proxy on this host is reached, for commands that ask it: the rest of
// the file may be faulty, or refer to what only the proxy's environment has.
func loadHTTP(path string) (config.Config, error) {
	return hinted(config.LoadOnly(path, "http", "http_web_config"))
}

func hinted(c config.Config, err error) (config.Config, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("%w; name the file with --config", err)
	}
	return c, err
}

// configFlag adds --config, which every command that reads one has.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "/etc/pgweir/pgweir.yaml", "configuration file")
}
