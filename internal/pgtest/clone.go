package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Clone makes s a replica of upstream that has nothing of its own past: its data
// directory is replaced by a backup of upstream's. It returns when s streams.
func (s *Server) Clone(ctx context.Context, upstream *Server) error {
	err := s.Stop(Immediate)
	if err == nil {
		err = os.RemoveAll(s.DataDir)
	}
	if err == nil {
		err = s.backup(ctx, upstream)
	}
	if err == nil {
		err = s.configure(upstream)
	}
	if err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		return fmt.Errorf("clone %s from %s: %w", s.Name, upstream.Name, err)
	}
	return upstream.waitStreaming(ctx, s.Name)
}

// backup copies the data directory of a running server by the functions for that,
// pg_basebackup not being among the server programs.
// https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
func (s *Server) backup(ctx context.Context, upstream *Server) error {
	conn, err := upstream.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx) // ends a backup that did not come to its end
	if _, err := conn.Exec(ctx, "select pg_backup_start('clone', true)"); err != nil {
		return err
	}
	user := s.cluster.user
	if err := user.copyLive(upstream.DataDir, s.DataDir); err != nil {
		return err
	}
	label, err := value(ctx, conn, "select labelfile from pg_backup_stop(false)")
	if err != nil {
		return err
	}
	return user.writeFile(filepath.Join(s.DataDir, "backup_label"), []byte(label))
}

// notCloned are what a backup leaves out: the log, which the standby streams, and what
// belongs to the running server.
var notCloned = []string{"pg_wal/", "pg_replslot/", "pg_stat_tmp/", "postmaster.pid", "postmaster.opts", "standby.signal"}

// copyLive copies a data directory in which files come and go.
func (a account) copyLive(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		for _, not := range notCloned {
			if strings.HasPrefix(rel, not) {
				if d.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return a.mkdir(target, 0o700)
		}
		if err := copyFile(path, target); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		return a.own(target)
	})
}
