package sim

import (
	"context"
	"slices"
	"time"

	"github.com/pgweir/pgweir/internal/simpg"
)

// happen has an event happen at its time, and end. ctx ends with the last client: what was
// begun is ended all the same.
func (w *world) happen(ctx context.Context, e *Event) {
	if !wait(ctx, e.At) {
		return
	}
	w.note("-- %s %s %v %s", e.Do, e.On, e.For, e.Text)
	i := w.number(e.On)
	if i < 0 {
		w.elsewhere(e)
		return
	}
	s, host := w.model.Servers()[i], serverAddress(i)
	switch e.Do {
	case Lag:
		s.Lag(e.For)
	case Freeze:
		w.net.Freeze(host, true)
		wait(ctx, e.For)
		w.net.Freeze(host, false)
	case Reset:
		w.net.Reset(host)
	case Terminate:
		if pids := s.Sessions(); len(pids) > 0 {
			s.Terminate(pids[int(e.For)%len(pids)])
		}
	case Cancel:
		if pids := s.Sessions(); len(pids) > 0 {
			s.Cancel(pids[int(e.For)%len(pids)])
		}
	case Crash, Stop:
		if running, _ := s.Running(); !running {
			return
		}
		w.leave(s, i, e.Do)
		if s.Name == synchronous {
			w.model.Synchronous() // as an administrator would
		}
		wait(ctx, e.For)
		w.back(s, i)
	case Promote:
		w.promote(ctx, s, e)
	case Exchange:
		if w.number(e.Text) < 0 {
			return
		}
		w.net.Exchange(serverName(i), serverName(w.number(e.Text)))
		if e.For > 0 {
			wait(ctx, e.For)
			w.net.Exchange(serverName(i), serverName(w.number(e.Text)))
		}
	case Admin, Drain, Reload:
	}
}

// number is a server's place among them; -1 is none.
func (w *world) number(name string) int {
	return slices.IndexFunc(w.model.Servers(), func(s *simpg.Server) bool { return s.Name == name })
}

// elsewhere has happen what is not of one server.
func (w *world) elsewhere(e *Event) {
	switch e.Do {
	case Admin:
		if err := w.model.Exec(database, e.Text); err != nil {
			w.note("-- %v", err)
		}
	case Drain:
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		w.proxy.Shutdown(ctx)
	case Reload:
		if _, err := w.proxy.Reload(w.config(e.Next)); err != nil && !w.over() {
			w.fault("the configuration is not read again: %v", err)
		}
	case Crash, Stop, Promote, Freeze, Reset, Lag, Exchange, Terminate, Cancel:
		w.fault("there is no server %q", e.On)
	}
}

// leave has a server go.
func (w *world) leave(s *simpg.Server, i int, how Deed) {
	w.net.Refuse(serverAddress(i))
	if how == Stop {
		s.Stop()
		return
	}
	s.Crash()
	w.net.Reset(serverAddress(i))
}

// back has a server run again.
func (w *world) back(s *simpg.Server, i int) {
	s.Start()
	if err := w.open(i); err != nil {
		w.fault("%s does not come back: %v", s.Name, err)
	}
}

// unchanged is said of a primary that comes back as one though another has taken over.
const unchanged = "unchanged"

// promote has a standby take over from the primary, which crashes. It comes back as a
// standby after a while, if at all; the others follow the new one at once.
func (w *world) promote(ctx context.Context, s *simpg.Server, e *Event) {
	all := w.model.Servers()
	old := slices.IndexFunc(all, func(o *simpg.Server) bool {
		running, primary := o.Running()
		return running && primary
	})
	if running, primary := s.Running(); !running || primary || old < 0 {
		return
	}
	w.leave(all[old], old, Crash)
	s.Promote()
	w.model.Synchronous()
	for i, o := range all {
		if running, primary := o.Running(); running && !primary {
			w.leave(o, i, Crash)
			o.Follow(s)
			w.back(o, i)
		}
	}
	if e.For > 0 {
		wait(ctx, e.For)
		if e.Text != unchanged {
			all[old].Follow(s)
		}
		w.back(all[old], old)
	}
}

// wait waits for a while, and reports whether ctx did not end before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
