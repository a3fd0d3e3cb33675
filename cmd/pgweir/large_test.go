package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/wire"
)

// memory is what a process has in memory, and has had at most since that was last forgotten, in bytes.
func memory(t *testing.T, pid int) (now, most int) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for _, line := range strings.Split(string(data), "\n") {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &now)
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &most)
	}
	return now << 10, most << 10
}

// bindSize binds the statement s to a value of n zeros, executes it and reads its row.
func bindSize(t *testing.T, conn net.Conn, n int) (took time.Duration) {
	t.Helper()
	began := time.Now()
	must(t, conn.SetDeadline(began.Add(2*time.Minute)))
	head := []byte{0, 's', 0, 0, 1, 0, 1, 0, 1}
	head = binary.BigEndian.AppendUint32(head, uint32(n))
	frame := append(binary.BigEndian.AppendUint32([]byte{'B'}, uint32(4+len(head)+n+2)), head...)
	_, err := conn.Write(frame)
	must(t, err)
	chunk := make([]byte, 1<<20)
	for left := n; left > 0; left -= min(left, len(chunk)) {
		_, err = conn.Write(chunk[:min(left, len(chunk))])
		must(t, err)
	}
	end, err := (&pgproto3.Execute{}).Encode([]byte{0, 0})
	must(t, err)
	end, err = (&pgproto3.Sync{}).Encode(end)
	must(t, err)
	_, err = conn.Write(end)
	must(t, err)
	if row := readRow(t, conn); row != fmt.Sprint(n) {
		t.Fatalf("row %q", row)
	}
	return time.Since(began)
}

// readRow reads an answer up to ReadyForQuery and returns the value in its row.
func readRow(t *testing.T, conn net.Conn) (row string) {
	t.Helper()
	front := pgproto3.NewFrontend(conn, io.Discard)
	for {
		m, err := front.Receive()
		must(t, err)
		switch m := m.(type) {
		case *pgproto3.DataRow:
			row = string(m.Values[0])
		case *pgproto3.ErrorResponse:
			t.Fatal(m.Message)
		case *pgproto3.ReadyForQuery:
			return row
		}
	}
}

// querySize asks for the length of a literal of n zeros by a simple query.
func querySize(t *testing.T, conn net.Conn, function string, n int) (took time.Duration) {
	t.Helper()
	began := time.Now()
	must(t, conn.SetDeadline(began.Add(2*time.Minute)))
	_, err := conn.Write(wire.AppendQuery(nil, "select "+function+"('"+strings.Repeat("0", n)+"')"))
	must(t, err)
	if row := readRow(t, conn); row != fmt.Sprint(n) {
		t.Fatalf("row %q", row)
	}
	return time.Since(began)
}

// TestLargeLiteralIsKeptFromTheParser: 100 MB that a client sends as a literal of a statement whose plan
// is not known are copied four times at most; the parser made eight copies.
func TestLargeLiteralIsKeptFromTheParser(t *testing.T) {
	pid, conn := largeClient(t)
	querySize(t, conn, "octet_length", 1<<20)
	before, _ := memory(t, pid)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o600) // forgets the most
	took := querySize(t, conn, "length", 100<<20)
	now, most := memory(t, pid)
	t.Logf("%.1f MB before, at most %.1f MB, then %.1f MB; it took %v", mb(before), mb(most), mb(now), took.Round(time.Millisecond))
	bound := 550 << 20
	if raced {
		bound *= 2
	}
	if most-before > bound {
		t.Errorf("a literal of 100 MB takes %.1f MB", mb(most-before))
	}
}

// TestLargeParameterTakesNoMemory: 100 MB that a client sends in one message pass through.
func TestLargeParameterTakesNoMemory(t *testing.T) {
	pid, conn := largeClient(t)
	bindSize(t, conn, 1<<20)
	before, _ := memory(t, pid)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o600) // forgets the most
	took := bindSize(t, conn, 100<<20)
	now, most := memory(t, pid)
	t.Logf("%.1f MB before, at most %.1f MB, then %.1f MB; it took %v", mb(before), mb(most), mb(now), took.Round(time.Millisecond))
	if most-before > 32<<20 { // it is nothing; the catalog is read meanwhile, and the race detector doubles all
		t.Errorf("a parameter of 100 MB takes %.1f MB", mb(most-before))
	}
}

func mb(n int) float64 { return float64(n) / (1 << 20) }

// largeClient starts a pgweir and logs a client in, who has prepared s.
func largeClient(t *testing.T) (pid int, client net.Conn) {
	t.Helper()
	pgtest.SkipShort(t)
	if runtime.GOOS != "linux" {
		t.Skip("the memory of another process is read from /proc")
	}
	c := pgtest.New(t, pgtest.Options{})
	listen := freeAddresses(t, 1)[0]
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: \"\"\n", listen))
	pid = g.start().Process.Pid
	g.await("listening")
	conn := logIn(t, listen, pgtest.Superuser)
	_, err := conn.Prepare(t.Context(), "s", "select length($1::bytea)", nil)
	must(t, err)
	h, err := conn.Hijack()
	must(t, err)
	t.Cleanup(func() { _ = h.Conn.Close() })
	return pid, h.Conn
}
