package metrics

import (
	"sync"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/router"
)

// most bounds how many pools, and how many databases, have series of their own.
const most = 500

// other stands for the database and user of those beyond that.
const other = "other"

// bounded keeps the number of series within bounds, however many users and databases come: those
// that are there first have series of their own, the others of a server have one each together.
// What is counted in others never decreases: one stays among them until it is gone, and what it
// counted stays.
type bounded[ID comparable, V any] struct {
	together func(ID) ID        // as which one is added up with others
	plus     func(a, b V) V     // of what there is of them
	left     func(gone V) (v V) // what stays of one that is gone

	mu    sync.Mutex // protects the fields below; held while series are collected
	named map[ID]struct{}
	rest  map[ID]V // the others, as last seen
	gone  map[ID]V // what others counted that are gone, by what they are added up as
}

func newBounded[ID comparable, V any](together func(ID) ID, plus func(a, b V) V, left func(V) V) *bounded[ID, V] {
	return &bounded[ID, V]{
		together: together, plus: plus, left: left,
		named: map[ID]struct{}{}, rest: map[ID]V{}, gone: map[ID]V{},
	}
}

// collect calls show with each of those that are there, or with the sum of many.
func (b *bounded[ID, V]) collect(there map[ID]V, show func(ID, V)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(there)
	sums := map[ID]V{}
	for id, v := range there {
		_, own := b.named[id]
		if _, among := b.rest[id]; !own && !among && len(b.named) < most && b.together(id) != id {
			b.named[id], own = struct{}{}, true
		}
		if own {
			show(id, v)
			continue
		}
		b.rest[id] = v
		as := b.together(id)
		sums[as] = b.plus(sums[as], v)
	}
	for as, v := range sums {
		show(as, b.plus(v, b.gone[as]))
	}
}

// drop forgets those that are not there any more.
func (b *bounded[ID, V]) drop(there map[ID]V) {
	for id := range b.named {
		if _, is := there[id]; !is {
			delete(b.named, id)
		}
	}
	remain := map[ID]bool{}
	for id, v := range b.rest {
		as := b.together(id)
		if _, is := there[id]; is {
			remain[as] = true
			continue
		}
		delete(b.rest, id)
		b.gone[as] = b.plus(b.gone[as], b.left(v))
	}
	for as := range b.gone {
		if !remain[as] {
			delete(b.gone, as) // the series ends with the last of them
		}
	}
}

// poolID is of valid labels.
type poolID struct{ server, database, user string }

func newPools() *bounded[poolID, pool.Stats] {
	return newBounded(func(id poolID) poolID { return poolID{id.server, other, other} }, plus, func(st pool.Stats) pool.Stats {
		return pool.Stats{
			Acquired: st.Acquired, Dialled: st.Dialled, DialFailed: st.DialFailed,
			Recycled: st.Recycled, TimeoutsSeen: st.TimeoutsSeen, Refused: st.Refused, Waited: st.Waited,
		}
	})
}

func newPlans() *bounded[string, router.Stats] {
	return newBounded(func(string) string { return other }, func(a, b router.Stats) router.Stats {
		return router.Stats{
			Hits: a.Hits + b.Hits, Misses: a.Misses + b.Misses, Evictions: a.Evictions + b.Evictions,
			Failures: a.Failures + b.Failures, Entries: a.Entries + b.Entries, Bytes: a.Bytes + b.Bytes,
		}
	}, func(st router.Stats) router.Stats {
		st.Entries, st.Bytes = 0, 0
		return st
	})
}

func plus(a, b pool.Stats) pool.Stats {
	return pool.Stats{
		Size: a.Size + b.Size, Open: a.Open + b.Open, Idle: a.Idle + b.Idle, Used: a.Used + b.Used,
		Waiting: a.Waiting + b.Waiting, Dialing: a.Dialing + b.Dialing,
		Acquired: a.Acquired + b.Acquired, Dialled: a.Dialled + b.Dialled, DialFailed: a.DialFailed + b.DialFailed,
		Recycled: a.Recycled + b.Recycled, TimeoutsSeen: a.TimeoutsSeen + b.TimeoutsSeen,
		Refused: a.Refused + b.Refused, Waited: a.Waited + b.Waited,
	}
}
