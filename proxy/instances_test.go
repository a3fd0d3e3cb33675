package proxy_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// TestHistoriesOfTwoInstances: what a level promises holds for clients of two proxies behind
// a balancer where these say that they are not alone; where they do not, it does not.
func TestHistoriesOfTwoInstances(t *testing.T) {
	l := newLagging(t, historySetup, map[string]string{"recovery_min_apply_delay": "5ms"},
		func(c *config.Config) { c.Routing.FreshnessWait = 20 * time.Millisecond })
	for _, run := range []struct {
		level      string
		soleWriter bool
	}{{"session", false}, {"tenant", false}, {"database", false}, {"strong", false}, {"database", true}} {
		t.Run(fmt.Sprintf("%s, sole writer %v", run.level, run.soleWriter), func(t *testing.T) {
			l.config.Routing.SoleWriter = run.soleWriter
			both := []*service{l.proxy(t), l.proxy(t)}
			address := balancer(t, func(n int) string { return both[n%2].addr })
			must(t, l.WaitReplay(t.Context()))
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			var h history
			var g errgroup.Group
			// Every run is long enough to prove something, whatever else the machine does.
			g.Go(func() error {
				h.await(ctx, historyLength(t), func() bool {
					reads, writes := h.count()
					return reads > 500 && writes > 50 && (!run.soleWriter || len(h.violations(run.level)) > 0)
				})
				cancel()
				return nil
			})
			g.Go(func() error { return disturb(ctx, l, rand.New(rand.NewPCG(historySeed, 100)), false) })
			if err := errors.Join(h.record(ctx, (&service{addr: address}).dsn, run.level), g.Wait()); err != nil {
				t.Fatal(err)
			}
			reads, writes := h.count()
			for i, s := range both {
				onReplica := s.metric(t, "pgweir_statements_total", "target=replica")
				t.Logf("instance %d: %.0f of %d reads on replicas, %d writes; redirected %v", i+1, onReplica, reads, writes, s.metric(t, "pgweir_reads_redirected_total"))
				if onReplica == 0 || s.metric(t, "pgweir_statements_total", "target=primary") == 0 {
					t.Error("the run proves nothing")
				}
			}
			violations := h.violations(run.level)
			if run.soleWriter {
				if len(violations) == 0 {
					t.Error("nothing is missed where each takes itself for the only one: the other runs prove nothing")
				}
				return
			}
			for _, v := range violations {
				t.Error(v)
			}
		})
	}
}

// await returns once the clients have worked for some time and something is true of what they
// saw, or ctx ends.
func (h *history) await(ctx context.Context, least time.Duration, enough func() bool) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h.mu.Lock()
		done := time.Since(began) > least && enough()
		h.mu.Unlock()
		if done {
			return
		}
	}
}

// instances starts proxies that are each other's peers.
func instances(t *testing.T, n int) (all []*service) {
	t.Helper()
	var peers config.Addresses
	for range n {
		peers = append(peers, freeAddress(t))
	}
	for _, address := range peers {
		cfg := baseConfig(t)
		cfg.Listen, cfg.Peers = config.Addresses{address}, peers // itself among them
		all = append(all, startConfig(t, cfg))
	}
	return all
}

// cancelAt sends a cancel request with a key to an instance, and waits until it is dealt with.
func cancelAt(t *testing.T, s *service, pid uint32, key []byte) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.addr, patience)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	request := binary.BigEndian.AppendUint32(nil, uint32(12+len(key)))
	request = binary.BigEndian.AppendUint32(request, 80877102)
	_, err = conn.Write(append(binary.BigEndian.AppendUint32(request, pid), key...))
	must(t, err)
	answer, err := io.ReadAll(conn)
	must(t, err)
	if len(answer) > 0 {
		t.Errorf("a client is answered %q", answer)
	}
}

