package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestAppendLog(t *testing.T) {
	// Lines of pgbench 15, the last with the columns of --rate and --max-tries.
	const text = "0 1 1034 0 1795381200 250000\n" +
		"1 1 96 0 1795381200 250100\n" +
		"0 2 88 0 1795381201 7 12 0\n"
	want := []transaction{
		{end: 1795381200250000, took: 1034},
		{end: 1795381200250100, took: 96},
		{end: 1795381201000007, took: 88},
	}
	got, err := appendLog(nil, iotest.OneByteReader(strings.NewReader(text)))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"0 1 failed 0 1795381200 250000\n", "0 1 5\n", "\n"} {
		if _, err := appendLog(nil, strings.NewReader(bad)); err == nil {
			t.Errorf("line %q is no error", bad)
		}
	}
}

// at is a point of a run that began at second 1000.
func at(ms int64) int64 { return 1000*1e6 + ms*1000 }

func readAt(ms int64, value float64) reading {
	return reading{time.UnixMicro(at(ms)), value}
}

func TestSummarise(t *testing.T) {
	var txs []transaction
	for ms := int64(1); ms <= 1000; ms++ { // one each millisecond, of 1 ms
		txs = append(txs, transaction{end: at(ms), took: 1000})
	}
	txs[699].took = 9000 // the one slow one that is counted
	readings := []reading{
		readAt(-50, 7), // before the load
		readAt(150, 1000),
		readAt(505, 5000), // the first that counts
		readAt(750, 6000),
		readAt(995, 5000+490*14),
		readAt(1010, 1e9), // after it
	}
	got, err := summarise(txs, readings, 500*time.Millisecond, 7)
	want := figures{tps: 1000, p50: 1000, p99: 1000, cost: 2}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestSummariseTooShort(t *testing.T) {
	txs := []transaction{{end: at(10), took: 1000}, {end: at(900), took: 1000}}
	for name, c := range map[string]struct {
		txs      []transaction
		readings []reading
	}{
		"no transaction":             {nil, []reading{readAt(600, 1), readAt(700, 2)}},
		"one reading inside":         {txs, []reading{readAt(600, 1), readAt(950, 2)}},
		"no transaction in the time": {txs, []reading{readAt(600, 1), readAt(700, 2)}},
	} {
		if _, err := summarise(c.txs, c.readings, 500*time.Millisecond, 1); !errors.Is(err, errTooShort) {
			t.Errorf("%s: error %v, want %v", name, err, errTooShort)
		}
	}
}

func TestFailedTransactions(t *testing.T) {
	const out = "transaction type: <builtin: select only>\n" +
		"number of transactions actually processed: 812\n" +
		"number of failed transactions: 3 (0.368%)\nlatency average = 1.2 ms\n"
	if got := failedTransactions(out); got != "3" {
		t.Errorf("got %s, want 3", got)
	}
	if got := failedTransactions("tps = 100\n"); got != "0" {
		t.Errorf("got %s, want 0", got)
	}
}

func TestBrief(t *testing.T) {
	const out = "pgbench (15.18)\npgbench: error: client 3 aborted\npgbench: error: client 4 aborted\n" +
		"pgbench: error: Run was aborted\n"
	if got, want := brief(out), "pgbench: error: client 3 aborted; pgbench: error: client 4 aborted"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
