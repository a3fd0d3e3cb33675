package proxy

import (
	"slices"

	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/router"
)

// transaction is the transaction block as the client sees it. A block the proxy
// has answered BEGIN for, but no server knows of yet, is deferred: open, with no
// server connection held.
type transaction struct {
	open   bool
	failed bool
	// unopened: the server refused what was to open it there.
	unopened bool

	begin   string   // the BEGIN that opens it, on any server
	prelude []string // SET TRANSACTION statements to follow it
	modes   router.Modes

	steps []step // since BEGIN, oldest first

	read bool // something has read in it
	sets bool // it changed settings, perhaps, if only for itself
	hazy bool // what it set is not known
	// reported are settings it changed, whose values the server reports in the end.
	reported []string
	ddl      bool              // it changed the catalog, perhaps
	changes  freshness.Changes // on the primary, perhaps
	commits  bool              // a COMMIT AND CHAIN or the like ended a part of it
	kept     bool              // a part of it was committed: not all of it is undone

	// SET LOCAL of the proxy's settings.
	route    router.Route
	routeSet bool
	level    router.Consistency
	minLSN   lsn.LSN
}

// deferrable reports whether the proxy can answer a transaction control
// statement itself: no server takes part yet.
func (c *client) deferrable(p *router.Plan, u *unit) bool {
	if c.b != nil || u.server {
		return false
	}
	t := &c.tx
	switch p.Tx.Verb {
	case router.TxBegin:
		return !t.open
	case router.TxCommit, router.TxRollback:
		return t.open
	case router.TxSavepoint:
		return t.open && !t.failed
	case router.TxSet:
		return t.open && !t.failed && !t.inSavepoint()
	}
	return false
}

// deferTx carries out a deferrable statement and returns its command tag.
func (c *client) deferTx(p *router.Plan, text string) (tag string) {
	t := &c.tx
	switch p.Tx.Verb {
	case router.TxBegin:
		*t = transaction{open: true, begin: text, modes: p.Tx.Modes, steps: t.steps}
		if p.Tx.Start {
			return "START TRANSACTION"
		}
		return "BEGIN"
	case router.TxCommit, router.TxRollback:
		tag = "COMMIT"
		if p.Tx.Verb == router.TxRollback || t.failed {
			tag = "ROLLBACK"
		}
		if c.unread = false; tag == "COMMIT" {
			c.settings.commit()
		} else {
			c.settings.rollback()
		}
		next := transaction{}
		if p.Tx.Chain {
			next = transaction{open: true, begin: t.begin, prelude: t.prelude, modes: t.modes}
		}
		*t = next
		return tag
	case router.TxSavepoint:
		t.steps = append(t.steps, step{savepoint: true, name: p.Tx.Name, text: text, kept: c.settings.now})
		return "SAVEPOINT"
	default: // SET TRANSACTION
		t.prelude = append(t.prelude, text)
		t.modes = t.modes.With(p.Tx.Modes)
		return "SET"
	}
}

// followTx notes a transaction control statement that succeeded on a server.
func (c *client) followTx(p *router.Plan, text string) {
	t := &c.tx
	switch p.Tx.Verb {
	case router.TxBegin:
		if t.begin == "" {
			t.begin, t.modes = text, p.Tx.Modes
		}
		t.open = true
	case router.TxSet:
		t.prelude = append(t.prelude, text)
		t.modes = t.modes.With(p.Tx.Modes)
	case router.TxSavepoint:
		t.steps = append(t.steps, step{savepoint: true, name: p.Tx.Name, text: text, kept: c.settings.now})
	case router.TxCommit, router.TxRollback, router.TxPrepare:
		// AND CHAIN, if the transaction is still open.
		commit := p.Tx.Verb != router.TxRollback && !t.failed
		c.endSettings(commit)
		t.steps, t.read, t.commits, t.kept = nil, false, true, t.kept || commit
		c.undid = !commit
		if p.Tx.Verb == router.TxRollback {
			t.changes = freshness.Changes{} // they are undone
		}
		if !p.Tx.Chain {
			t.open, t.begin, t.prelude = false, "", nil
		}
	case router.TxRelease:
		if i := t.find(p.Tx.Name); i >= 0 {
			t.release(i)
		}
	case router.TxRollbackTo:
		if i := t.find(p.Tx.Name); i >= 0 {
			c.settings.now = t.steps[i].kept
			t.steps = t.steps[:i+1]
		}
	}
}

// step notes one more step. A setting set again in the same way, with no savepoint
// between, takes the place of what it was set to before: steps do not grow with the
// length of a transaction.
func (t *transaction) step(s step) {
	for i := len(t.steps) - 1; i >= 0 && s.text == "" && !t.steps[i].savepoint; i-- {
		if old := &t.steps[i]; old.text == "" && old.set.Name == s.set.Name && old.set.Local == s.set.Local {
			t.steps = slices.Delete(t.steps, i, i+1)
			break
		}
	}
	t.steps = append(t.steps, s)
}

// find is the newest living savepoint of a name.
func (t *transaction) find(name string) int {
	for i := len(t.steps) - 1; i >= 0; i-- {
		if t.steps[i].savepoint && t.steps[i].name == name {
			return i
		}
	}
	return -1
}

// release ends savepoint i and those after it; what was set since stays.
func (t *transaction) release(i int) {
	kept := t.steps[:i]
	for _, s := range t.steps[i:] {
		if !s.savepoint {
			kept = append(kept, s)
		}
	}
	t.steps = kept
}

func (t *transaction) inSavepoint() bool {
	for _, s := range t.steps {
		if s.savepoint {
			return true
		}
	}
	return false
}
