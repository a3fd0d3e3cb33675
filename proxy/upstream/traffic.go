package upstream

import "github.com/pgweir/pgweir/proxy/activity"

// Traffic is what was done for the clients of each database, as they name it, since the start.
func (dir *Directory) Traffic() map[string]activity.Totals {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	sums := make(map[string]activity.Totals, len(dir.past))
	for name, s := range dir.past {
		sums[name] = s
	}
	add := func(p *Pools) {
		s := sums[p.Key.Database]
		p.Traffic.AddTo(&s)
		sums[p.Key.Database] = s
	}
	for _, p := range dir.pools {
		add(p)
	}
	for _, p := range dir.retired {
		add(p)
	}
	return sums
}

// pastLocked keeps the traffic of Pools that are dropped. What never let anybody in had none.
func (dir *Directory) pastLocked(p *Pools) {
	var s activity.Totals
	if p.Traffic.AddTo(&s); s == (activity.Totals{}) {
		return
	}
	s = dir.past[p.Key.Database]
	p.Traffic.AddTo(&s)
	dir.past[p.Key.Database] = s
}
