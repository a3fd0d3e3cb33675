package proxy

import (
	"sync"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// work is the answering of one batch: what the client asked, what is tried for it now,
// and what earlier tries have taught. It is borrowed while there is one.
type work struct {
	batch   batch.Batch
	names   session.Overlay // as the batch sees them
	preview session.State   // used by analysis
	try     attempt
	learned lessons
	answer  []byte // for the client, not yet written
	copying bool   // COPY data is on its way from the client
}

// attempt is one try: the zero value each time, but for its memory.
type attempt struct {
	batch.Attempt
	decision router.Decision
	required cluster.Moment // the freshness a replica must have
	level    router.Consistency

	hold        bool   // nothing was written to the client, and nothing shall be until it is sure
	trace       bool   // the client is told where it ran
	failed      bool   // the server refused something
	unopened    bool   // and that was what opens the transaction there
	syncIgnored bool   // a Sync was sent that a COPY ignores, unless it fails before it reads
	pass        int    // bytes of a message begun that pass unseen
	status      byte   // of the last ReadyForQuery
	late        []byte // that, if the client is to have it once startup settings are restored
	ddl         uint64 // how often it was recorded to have changed the catalog
}

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

// keep bounds what a work given back may hold on to.
const keep = 64 << 10

func takeWork() *work { return works.Get().(*work) }

func putWork(w *work) {
	w.batch.Reset()
	w.names.Reset(nil)
	w.try.reset()
	w.learned, w.copying, w.preview = 0, false, session.State{}
	if w.answer = w.answer[:0]; cap(w.answer) > keep {
		w.answer = nil
	}
	works.Put(w)
}

func (t *attempt) reset() {
	t.Attempt.Reset()
	*t = attempt{Attempt: t.Attempt}
}

// Canned answers.
var (
	parseComplete = []byte{wire.ParseComplete, 0, 0, 0, 4}
	bindComplete  = []byte{wire.BindComplete, 0, 0, 0, 4}
	closeComplete = []byte{wire.CloseComplete, 0, 0, 0, 4}
	noData        = []byte{wire.NoData, 0, 0, 0, 4}
	noParameters  = []byte{wire.ParameterDescription, 0, 0, 0, 6, 0, 0}
	flushFrame    = []byte{wire.Flush, 0, 0, 0, 4}
)

// lostError is that the client is gone.
type lostError struct{ err error }

func (e *lostError) Error() string { return "client is gone: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// flush writes what is pending for the client.
func (c *client) flush(w *work) error {
	if len(w.answer) == 0 {
		return nil
	}
	err := c.write(w.answer)
	w.answer = w.answer[:0]
	return err
}

// write writes to the client. If it fails the client is gone, having perhaps a part.
func (c *client) write(p []byte) error {
	if _, err := c.front.Write(p); err != nil {
		c.torn = true
		return &lostError{err}
	}
	return nil
}
