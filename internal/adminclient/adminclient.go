// Package adminclient asks the proxy that runs on this host, over its HTTP (proxy/admin), for
// commands that show or order something: reload, report, insights.
package adminclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/proxy/admin"
)

// timeout bounds what the proxy is asked over HTTP.
const timeout = 30 * time.Second

// ErrNoHTTP is that the proxy serves no HTTP.
var ErrNoHTTP = errors.New("key http is empty, so the proxy cannot be asked")

// Ask asks the proxy that cfg belongs to and returns its answer; where a user is asked for, it is that of
// PGWEIR_HTTP_USER and PGWEIR_HTTP_PASSWORD. The error may be the proxy's own words.
func Ask(ctx context.Context, cfg config.Web, method, what string) (string, error) {
	if cfg.HTTP == "" {
		return "", ErrNoHTTP
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
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
