package sim

import (
	"testing"
	"time"
)

// Histories that showed a fault of the proxy once are played under several seeds, and show
// none any more.
func TestFormerFaults(t *testing.T) {
	plain := Knobs{PoolSize: 2, Consistency: "database", Delay: time.Millisecond}
	slow := plain
	slow.Delay, slow.Replicas = 5*time.Millisecond, 2
	for name, h := range map[string]History{
		"a cancel request while a connection is dialled": {Knobs: slow, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{{Simple: "select '%m', pg_sleep(0.05)", Cancel: 3 * time.Millisecond}}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range Seed(10) {
				h.Seed = seed
				judge(t, &h)
			}
		})
	}
}
