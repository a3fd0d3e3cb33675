package proxy_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/pgweir/pgweir/config"
)

// listeners are n sessions that listen to one channel. They and their clients live in the
// process of the test.
func listeners(t testing.TB, addr, database string, n int) []*rawConn {
	t.Helper()
	all := make([]*rawConn, n)
	for i := range all {
		all[i] = raw(t, addr, database)
		all[i].query("listen everybody")
	}
	return all
}

// notifyAll notifies them, and returns once the last has heard.
func notifyAll(from *rawConn, all []*rawConn, payload string) {
	heard := make([]int, len(all))
	for i, r := range all {
		heard[i] = r.heard()
	}
	from.query("notify everybody, '" + payload + "'")
	for i, r := range all {
		r.hears(heard[i] + 1)
	}
}

// heard is how many notifications came so far.
func (r *rawConn) heard() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pids)
}

// hears waits until n notifications have come.
func (r *rawConn) hears(n int) {
	late := time.AfterFunc(patience, func() { _ = r.conn.Close() }) // which ends the waiting
	defer late.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.pids) < n && r.ended == nil {
		r.changed.Wait()
	}
	if len(r.pids) < n {
		r.t.Errorf("heard %d of %d: %v", len(r.pids), n, r.ended)
	}
}

// manyClients leaves room for all listeners.
func manyClients(c *config.Config) { c.MaxClients = 0 }

// TestManyListeners: a thousand sessions hear over one server connection, each once, and cost
// little memory.
func TestManyListeners(t *testing.T) {
	const many = 1000
	database := newDatabase(t, "")
	s := start(t, poolSize(2), manyClients)
	before := memoryInUse()
	all := listeners(t, s.addr, database, many)
	until(t, "no connection is in use", func() bool { return s.metric(t, "pgweir_server_connections_in_use") == 0 })
	if n := listening(t, database); n != "1" {
		t.Errorf("%s connections listen", n)
	}
	// That of the clients, which read in this process too, is counted.
	if each := (memoryInUse() - before) / many; each > 64<<10 {
		t.Errorf("%d bytes for each listener and its client", each)
	}
	from := raw(t, s.addr, database)
	for i := range 5 {
		notifyAll(from, all, fmt.Sprint(i))
	}
	for i, r := range all {
		if n := r.heard(); n != 5 {
			t.Errorf("session %d heard %d", i, n)
		}
	}
}

// memoryInUse is that of the heap and of stacks.
func memoryInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// BenchmarkListeners measures one NOTIFY until all of n sessions have heard it over one server
// connection, and the memory of each: both with the clients' part, which is in this process.
// Of open files each is two.
//
//	BenchmarkListeners/1000    34 ms/op   29.6 KB/listener
//	BenchmarkListeners/9000   434 ms/op   27.3 KB/listener
func BenchmarkListeners(b *testing.B) {
	for _, n := range []int{100, 1000, 9000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			database := newDatabase(b, "")
			s := start(b, poolSize(2), manyClients)
			before := memoryInUse()
			all := listeners(b, s.addr, database, n)
			each := float64(memoryInUse()-before) / float64(n)
			from := raw(b, s.addr, database)
			for b.Loop() {
				notifyAll(from, all, "x")
			}
			b.ReportMetric(each, "B/listener")
		})
	}
}