// TestCancelAtAnotherInstance: a cancel request that reaches another instance cancels its
// statement and no other, with the short keys of protocol 3.0 and the long ones of 3.2. One
// that nobody knows is asked of each peer once.
func TestCancelAtAnotherInstance(t *testing.T) {
	database := newDatabase(t, "")
	all := instances(t, 3)
	cancels := func(s *service, outcome string) float64 {
		return s.metric(t, "pgweir_cancel_requests_total", "outcome="+outcome)
	}
	for _, protocol := range []string{"3.0", "3.2"} {
		conn := all[0].connect(t, database, "max_protocol_version="+protocol)
		if n := len(conn.PgConn().SecretKey()); (n > 4) != (protocol == "3.2") {
			t.Fatalf("protocol %s has keys of %d bytes", protocol, n)
		}
		for _, other := range all[1:] {
			met, forwarded := cancels(all[0], "met"), cancels(other, "forwarded")
			ended := make(chan error, 1)
			go func() {
				_, err := conn.Exec(context.Background(), "/* pgweir:primary */ select pg_sleep(20)")
				ended <- err
			}()
			until(t, "the statement runs", func() bool {
				n, err := shared(t).Primary.Value(bounded(t, patience), database, "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(20)%' and pid <> pg_backend_pid()")
				return err == nil && n == "1"
			})
			cancelAt(t, other, conn.PgConn().PID(), conn.PgConn().SecretKey())
			if err := <-ended; wantCode(err) != "57014" {
				t.Errorf("protocol %s: %v", protocol, err)
			}
			if cancels(all[0], "met") != met+1 || cancels(other, "forwarded") != forwarded+1 {
				t.Errorf("protocol %s: met %v, forwarded %v", protocol, cancels(all[0], "met")-met, cancels(other, "forwarded")-forwarded)
			}
			must(t, conn.Ping(bounded(t, patience)))
		}
		wrong := bytes.Clone(conn.PgConn().SecretKey())
		wrong[0]++
		cancelAt(t, all[1], conn.PgConn().PID(), wrong)
	}
	for i, want := range []float64{0, 2, 0} {
		if got := cancels(all[i], "unknown"); got != want {
			t.Errorf("instance %d: %v requests with a wrong key, want %v", i+1, got, want)
		}
	}
}

// BenchmarkSoleWriter is what it costs reads at level database that others commit, too: eight
// clients read a register, alone and beside a writer of another. On two shared cores, with
// replicas on the same machine:
//
//	                no writes   writes
//	sole writer         36 µs    47 µs between two reads
//	others, too        176 µs   184 µs, and 99.9 % of the reads on replicas
func BenchmarkSoleWriter(b *testing.B) {
	cluster := pgtest.New(b, pgtest.Options{Replicas: 2})
	must(b, cluster.Exec(b.Context(), historySetup))
	must(b, cluster.WaitReplay(b.Context()))
	for _, soleWriter := range []bool{true, false} {
		for _, writes := range []string{"no writes", "writes"} {
			b.Run(fmt.Sprintf("sole writer %v, %s", soleWriter, writes), func(b *testing.B) {
				cfg := failoverConfig(b, cluster)
				cfg.Routing.SoleWriter = soleWriter
				s := startConfig(b, cfg)
				ctx, stop := context.WithCancel(b.Context())
				var g errgroup.Group
				if writes == "writes" {
					conn := s.connect(b, "postgres")
					g.Go(func() error {
						for ctx.Err() == nil {
							if _, err := conn.Exec(b.Context(), "update r set v = v + 1 where id = 1"); err != nil {
								return err
							}
							time.Sleep(5 * time.Millisecond)
						}
						return nil
					})
				}
				before := s.metric(b, "pgweir_statements_total", "target=replica")
				b.SetParallelism(4)
				b.RunParallel(func(pb *testing.PB) {
					conn := s.connect(b, "postgres")
					for pb.Next() {
						var v int
						if err := conn.QueryRow(b.Context(), "select v from r where id = 0").Scan(&v); err != nil {
							b.Error(err)
						}
					}
				})
				stop()
				must(b, g.Wait())
				b.ReportMetric(100*(s.metric(b, "pgweir_statements_total", "target=replica")-before)/float64(b.N), "%onreplica")
			})
		}
	}
}
