package pgtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScratchParents(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "pgt-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	closed, open, long := filepath.Join(dir, "closed"), filepath.Join(dir, "open"), filepath.Join(dir, strings.Repeat("x", 70))
	for _, d := range []string{closed, open, long} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Chmod(closed, 0o700))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(open, link))

	other := account{name: "postgres", other: true}
	require.NoError(t, suits(open, other))
	require.ErrorContains(t, suits(closed, other), "user postgres, who may not enter "+closed)
	require.NoError(t, suits(closed, account{}))
	require.ErrorContains(t, suits(long, account{}), "too long")

	scratch, err := makeScratch(link, account{})
	require.NoError(t, err)
	require.Equal(t, open, filepath.Dir(scratch), "the path must have no symbolic link")
	_, err = makeScratch(filepath.Join(dir, "absent"), account{})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestTMPDIRIsTheUsersWord(t *testing.T) {
	t.Setenv("TMPDIR", "/tmp/mine")
	require.Equal(t, "/tmp/mine", defaultParents()[0])
}

func TestServersSeeNothingOfTheCallersSetup(t *testing.T) {
	t.Setenv("PGHOST", "elsewhere")
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	env := account{}.command("true").Env
	require.NotContains(t, env, "PGHOST=elsewhere")
	require.NotContains(t, env, "LC_ALL=de_DE.UTF-8")
	require.Contains(t, env, "LC_ALL=C")
}

func TestVersionsAreSupported(t *testing.T) {
	require.True(t, suitable(binaries{major: "15"}, ""))
	require.True(t, suitable(binaries{major: "18"}, ""))
	require.False(t, suitable(binaries{major: "14"}, ""))
	require.True(t, suitable(binaries{major: "14"}, "14"))
	require.False(t, suitable(binaries{major: "15"}, "18"))
}

func TestConfigurationText(t *testing.T) {
	require.Equal(t, "a = 'it''s'\nb = ''\n", string(confText(map[string]string{"b": "", "a": "it's"})))
	require.Equal(t, []string{"local all postgres trust", "local replication postgres trust", "host all all all reject"},
		strings.Split(strings.TrimSpace(string(hbaText([]string{"host all all all reject"}))), "\n"))
}
