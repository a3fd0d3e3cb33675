package proxy_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// One client cancels its statements just as they end, over and over; neither its
// own next statement nor another client's on the same server connection is ever hit.
func TestCancelHitsNothingElse(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, poolSize(1))
	canceler, other := s.connect(t, database), s.connect(t, database)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// It pays to be near the end: the pause adapts to how long the statement takes.
	const naps = `/* pgweir:primary */ select pg_sleep(0.002)`
	until := time.Now().Add(4 * time.Second)
	var hits, misses, others atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for time.Now().Before(until) {
			if _, err := other.Exec(ctx, "/* pgweir:primary */ select 1"); err != nil {
				t.Errorf("another client's statement: %v", err)
				return
			}
			others.Add(1)
		}
	})
	pause := 2 * time.Millisecond
	for time.Now().Before(until) {
		sent := make(chan error, 1)
		go sendCancel(ctx, canceler, pause+time.Duration(rand.IntN(600)-300)*time.Microsecond, sent)
		_, err := canceler.Exec(ctx, naps)
		switch {
		case wantCode(err) == "57014":
			hits.Add(1)
			pause += 20 * time.Microsecond
		case err != nil:
			t.Fatal(err)
		default:
			misses.Add(1)
			pause = max(pause-20*time.Microsecond, 300*time.Microsecond)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if _, err := canceler.Exec(ctx, "/* pgweir:primary */ select 1"); err != nil {
			t.Fatalf("the statement after a canceled one: %v", err)
		}
	}
	wg.Wait()
	t.Logf("%d canceled, %d canceled too late, %d of the other client", hits.Load(), misses.Load(), others.Load())
	if hits.Load() == 0 || misses.Load() == 0 || others.Load() == 0 {
		t.Error("the edge was not found")
	}
}

// sendCancel sends a cancel request after a pause and returns when it was dealt with.
func sendCancel(ctx context.Context, conn *pgx.Conn, pause time.Duration, done chan<- error) {
	time.Sleep(pause)
	done <- conn.PgConn().CancelRequest(ctx)
}
