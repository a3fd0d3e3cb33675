package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChanges: what a reload rests on: what differs of two configurations, and the files that one names.
func TestChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cert")
	require.NoError(t, os.WriteFile(file, []byte("something"), 0o600))
	before := Default()
	after := before
	after.HTTP, after.TLS.CertFile = "127.0.0.1:1", file
	require.Empty(t, before.Changes(before))
	changes := after.Changes(before)
	require.Len(t, changes, 2)
	require.Equal(t, "http", changes[0].Path)
	require.Equal(t, "tls.cert_file", changes[1].Path)
	require.Equal(t, []string{file}, after.Files())
	require.Empty(t, before.Files())
	require.Contains(t, after.Contents(), "tls.cert_file")
}
