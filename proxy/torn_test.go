package proxy_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// tornMark stands in the texts whose answers are cut.
const tornMark = "/* to be cut */"

// gate lies between the proxy and a server. Of the answer to the next text with tornMark
// it lets so many bytes pass.
type gate struct {
	net.Listener
	server string
	budget atomic.Int64 // of the next answer; negative is all
	// stall, if any, has the connection stay open, silent, until it is closed.
	stall atomic.Pointer[chan struct{}]
	cut   chan struct{} // told when the budget is spent
	pipes sync.WaitGroup
}

func newGate(t testing.TB, s *pgtest.Server) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &gate{Listener: l, server: s.Addr(), cut: make(chan struct{}, 100)}
	p.budget.Store(-1)
	p.pipes.Go(p.accept)
	t.Cleanup(func() { _ = l.Close(); p.pipes.Wait() })
	return p
}

func (p *gate) accept() {
	for {
		from, err := p.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = from.Close()
			continue
		}
		armed := make(chan int64, 1)
		p.pipes.Go(func() { p.up(from, to, armed) })
		p.pipes.Go(func() { p.down(to, from, armed) })
	}
}

// up passes on what the proxy says.
func (p *gate) up(from, to net.Conn, armed chan<- int64) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if bytes.Contains(buf[:n], []byte(tornMark)) {
			if b := p.budget.Swap(-1); b >= 0 {
				armed <- b
			}
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// down passes on what the server says, up to the budget.
func (p *gate) down(from, to net.Conn, armed <-chan int64) {
	defer to.Close()
	left := int64(-1)
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		select {
		case left = <-armed:
		default:
		}
		if left >= 0 && int64(n) > left {
			_, _ = to.Write(buf[:left])
			stall := p.stall.Load()
			select {
			case p.cut <- struct{}{}:
			default:
			}
			if stall != nil {
				<-*stall
			}
			return
		}
		if left >= 0 {
			left -= int64(n)
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// stream sends messages over a new connection and returns all that comes up to the
// ReadyForQuery or the end.
func stream(t testing.TB, addr, database string, during func(), ms ...pgproto3.FrontendMessage) []byte {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	must(t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = conn.Write(encode(t, &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters: map[string]string{"user": pgtest.Superuser, "database": database}}))
	must(t, err)
	frames(t, conn)
	_, err = conn.Write(encode(t, ms...))
	must(t, err)
	if during != nil {
		during()
	}
	return frames(t, conn)
}

// frames are the bytes up to a ReadyForQuery or the end.
func frames(t testing.TB, conn net.Conn) (all []byte) {
	t.Helper()
	head := make([]byte, 5)
	for {
		n, err := io.ReadFull(conn, head)
		all = append(all, head[:n]...)
		if err != nil {
			return all
		}
		body := make([]byte, max(int(binary.BigEndian.Uint32(head[1:]))-4, 0))
		n, err = io.ReadFull(conn, body)
		all = append(all, body[:n]...)
		if err != nil || head[0] == 'Z' {
			return all
		}
	}
}

// cuts are the places about the beginnings of all messages, and every fifth between.
func cuts(all []byte) (at []int) {
	for i := 0; i < len(all); i++ {
		if i%5 == 0 {
			at = append(at, i)
		}
	}
	for i := 0; i+5 <= len(all); i += 1 + int(binary.BigEndian.Uint32(all[i+1:])) {
		at = append(at, max(i-1, 0), i, i+1, i+4, i+5, i+6)
	}
	slices.Sort(at)
	return slices.Compact(at)
}

// cleanlyCut reports whether got is want up to some place, and then, if that is between
// two messages, perhaps an error.
func cleanlyCut(want, got []byte) bool {
	if bytes.Equal(want, got) {
		return true
	}
	same := 0
	for same < min(len(want), len(got)) && want[same] == got[same] {
		same++
	}
	if same == len(got) {
		return true
	}
	at := 0 // the last place between two messages up to which both are the same
	for at+5 <= len(want) {
		next := at + 1 + int(binary.BigEndian.Uint32(want[at+1:]))
		if next > same {
			break
		}
		at = next
	}
	return got[at] == 'E' && binary.BigEndian.Uint32(got[at+1:]) < 1000
}

// wholeOnly reports whether the last message is whole too.
func wholeOnly(all []byte) bool {
	for len(all) > 0 {
		if len(all) < 5 || len(all) < 1+int(binary.BigEndian.Uint32(all[1:])) {
			return false
		}
		all = all[1+int(binary.BigEndian.Uint32(all[1:])):]
	}
	return true
}

// Whatever ends a connection to a server within a message, nothing follows within that
// message to the client. What is short reaches it whole or not at all: it is told why nothing more comes.
func TestNothingFollowsATornMessage(t *testing.T) {
	cluster := shared(t)
	db := newDatabase(t, "")
	p := newGate(t, cluster.Primary)
	begin := func(t testing.TB) *service {
		s := start(t, poolSize(1), func(c *config.Config) {
			c.Servers = []config.Server{{Address: p.Addr().String(), Weight: 1}}
			c.Routing.MonitorInterval = 20 * time.Millisecond
		})
		return s
	}
	small := tornMark + " select i, repeat('x', 20) from generate_series(1, 3) i"
	large := tornMark + " select i, repeat('x', 40000) from generate_series(1, 3) i"
	simple := func(sql string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{&pgproto3.Query{String: sql}}
	}
	pipeline := func(sql string) []pgproto3.FrontendMessage {
		return append(append(extended(sql), extended("select 1")...), advSync)
	}
	t.Run("lost at every byte", func(t *testing.T) {
		s := begin(t)
		for _, ms := range [][]pgproto3.FrontendMessage{simple(small), pipeline(small), simple("copy (" + small[len(tornMark):] + ") to stdout " + tornMark),
			simple("begin; " + small + "; commit")} {
			want := stream(t, cluster.Primary.Addr(), db, nil, ms...)
			for _, n := range cuts(want) {
				p.budget.Store(int64(n))
				if got := stream(t, s.addr, db, nil, ms...); !cleanlyCut(want, got) || !wholeOnly(got) {
					t.Fatalf("cut after %d of\n%q\nthe client got\n%q", n, want, got)
				}
			}
		}
	})
	large1 := 40000 + 100
	for name, end := range map[string]func(s *service){
		"closed": func(s *service) { s.Close() },
		"shut down": func(s *service) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			s.Shutdown(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := stream(t, cluster.Primary.Addr(), db, nil, simple(large)...)
			for _, n := range []int{0, 1, 30, 60, 4100, large1 / 2, large1 - 80, large1, large1 + 20000, 2*large1 + 5, len(want) - 3} {
				s := begin(t)
				stall := make(chan struct{})
				p.stall.Store(&stall)
				p.budget.Store(int64(n))
				var ended sync.WaitGroup
				got := stream(t, s.addr, db, func() {
					<-p.cut
					ended.Go(func() { end(s) })
				}, simple(large)...)
				if !cleanlyCut(want, got) {
					t.Errorf("cut after %d the client got %d bytes that end in %q", n, len(got), got[max(0, len(got)-200):])
				}
				close(stall)
				ended.Wait()
				p.stall.Store(nil)
			}
		})
		t.Run(name+", the client not reading", func(t *testing.T) {
			huge := simple("select repeat('x', 30000000)")
			want := stream(t, cluster.Primary.Addr(), db, nil, huge...)
			s := begin(t)
			var ended sync.WaitGroup
			got := stream(t, s.addr, db, func() {
				until(t, "it runs", func() bool { return s.metric(t, "pgweir_pool_connections", "state=used") == 1 })
				time.Sleep(200 * time.Millisecond) // until all buffers are full
				ended.Go(func() { end(s) })
				ended.Wait()
			}, huge...)
			if !cleanlyCut(want, got) || len(got) == len(want) {
				t.Errorf("the client got %d bytes that end in %q", len(got), got[max(0, len(got)-200):])
			}
		})
	}
}
