package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pgweir/pgweir/internal/simpg"
)

// listenModel has a server of the model listen on a port of its own.
func listenModel(t testing.TB, s *simpg.Server) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { s.Serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.Crash()
		serving.Wait()
	})
	return l.Addr().String()
}

// modelOf makes a model with one database in which sql has been run, with what differs
// between the test servers' configuration and PostgreSQL's defaults.
func modelOf(t testing.TB, database, sql string) *simpg.Cluster {
	t.Helper()
	// What the kernel's sockets have.
	parameters := map[string]string{"tcp_keepalives_count": "9", "tcp_keepalives_idle": "7200", "tcp_keepalives_interval": "75"}
	for _, name := range []string{"TimeZone", "DateStyle", "max_connections", "jit", "synchronize_seqscans", "timezone_abbreviations"} {
		v, err := shared(t).Primary.Value(t.Context(), database, "select current_setting('"+name+"')")
		if err != nil {
			t.Fatal(err)
		}
		parameters[name] = v
	}
	c, err := simpg.New(simpg.Options{Seed: 1, Databases: []string{database}, Setup: sql, Parameters: parameters})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestModelHistories plays the histories of TestSettingsHistories on PostgreSQL and on the
// model of it: what differs is a fault of the model.
func TestModelHistories(t *testing.T) {
	database := newDatabase(t, "")
	role := "role_" + database
	schema := strings.ReplaceAll(histSchema, "%ROLE%", role)
	run(t, database, schema)
	t.Cleanup(func() { run(t, database, "drop owned by "+role+"; drop role "+role) })
	h := &historian{t: t, database: database, size: 8, track: true, direct: shared(t).Primary.Addr()}
	var seed uint64 = 1
	if v := os.Getenv("PGWEIR_FUZZ_SEED"); v != "" {
		_, _ = fmt.Sscan(v, &seed)
	}
	steps := 0
	for n := range 60 {
		model := modelOf(t, database, schema+"; create or replace function f_new() returns text language sql as $$ select 'new' $$")
		addr := listenModel(t, model.Primary())
		g := newHistGen(rand.New(rand.NewPCG(seed, uint64(n))), role, database, h.size, true)
		g.modelled = true
		h.reset()
		begun := slices.Clone(g.options)
		w, err := openWorld(h.direct, database, begun)
		if err != nil {
			t.Fatal(err)
		}
		m, err := openWorld(addr, database, begun)
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for range 30 {
			for _, s := range g.steps(w) {
				if s.kill {
					continue
				}
				steps++
				want, err := w.do(s)
				if err != nil {
					t.Fatal(err)
				}
				got, err := m.do(s)
				if err != nil {
					got = append(got, err.Error())
				}
				told = append(told, s.String())
				if !slices.Equal(got, want) {
					t.Errorf("history %d, step %d\n%s\nPostgreSQL:\n\t%s\nthe model:\n\t%s", n, len(told), tail(told), strings.Join(want, "\n\t"), strings.Join(got, "\n\t"))
					break
				}
			}
			if t.Failed() {
				break
			}
		}
		w.close()
		m.close()
		model.Close()
		if t.Failed() {
			break
		}
	}
	t.Logf("%d steps", steps)
}

// beyondModel are scripts that have what the model has not. One that is answered alike is to
// be taken out.
var beyondModel = map[string]string{
	"copy/big frames in":                                 "how large an index's entry may be",
	"copy/out":                                           "CSV",
	"copy/copy from a file and program":                  "files",
	"copy/notices during copy":                           "COPY in the context of a notice",
	"large/a value is longer than its message":           "the words for each malformed message",
	"large/a value is shorter than its message":          "the words for each malformed message",
	"large/a message that ends before its names":         "the words for each malformed message",
	"large/a function":                                   "FunctionCall",
	"simple/function calls":                              "FunctionCall",
	"simple/a function call fails in a transaction":      "FunctionCall",
	"simple/malformed messages of the extended protocol": "the words for each malformed message",
	"simple/settings are reported":                       "dates in German style",
	"transaction/outside a transaction":                  "PREPARE TRANSACTION",
	"transaction/two phases":                             "PREPARE TRANSACTION",
}

// TestModelScripts plays the scripts of testdata/protocol on both: what differs is a fault
// of the model.
func TestModelScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/protocol/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	direct := newDatabase(t, world)
	played := 0
	for _, file := range files {
		for _, s := range readScripts(t, file) {
			name := strings.TrimSuffix(filepath.Base(file), ".txt") + "/" + s.name
			if name == "copy/in csv" {
				continue // it waits to be asked for data that the model does not ask for
			}
			t.Run(name, func(t *testing.T) {
				prepare(t, s, direct)
				want := play(t, s, shared(t).Primary.Addr(), direct, false)
				model := modelOf(t, direct, world+restore+strings.Join(s.setup, ";\n"))
				got := play(t, s, listenModel(t, model.Primary()), direct, false)
				d, why := difference(want, got), beyondModel[name]
				switch {
				case why != "" && d == "":
					t.Errorf("the model has %s by now", why)
				case why == "" && d != "":
					t.Error(strings.ReplaceAll(d, "proxy:", "model:"))
				}
				played++
			})
		}
	}
	t.Logf("%d scripts played, %d of them beyond the model", played, len(beyondModel))
}
