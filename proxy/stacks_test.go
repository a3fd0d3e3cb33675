//go:build !race

package proxy_test

import (
	"net"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/wire"
)

// TestStacks: what clients usually ask needs no larger stack than their logins did. A stack that
// has grown is kept until the next collection, which may be minutes away, where nothing allocates.
func TestStacks(t *testing.T) {
	const clients, limit = 200, 5 << 10
	db := newDatabase(t, "create table stacks as select 7 as id")
	s := start(t, func(c *config.Config) { c.Settings.VerifyReleases = false })
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	simple := wire.AppendQuery(nil, "select id from stacks where id = 7")
	block := wire.AppendQuery(nil, "begin")
	write := wire.AppendQuery(nil, "update stacks set id = 7")
	end := wire.AppendQuery(nil, "commit")
	extended := wire.AppendParse(nil, "", "select id from stacks where id = 7", nil)
	extended = wire.AppendBind(extended, nil, "", []byte{0, 0, 0, 0, 0, 0})
	extended = wire.AppendSync(wire.AppendExecute(extended, ""))
	connect := func() net.Conn {
		conn, err := s.connect(t, db).PgConn().Hijack()
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Conn.Close() })
		return conn.Conn
	}
	ask := func(conn net.Conn) {
		buf := make([]byte, 4096)
		for _, frames := range [][]byte{simple, extended, block, write, end} {
			_, err := conn.Write(frames)
			require.NoError(t, err)
			for n := 0; n < 6 || string(buf[n-6:n-1]) != "Z\x00\x00\x00\x05"; {
				more, err := conn.Read(buf[n:])
				require.NoError(t, err)
				n += more
			}
		}
	}
	ask(connect()) // it dials
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range clients {
		ask(connect())
	}
	runtime.ReadMemStats(&after)
	if got := (after.StackInuse - before.StackInuse) / clients; got > limit {
		t.Errorf("a client's stack is %d bytes, more than %d", got, limit)
	}
}
