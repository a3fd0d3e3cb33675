package logs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLog(t *testing.T) {
	var out bytes.Buffer
	log := Open(config.Log{Format: "json", Level: "warn"}, &out)
	log.Info("unseen")
	log.Warn("seen", zap.String("user", "app"))
	log.Close(time.Minute)
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["msg"] != "seen" || line["user"] != "app" || line["level"] != "warn" {
		t.Errorf("%v: %s", err, out.String())
	}
	out.Reset()
	log = Open(config.Log{Format: "console", Level: "debug"}, &out)
	log.Debug("seen")
	log.Follow(config.Log{Level: "info"})
	log.Debug("unseen")
	fmt.Fprintln(log, "more")
	log.Close(time.Minute)
	if !strings.HasSuffix(out.String(), "  DEBUG  seen\nmore\n") {
		t.Errorf("%q", out.String())
	}
}

// numbered is a line of the tests.
type numbered struct {
	Msg      string
	Writer   int
	N, Lines uint64
}

// TestNobodyReads: while nobody reads, nobody waits. Then the log goes on: in order, with a word about what is missing where it is missing.
func TestNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log := Open(config.Log{Format: "json"}, w)
	const writers, each = 4, 20_000
	var done sync.WaitGroup
	for i := range writers {
		done.Go(func() {
			for n := range each {
				log.Info("line", zap.Int("writer", i), zap.Int("n", n), zap.String("text", strings.Repeat("x", 100)))
			}
		})
	}
	done.Wait()
	dropped := log.Dropped()
	if dropped == 0 || dropped >= writers*each {
		t.Errorf("%d lines were dropped", dropped)
	}
	if err := log.Sync(); err == nil {
		t.Error("flushed, though nobody reads")
	}
	read := make(chan []numbered)
	go func() {
		var all []numbered
		for in := bufio.NewScanner(r); in.Scan(); {
			var l numbered
			if err := json.Unmarshal(in.Bytes(), &l); err != nil {
				t.Errorf("%v: %s", err, in.Bytes())
			}
			all = append(all, l)
		}
		read <- all
	}()
	for log.Sync() != nil { // it is much
	}
	log.Info("after")
	log.Close(time.Minute)
	_ = w.Close()
	all := <-read
	if n := uint64(len(all)); n != writers*each-dropped+2 {
		t.Errorf("%d lines, of which %d were dropped", n, dropped)
	}
	if told := all[len(all)-2]; !strings.HasPrefix(told.Msg, "lines of this log were dropped") || told.Lines != dropped || all[len(all)-1].Msg != "after" {
		t.Errorf("at the end: %+v", all[len(all)-2:])
	}
	next := [writers]uint64{}
	for _, l := range all[:len(all)-2] {
		if l.N < next[l.Writer] {
			t.Fatalf("out of order: %+v", l)
		}
		next[l.Writer] = l.N + 1
	}
}

// TestCloseDoesNotWaitForReaders: what cannot be written is left.
func TestCloseDoesNotWaitForReaders(t *testing.T) {
	r, w := io.Pipe()
	log := Open(config.Log{Format: "json"}, w)
	log.Info("unread")
	log.Close(10 * time.Millisecond)
	log.Info("late")
	if log.Dropped() != 1 {
		t.Errorf("%d lines were dropped", log.Dropped())
	}
	_ = r.Close()
	<-log.queue.ended
}

// broken fails while it is told to.
type broken struct {
	mu  sync.Mutex
	err error
	out bytes.Buffer
}

func (b *broken) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	return b.out.Write(p)
}

func (b *broken) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// TestFailingWrites: what a write fails for is a dropped line, told of once one goes through.
func TestFailingWrites(t *testing.T) {
	w := &broken{err: io.ErrClosedPipe}
	log := Open(config.Log{Format: "json"}, w)
	for range 3 {
		log.Info("lost")
		_ = log.Sync()
	}
	w.fail(nil)
	log.Info("written")
	_ = log.Sync()
	log.Close(time.Minute)
	if got := w.out.String(); log.Dropped() != 3 || strings.Count(got, "\n") != 2 || !strings.Contains(got, `"written"`) || !strings.Contains(got, `"lines":3`) {
		t.Errorf("%d dropped: %s", log.Dropped(), got)
	}
}

// TestWriteAllocates nothing once the buffers are there.
func TestWriteAllocates(t *testing.T) {
	q := newQueue(io.Discard)
	q.start(func(uint64) {})
	line := []byte(strings.Repeat("x", 200) + "\n")
	if n := testing.AllocsPerRun(1000, func() {
		_, _ = q.Write(line)
	}); n > 0 {
		t.Errorf("%v allocations a line", n)
	}
	q.close(time.Minute)
}
