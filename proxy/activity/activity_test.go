package activity

import (
	"testing"
	"testing/synctest"
	"time"
)

// A transaction counts when it ends, with all its batches; a batch in which nothing ran is none.
func TestTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Activity
		var tr Traffic
		a.Begin(100)
		written, opened := uint64(100), time.Time{}
		over := func(statements uint64, took time.Duration, open bool) {
			started := time.Now()
			time.Sleep(took)
			written += 10
			a.Over(Batch{Started: started, Took: took, Opened: opened, Statements: statements, Received: 5, Written: written}, open, &tr)
			switch {
			case !open:
				opened = time.Time{}
			case opened.IsZero():
				opened = started
			}
		}
		over(0, time.Second, false) // Parse and Sync
		over(1, time.Second, false)
		over(1, time.Second, true) // BEGIN
		time.Sleep(time.Second)
		over(2, time.Second, true)
		over(1, time.Second, false) // COMMIT
		var got Totals
		tr.AddTo(&got)
		want := Totals{
			Transactions: 2, Statements: 5, Received: 25, Sent: 50,
			InTransaction: 5 * time.Second, InStatements: 5 * time.Second,
		}
		if got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

// BenchmarkOver is what counting costs a batch.
func BenchmarkOver(b *testing.B) {
	var a Activity
	var tr Traffic
	started := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		a.Over(Batch{Started: started, Statements: 1, Received: 50, Written: 100}, false, &tr)
	}
}
