package session_test

import (
	"runtime"
	"testing"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// A transaction of a pooled application: the tenant, for it only.
func BenchmarkHistorySet(b *testing.B) {
	startup := setting.From(map[string]string{"application_name": "app", "search_path": "app", "timezone": "UTC"})
	h := session.NewHistory(startup)
	set := router.Set{Name: "app.tenant", Value: "7", Local: true}
	seen := startup.With(set.Name, set.Value)
	b.ReportAllocs()
	for b.Loop() {
		h.Set(set)
		if h.Now() != seen {
			b.Fatal("another value")
		}
		h.Commit()
	}
}

func BenchmarkRan(b *testing.B) {
	plans := router.NewPlans(router.Options{})
	for name, text := range map[string]string{"SELECT 1": "SELECT 1", "SET LOCAL": "SET LOCAL app.tenant = '7'"} {
		b.Run(name, func(b *testing.B) {
			s := session.New(setting.Settings{}, setting.From(map[string]string{"application_name": "app"}), setting.Settings{})
			p := plans.Get([]byte(text))
			st := session.Executed{Plan: p, Sets: p.Sets}
			s.Ran(&st, session.Done, nil)
			s.Ready('I', false, nil)
			seen := s.Settings.Now().With("app.tenant", "7") // another session has it
			b.ReportAllocs()
			for b.Loop() {
				s.Ran(&st, session.Done, nil)
				s.Ready('I', false, nil)
			}
			runtime.KeepAlive(seen)
		})
	}
}

// What every statement of an application costs the state: nothing to collect.
func TestRanAllocatesNothing(t *testing.T) {
	s := session.New(setting.Settings{}, setting.From(map[string]string{"application_name": "app"}), setting.Settings{})
	st := session.Executed{Plan: router.NewPlans(router.Options{}).Get([]byte("SELECT 1"))}
	if n := testing.AllocsPerRun(100, func() {
		s.Ran(&st, session.Done, nil)
		s.Ready('I', false, nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
