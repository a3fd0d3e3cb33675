package client

import (
	"sync"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/tracing"
	"github.com/pgweir/pgweir/router"
)

// work is the answering of one batch: what the client asked, what is tried for it now,
// and what earlier tries have taught. It is borrowed while there is one.
type work struct {
	c       *Client
	batch   batch.Batch
	names   session.Overlay // as the batch sees them
	preview session.State   // used by analysis
	before  before          // what the session was when its first attempt began
	try     attempt
	learned lessons
	spans   *tracing.Batch // nil if nothing of it is traced
	reply   []byte         // for the client, not yet written
	// statements is how many ran, took until the last of them was answered.
	statements uint64
	took       time.Duration
}

// attempt is one try: the zero value each time, but for its memory.
type attempt struct {
	batch.Attempt
	decision router.Decision
	would    router.Target  // where it would run, if it did not run in the shadow
	required cluster.Moment // the freshness a replica must have
	level    router.Consistency

	definitions uint64 // of the database, when it began

	flow   flow
	fate   fate
	trace  bool // the client is told where it ran
	pass   int  // bytes of a message begun that pass unseen
	status byte // of the last ReadyForQuery
	// rowBytes are those of the rows of the statement that is answered now.
	rowBytes uint64
	late     []byte // that, if the client is to have it once more is done: startup settings, its own notifications
	// redefined counts how often it was recorded to have redefined something in the catalog.
	redefined uint64
	// written is told how the writer of a long batch ended; nil if there is none.
	written chan error
}

// flow is what becomes of the answer to an attempt as it comes.
type flow uint8

const (
	passedOn        flow = iota
	heldBack             // nothing was written to the client, and nothing shall be until it is sure
	copying              // so far it asks for COPY data, which is on its way from the client
	copyingPastSync      // behind a Sync that the COPY ignores, unless it fails before it reads
)

// sure says that the answer is the one the client shall have.
func (t *attempt) sure() {
	if t.flow == heldBack {
		t.flow = passedOn
	}
}

// fate is whether the server refused anything of an attempt.
type fate uint8

const (
	succeeded fate = iota
	failed
	unopened // what failed was to open the transaction there
)

func (t *attempt) failed() bool { return t.fate != succeeded }

// undidTaken reports whether the failure undid what the connection had taken over, too.
func (t *attempt) undidTaken() bool { return t.failed() && t.Takes == batch.TakesWithin }

// lessons are what failed attempts have taught for the next one.
type lessons uint8

const (
	onPrimary      lessons = 1 << iota // only the primary will do
	prepareAnew                        // prepared statements are prepared anew
	trustNothing                       // servers are going away: no connection is used unseen
	replicaRefused                     // a replica refused it as a write
)

func (l lessons) has(want lessons) bool { return l&want == want }

var works = sync.Pool{New: func() any { return new(work) }}

func takeWork(c *Client) *work {
	w := works.Get().(*work)
	w.c = c
	return w
}

func putWork(w *work) {
	w.c, w.spans = nil, nil
	w.batch.Reset()
	w.names.Reset(nil)
	w.try.reset()
	w.learned, w.statements, w.took = 0, 0, 0
	w.preview = session.State{}
	w.before = before{}
	if w.reply = w.reply[:0]; cap(w.reply) > batch.Keep {
		w.reply = nil
	}
	works.Put(w)
}

//go:noinline // it holds a second one on the stack
func (t *attempt) reset() {
	t.Attempt.Reset()
	*t = attempt{Attempt: t.Attempt}
}

// Canned answers.
var (
	parseComplete = []byte{wire.ParseComplete, 0, 0, 0, 4}
	bindComplete  = []byte{wire.BindComplete, 0, 0, 0, 4}
	closeComplete = []byte{wire.CloseComplete, 0, 0, 0, 4}
	flushFrame    = []byte{wire.Flush, 0, 0, 0, 4}
)

// bytes are those of the batch, in the client's buffer: none once they were taken out
// of it for copy data, which another goroutine reads then.
func (w *work) bytes() []byte {
	if w.batch.Size == 0 {
		return nil
	}
	return w.c.front.Buffered()[:w.batch.Size]
}

// flush writes what is pending for the client. That ends within a message if bytes of one
// are yet to pass.
func (w *work) flush() error {
	if len(w.reply) == 0 {
		return nil
	}
	err := w.c.write(w.reply)
	if w.reply = w.reply[:0]; w.try.pass > 0 {
		w.c.stands = torn
	}
	return err
}

// write writes whole messages to the client, or the rest of one. If the client is gone,
// having perhaps a part, nobody is told anything: the batch is answered to its end all the
// same, so that its server connection comes back clean, and the session ends then.
func (c *Client) write(p []byte) error {
	if c.interrupt.Vanished() {
		return nil
	}
	_, err := c.front.Write(p)
	switch {
	case err == nil && c.stands == torn:
		c.stands = inStep
	case err != nil:
		c.stands = torn
		if c.ctx.Err() != nil {
			return &interrupt.ClientGone{Err: err}
		}
		c.interrupt.Vanish()
	}
	return nil
}

// textOf is the text that a message runs, as far as it is at hand.
func (w *work) textOf(m *batch.Message) []byte {
	return w.batch.Text(m, w.bytes(), &w.c.names.Unnamed)
}
