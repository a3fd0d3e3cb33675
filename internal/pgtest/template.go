package pgtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

var initdbArgs = []string{"--username=" + Superuser, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"}

// template returns a stopped data directory to copy from.
func (c *Cluster) template(ctx context.Context) (string, error) {
	if c.opts.Fresh {
		return c.initdb(ctx)
	}
	cached, err := c.cachedTemplate()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(cached, "PG_VERSION")); err == nil {
		return cached, nil
	}
	c.progress("running initdb (once for this version)")
	made, err := c.initdb(ctx)
	if err != nil {
		return "", err
	}
	// What cannot be kept is used all the same.
	_ = keepTemplate(made, cached)
	return made, nil
}

// cachedTemplate names the template by all it depends on.
func (c *Cluster) cachedTemplate() (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(c.bins.dir + strings.Join(initdbArgs, " ")))
	return filepath.Join(cache, "template", fmt.Sprintf("%s-%x", c.bins.full, sum[:6])), nil
}

// initdb makes a data directory in the scratch directory.
func (c *Cluster) initdb(ctx context.Context) (string, error) {
	dir := filepath.Join(c.Dir, "template")
	if err := c.user.mkdir(dir, 0o700); err != nil {
		return "", err
	}
	cmd := c.user.command(c.bins.path("initdb"), append(initdbArgs, "--pgdata="+dir)...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("initdb: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { killTree(cmd.Process, dir) })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out.Bytes())
	}
	return dir, nil
}

// keepTemplate copies a data directory into the cache. The rename makes it appear
// whole or not at all; of several processes that try, one wins and all are content.
func keepTemplate(made, cached string) error {
	if err := os.MkdirAll(filepath.Dir(cached), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(cached), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	copied := filepath.Join(tmp, "data")
	if err := (account{}).copyTree(made, copied); err != nil {
		return err
	}
	return os.Rename(copied, cached)
}
