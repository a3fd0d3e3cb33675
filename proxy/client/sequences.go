package client

import (
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/router"
)

// What sequences gave to a session only the server process knows that it drew on, and it tells
// whoever asks. So a connection notes whose draws it has: a session that may ask has others'
// forgotten before it draws, and keeps the connection for the question if it is likely to come
// (upstream.Expectation). Where another has drawn since, the answer is 55000, as for one who
// never drew.
// https://www.postgresql.org/docs/current/functions-sequence.html

// drawing is what a batch means for that.
type drawing struct{ *work }

// foreseen takes in what comes of what the connection was held for.
func (d drawing) foreseen() {
	l := &d.c.lease
	if l.asked == nil || d.c.state.Tx.Phase.InBlock() || l.midBatch() || !d.batch.Runs() {
		return
	}
	if d.batch.AsksForSequences() {
		l.asked.Asked()
	} else {
		l.asked.Missed()
	}
	if l.asked = nil; d.batch.Draws() == nil {
		d.c.release()
	}
}

// begins has what others drew on the connection forgotten, if the batch asks or what it draws
// may be asked for.
func (d drawing) begins() {
	l, p := &d.c.lease, d.batch.Draws()
	if p == nil || l.onReplica() || l.b.Drawn() == d.c.who.id || d.c.state.Tx.Phase.Failed() {
		return
	}
	l.b.NoteDrawn(0)
	asks := d.batch.AsksForSequences()
	if asks && d.c.drew != nil {
		d.c.drew.Asked() // in vain this time
	}
	t := &d.try
	early := t.Opens() && !d.batch.TakesSnapshot() // within its transaction it would take the snapshot
	may := p.MayAsk() || p.Flags.Has(router.FlagDraws) || d.c.up.Sequences.Expect(p).Likely()
	if forgets := asks || may && (early || d.batch.TakesSnapshot()); !forgets {
		return
	}
	t.Drops |= batch.Sequences
	alone := (d.leavesBlock() || !d.batch.Plain() && !d.batch.Traits.Has(batch.Resumes)) && !t.Opens() && !d.c.state.Tx.Phase.InBlock() && !l.midBatch()
	if t.Takes == batch.TakesNothing && (early || alone) {
		t.Takes, t.Carries = acquisition(d).ahead(), l.b.Settings()
	}
}

// drew takes in that the batch has drawn, or may have.
func (d drawing) drew() {
	l, p := &d.c.lease, d.batch.Draws()
	if p == nil || !l.held() || l.onReplica() {
		return
	}
	if d.try.Drops&batch.Sequences != 0 {
		l.b.NoteDrawn(d.c.who.id)
	}
	e := d.c.up.Sequences.Expect(p)
	d.c.drew = e
	if e.Likely() && l.b.Drawn() == d.c.who.id {
		l.asked = e
	}
}
