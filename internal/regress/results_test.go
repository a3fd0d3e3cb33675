package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScheduled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "schedule")
	require.NoError(t, os.WriteFile(path, []byte("# test: none\ntest: a\n\ntest: b c\n"), 0o600))
	names, err := scheduled(path)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "c"}, names)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err = scheduled(path)
	require.Error(t, err)
}

func TestShow(t *testing.T) {
	direct, through := t.TempDir(), t.TempDir()
	printed := func(dir, name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "results"), 0o755))
		require.NoError(t, os.WriteFile(result(dir, name), []byte(text), 0o600))
	}
	printed(direct, "same", "1\n")
	printed(through, "same", "1\n")
	printed(direct, "other", "1\n")
	printed(through, "other", "2\n")
	printed(direct, "missing", "1\n")
	printed(direct, "empty", "")
	did, didNot := ran([]string{"same", "other", "missing", "empty", "never"}, direct)
	require.Equal(t, []string{"same", "other", "missing"}, did)
	require.Equal(t, []string{"empty", "never"}, didNot)
	require.Equal(t, 1, show(did, direct, through))
}
