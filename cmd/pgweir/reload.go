package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/proxy/admin"
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
	_, err = command(ctx, cfg, http.MethodPost, "/reload")
	switch {
	case errors.Is(err, errNoHTTP):
		return fmt.Errorf("%w; send its process SIGHUP", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w; if http was changed in the file, send the process SIGHUP: the key needs a restart", err)
	}
	return err
}

// commandTimeout bounds what the proxy is asked over HTTP.
const commandTimeout = 30 * time.Second

var errNoHTTP = errors.New("key http is empty, so the proxy cannot be asked")

// command asks the proxy on this host over HTTP and returns its answer.
func command(ctx context.Context, cfg config.Config, method, what string) (string, error) {
	if cfg.HTTP == "" {
		return "", errNoHTTP
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	web, err := admin.ReadWeb(cfg.HTTPWebConfig)
	if err != nil {
		return "", err
	}
	client, scheme := http.DefaultClient, "http"
	if web.Encrypts() {
		transport := &http.Transport{TLSClientConfig: web.Client(), DisableKeepAlives: true}
		client, scheme = &http.Client{Transport: transport}, "https"
	}
	req, err := http.NewRequestWithContext(ctx, method, scheme+"://"+loopback(cfg.HTTP)+what, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set(admin.Command, "1")
	if user := os.Getenv("PGWEIR_HTTP_USER"); user != "" {
		req.SetBasicAuth(user, os.Getenv("PGWEIR_HTTP_PASSWORD"))
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("is pgweir running on this host? %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return "", errors.New("http_web_config wants a user: set PGWEIR_HTTP_USER and PGWEIR_HTTP_PASSWORD")
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(strings.TrimRight(string(body), "\n"))
	}
	return string(body), nil
}

// loopback is where a listener on all addresses is reached from its own host.
func loopback(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return address
}
