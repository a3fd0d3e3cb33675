package backend

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/wire"
)

// code is the SQLSTATE of a server's error.
func code(err error) string {
	var refused *ServerError
	if errors.As(err, &refused) {
		return refused.Code()
	}
	return ""
}

func TestCancelRunning(t *testing.T) {
	b := connect(t, 10)
	ctx := testContext(t)
	failed := make(chan error, 1)
	go func() { _, err := b.RoundTrip(ctx, wire.AppendQuery(nil, "select pg_sleep(60)")); failed <- err }()
	waitActive(t, b)
	if b.Canceled() {
		t.Error("canceled before")
	}
	if err := b.BeginCancel()(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; code(err) != "57014" {
		t.Errorf("error %v", err)
	}
	if !b.Canceled() {
		t.Error("it is not remembered")
	}
	if err := b.CancelDone(ctx); err != nil || b.Canceled() {
		t.Errorf("afterwards: %v, %v", err, b.Canceled())
	}
	if got := value(t, b, "select 1"); got != "1" {
		t.Error(got)
	}
}

func waitActive(t *testing.T, b *Backend) {
	t.Helper()
	server := pgtest.Shared(t).Primary
	for end := time.Now().Add(testTimeout); ; {
		v, err := server.Value(testContext(t), "postgres", "select count(*) from pg_stat_activity where pid = $1 and state = 'active'", b.PID())
		if err != nil || time.Now().After(end) {
			t.Fatalf("it does not run: %v", err)
		}
		if v == "1" {
			return
		}
	}
}

// Once CancelDone has returned, no request sent before hits anything.
func TestCancelDone(t *testing.T) {
	b := connect(t, 10)
	ctx := testContext(t)
	for i := range 200 {
		sent := make(chan error, 1)
		send := b.BeginCancel()
		go func() { sent <- send(ctx) }()
		if i%2 == 0 {
			// Just as something ends.
			if _, err := b.RoundTrip(ctx, wire.AppendQuery(nil, "select pg_sleep(0.0005)")); err != nil && code(err) != "57014" {
				t.Fatal(err)
			}
		}
		if err := b.CancelDone(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := b.RoundTrip(ctx, wire.AppendQuery(nil, "select pg_sleep(0.001)")); err != nil {
			t.Fatalf("round %d: a later statement was hit: %v", i, err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

// CancelDone waits for every request begun, and fails if one's fate is unknown: it may hit any time.
func TestCancelUnknown(t *testing.T) {
	b := connect(t, 10)
	first, second := b.BeginCancel(), b.BeginCancel()
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := b.CancelDone(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with two on their way: %v", err)
	}
	ended, end := context.WithCancel(context.Background())
	end()
	if err := first(ended); err == nil {
		t.Error("a request was sent although the context had ended")
	}
	if err := second(testContext(t)); err != nil {
		t.Error(err)
	}
	if err := b.CancelDone(testContext(t)); err == nil {
		t.Error("nobody knows what became of a request, and the connection may be used again")
	}
}
