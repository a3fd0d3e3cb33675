// Package shadow counts what would have become of statements while all of them run on the
// primary (routing.shadow): where each would have run, why, what would have been stale on a
// replica, and what would have tied its session to a server connection.
package shadow

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/pgweir/pgweir/internal/grammar"
)

// Case is one batch, and where it would have run.
type Case struct {
	Database string // as the metrics label it
	User     string
	Text     string // of its first statement
	Place    string // "replica" or "primary"
	Reason   string
	// Stale is that no replica showed in time what was committed before it.
	Stale bool
	Pins  string // what ties, or would tie, the session to a server connection; empty for nothing
}

// Row is what is known of one statement, without its literals.
type Row struct {
	Database  string `json:"database"`
	User      string `json:"user"`
	Statement string `json:"statement"`
	Place     string `json:"place"`
	Reason    string `json:"reason"`
	Count     uint64 `json:"count"`
	Stale     uint64 `json:"stale"`
	Pins      string `json:"pins,omitempty"`
}

// Summary is a report at one moment.
type Summary struct {
	Since   time.Time `json:"since"`
	Replica uint64    `json:"replica"` // batches that would have run there
	Primary uint64    `json:"primary"`
	Stale   uint64    `json:"stale"`   // of those of replicas, at the level eventual
	Pinned  uint64    `json:"pinned"`  // batches of sessions tied to a connection
	Left    uint64    `json:"dropped"` // rows that were dropped for newer ones
	Rows    []Row     `json:"statements"`
}

// maxRows bounds the rows kept, and maxText the bytes kept of a statement.
const (
	maxRows = 5000
	maxText = 1 << 10
)

// Report collects cases in bounded memory; it goes on counting while it is read. Safe for
// concurrent use.
type Report struct {
	pending sync.WaitGroup // of Later
	slots   chan struct{}  // taken by those

	mu   sync.Mutex // protects the fields below
	sum  Summary    // without rows
	rows *simplelru.LRU[Row, *Row]
}

// maxPending bounds the cases that wait to be known.
const maxPending = 1000

// New makes an empty Report.
func New() *Report {
	r := &Report{slots: make(chan struct{}, maxPending), sum: Summary{Since: time.Now()}}
	r.rows, _ = simplelru.NewLRU(maxRows, func(Row, *Row) { r.sum.Left++ }) // fails for a size below 1 only
	return r
}

// Record counts a case.
func (r *Report) Record(c Case) {
	text := strings.Join(strings.Fields(grammar.Shape(c.Text)), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	key := Row{Database: c.Database, User: c.User, Statement: text, Place: c.Place, Reason: c.Reason, Pins: c.Pins}
	r.mu.Lock()
	defer r.mu.Unlock()
	row, ok := r.rows.Get(key)
	if !ok {
		row = new(Row)
		*row = key
		r.rows.Add(key, row)
	}
	row.Count++
	if c.Place == "replica" {
		r.sum.Replica++
	} else {
		r.sum.Primary++
	}
	if c.Stale {
		row.Stale++
		r.sum.Stale++
	}
	if c.Pins != "" {
		r.sum.Pinned++
	}
}

// Later records a case once judge has told what is not known of it yet. Nobody waits for
// that, but Close does. If too many are waited for, it is recorded as it is.
func (r *Report) Later(c Case, judge func(*Case)) {
	select {
	case r.slots <- struct{}{}:
	default:
		r.Record(c)
		return
	}
	r.pending.Go(func() {
		defer func() { <-r.slots }()
		judge(&c)
		r.Record(c)
	})
}

// Close waits for what is not recorded yet.
func (r *Report) Close() { r.pending.Wait() }

// Summary returns what was counted, the most frequent statements first.
func (r *Report) Summary() Summary {
	r.mu.Lock()
	s := r.sum
	for _, row := range r.rows.Values() {
		s.Rows = append(s.Rows, *row)
	}
	r.mu.Unlock()
	slices.SortFunc(s.Rows, func(a, b Row) int {
		return cmp.Or(-cmp.Compare(a.Count, b.Count), cmp.Compare(a.Statement, b.Statement), cmp.Compare(a.Reason, b.Reason))
	})
	return s
}

// WriteJSON writes the summary.
func (r *Report) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r.Summary()) }
