package metrics

import (
	"sync"

	"github.com/pgweir/pgweir/pool"
)

// mostPools bounds how many pools have series of their own.
const mostPools = 500

// other stands for the database and user of the pools beyond that.
const other = "other"

// pools keep the number of series within bounds, however many users come: those that are there
// first have series of their own, the others of a server have one each together. What is counted
// in others never decreases: a pool stays among them until it is gone, and what it counted stays.
type pools struct {
	mu    sync.Mutex // protects the fields below; held while pools are collected
	named map[poolID]struct{}
	rest  map[poolID]pool.Stats // the others, as last seen
	gone  map[string]pool.Stats // what others counted that are gone, by server
}

type poolID struct{ server, database, user string }

// collect calls show with every pool of each, or with the sum of many.
func (ps *pools) collect(each func(func(Pool)), show func(Pool)) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	there := map[poolID]pool.Stats{}
	each(func(p Pool) { there[poolID{p.Server, p.Database, p.User}] = p.Stats })
	ps.drop(there)
	sums := map[string]pool.Stats{}
	for id, st := range there {
		_, own := ps.named[id]
		if _, among := ps.rest[id]; !own && !among && len(ps.named) < mostPools {
			ps.named[id], own = struct{}{}, true
		}
		if own {
			show(Pool{id.server, id.database, id.user, st})
			continue
		}
		ps.rest[id] = st
		sums[id.server] = plus(sums[id.server], st)
	}
	for server, st := range sums {
		show(Pool{server, other, other, plus(st, ps.gone[server])})
	}
}

// drop forgets the pools that are not there any more.
func (ps *pools) drop(there map[poolID]pool.Stats) {
	if ps.named == nil {
		ps.named, ps.rest, ps.gone = map[poolID]struct{}{}, map[poolID]pool.Stats{}, map[string]pool.Stats{}
	}
	for id := range ps.named {
		if _, is := there[id]; !is {
			delete(ps.named, id)
		}
	}
	left := map[string]bool{}
	for id, st := range ps.rest {
		if _, is := there[id]; is {
			left[id.server] = true
			continue
		}
		delete(ps.rest, id)
		counts := pool.Stats{
			Acquired: st.Acquired, Dialled: st.Dialled, DialFailed: st.DialFailed,
			Recycled: st.Recycled, TimeoutsSeen: st.TimeoutsSeen, Refused: st.Refused, Waited: st.Waited,
		}
		ps.gone[id.server] = plus(ps.gone[id.server], counts)
	}
	for server := range ps.gone {
		if !left[server] {
			delete(ps.gone, server) // the series ends with its last pool
		}
	}
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
