package pgtest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// ownerEnv makes this test binary a program that starts a cluster and waits for its end.
const ownerEnv = "PGTEST_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(ownerEnv) != "" {
		owner()
	}
	goleak.VerifyTestMain(Suite(m))
}

func owner() {
	c, err := Start(context.Background(), Options{Replicas: 1})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	if os.Getenv(ownerEnv) == "after-crash" {
		err = c.Primary.Kill()
		c.Replicas[0].Freeze()
	}
	fmt.Println(c.Dir, c.Primary.PID(), err)
	select {}
}

// TestOwnerKilled kills the process that owns a cluster and expects that nothing of
// the cluster remains, also when a server had crashed and another hung.
func TestOwnerKilled(t *testing.T) {
	SkipShort(t)
	for _, state := range []string{"running", "after-crash"} {
		t.Run(state, func(t *testing.T) {
			ctx := testContext(t)
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), ownerEnv+"="+state)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			dir, _, _ := strings.Cut(line, " ")
			require.DirExists(t, dir)
			require.NotEmpty(t, processesIn(filepath.Join(dir, "replica1")))
			segments := []string{segment(t, dir, "primary"), segment(t, dir, "replica1")}
			require.Subset(t, allSegments(t), segments)

			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait())
			err = until(ctx, func() (bool, error) {
				_, err := os.Stat(dir)
				return os.IsNotExist(err), nil
			})
			require.NoError(t, err, "%s is still there", dir)
			for _, name := range []string{"primary", "replica1"} {
				require.Empty(t, processesIn(filepath.Join(dir, name)))
			}
			for _, id := range segments {
				require.NotContains(t, allSegments(t), id, "a shared memory segment remains")
			}
		})
	}
}

// segment returns the id of a server's System V segment, which line 7 of its pid file ends with.
func segment(t *testing.T, dir, server string) string {
	data, err := os.ReadFile(filepath.Join(dir, server, "postmaster.pid"))
	require.NoError(t, err)
	lines := strings.Split(string(data), "\n")
	require.Greater(t, len(lines), 6)
	fields := strings.Fields(lines[6])
	require.Len(t, fields, 2)
	return fields[1]
}

// allSegments returns the ids of all System V segments of the machine.
func allSegments(t *testing.T) []string {
	data, err := os.ReadFile("/proc/sysvipc/shm")
	require.NoError(t, err)
	var ids []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 { // key shmid perms …
			ids = append(ids, f[1])
		}
	}
	return ids
}
