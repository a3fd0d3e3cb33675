package replay_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/internal/replay"
)

// TestLongWorkIsTold: who looks at much hears how far it is, and of short work nothing.
func TestLongWorkIsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "all.sql")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("select 1;\n", 50)), 0o600))
	told := func(every time.Duration) string {
		var told strings.Builder
		_, _, err := (&replay.Files{Names: []string{file}, Progress: &told, Interval: every}).Counted()
		require.NoError(t, err)
		return told.String()
	}
	require.Empty(t, told(0))
	require.Contains(t, told(time.Nanosecond), file+": 50 of 50 statements\n")
}
