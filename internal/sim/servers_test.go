package sim

import (
	"context"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/simpg"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Suite(m).Run()) }

// Histories are played on PostgreSQL and on the model of it, without a proxy, step by step: what
// differs is a fault of the model. -sim.seed chooses one, as a failure prints it.
func TestOnServers(t *testing.T) {
	first, n := Seed(1), 12
	if *seedFlag != 0 {
		first, n = Seed(*seedFlag), 1
	}
	if testing.Short() {
		n = min(n, 2)
	}
	steps := 0
	for seed := range n {
		h := Draw(first + Seed(seed))
		s := newServers(t)
		for _, script := range h.Scripts {
			steps += s.play(t, h, &script)
		}
		s.close(t)
		if t.Failed() {
			break
		}
	}
	t.Logf("%d steps", steps)
}

// servers are PostgreSQL and the model, each with a database that has what histories begin with.
type servers struct {
	database string
	real     *pgtest.Cluster
	model    *simpg.Cluster
	serving  sync.WaitGroup
}

// Roles are the whole cluster's: they may be there.
const rolesThere = `do $$ declare r text; begin
	foreach r in array '{app login,clerk login,auditor}'::text[] loop
		begin execute 'create role ' || r; exception when duplicate_object or unique_violation then null; end;
	end loop;
end $$`

func newServers(t *testing.T) *servers {
	t.Helper()
	s := &servers{real: pgtest.Shared(t)}
	s.database = s.real.Database(t)
	var rest []string
	for line := range strings.Lines(setup) {
		if !strings.HasPrefix(line, "create role") && !strings.HasPrefix(line, "alter role") {
			rest = append(rest, line)
		}
	}
	for _, sql := range []string{rolesThere, strings.Join(rest, "")} {
		if err := s.real.Primary.Exec(t.Context(), s.database, sql); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if s.model, err = simpg.New(simpg.Options{Databases: []string{s.database}, Setup: setup, Parameters: map[string]string{"TimeZone": "UTC", "jit": "off", "synchronize_seqscans": "off"}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *servers) close(t *testing.T) {
	t.Helper()
	s.model.Close()
	s.serving.Wait()
	if err := s.real.Primary.Exec(context.Background(), s.database, "drop owned by app, clerk, auditor"); err != nil {
		t.Error(err)
	}
}

// both logs in on both sides.
func (s *servers) both(t *testing.T, script *Script) (real, model *talk) {
	t.Helper()
	params := map[string]string{"user": script.User, "database": s.database}
	maps.Copy(params, script.Options)
	conn, err := net.Dial("tcp", s.real.Primary.Addr())
	if err != nil {
		t.Fatal(err)
	}
	k := newLink("client:1", "alone:5432", 0, 1, delays{}, nil)
	k.forth.instant, k.back.instant = true, true
	s.serving.Go(func() {
		s.model.Primary().Serve(&Conn{in: k.forth, out: k.back, local: "alone:5432", remote: "client:1"})
	})
	if real, err = logIn(conn, params); err != nil {
		t.Fatal(err)
	}
	if model, err = logIn(&Conn{in: k.back, out: k.forth, local: "client:1", remote: "alone:5432"}, params); err != nil {
		t.Fatal(err)
	}
	return real, model
}

// play plays a script and returns how many of its steps.
func (s *servers) play(t *testing.T, h *History, script *Script) (steps int) {
	t.Helper()
	var real, model *talk
	leave := func() {
		if real != nil {
			real.leave()
			model.leave()
			real, model = nil, nil
		}
	}
	defer leave()
	marker := session{script: script}
	for i := range script.Steps {
		step := &script.Steps[i]
		if marker.step = i; step.Redial || step.Vanish {
			leave()
			marker.life++
			continue
		}
		if step.Cancel > 0 {
			continue // when it comes is chance
		}
		if real == nil {
			real, model = s.both(t, script)
		}
		want, err := real.exchange(step, marker.marker())
		got, err2 := model.exchange(step, marker.marker())
		if steps++; err != nil || err2 != nil || comparable(step, want) != comparable(step, got) {
			t.Errorf("seed %d, %s, step %d: %v\nPostgreSQL: %s %v\nthe model:  %s %v\nof\n%v", h.Seed, script.Name, i, step, text(want), err, text(got), err2, h)
			return steps
		}
	}
	return steps
}
