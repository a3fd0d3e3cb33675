package proxy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// freshnessCluster has replicas of its own, which tests hold up.
func freshnessCluster(t *testing.T, conf map[string]string) (*pgtest.Cluster, *service) {
	t.Helper()
	cluster := pgtest.New(t, pgtest.Options{Replicas: 2, Conf: conf})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := cluster.Exec(ctx, "create table r(id int primary key, v int); insert into r select i, 0 from generate_series(0, 9) i"); err != nil {
		t.Fatal(err)
	}
	if err := cluster.WaitReplay(ctx); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Listen, cfg.HTTP = config.Addresses{freeAddress(t)}, ""
	for _, s := range cluster.Servers() {
		cfg.Servers = append(cfg.Servers, config.Server{Address: s.Addr(), Weight: 1})
	}
	cfg.ServerTLS.Mode, cfg.Service.User, cfg.Auth.Method = "disable", pgtest.Superuser, "trust"
	return cluster, startConfig(t, cfg)
}

func connectTo(t *testing.T, s *service) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, "postgres://postgres@"+s.addr+"/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestFailedPipelineStays: what a pipeline set that failed on a replica before its Sync is undone,
// though the replica is no longer fresh enough when the Sync comes.
func TestFailedPipelineStays(t *testing.T) {
	cluster, s := freshnessCluster(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	writer, a := connectTo(t, s), raw(t, s.addr, "postgres")
	reads := func() float64 { return s.metric(t, "pgweir_statements_total", "target=replica", "reason=read") }
	a.query("set pgweir.consistency = 'strong'")
	until(t, "a replica reads", func() bool { a.query("select v from r where id = 1"); return reads() > 0 })
	for _, r := range cluster.Replicas {
		must(t, r.PauseReplay(ctx))
	}
	a.send(&pgproto3.Parse{Query: "select set_config('app.a', 'undone', false)"}, &pgproto3.Bind{}, &pgproto3.Execute{},
		&pgproto3.Parse{Query: "fetch 1 from c"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Flush{})
	a.wait("E")
	_, err := writer.Exec(ctx, "update r set v = 1 where id = 1")
	must(t, err)
	a.send(&pgproto3.Sync{})
	a.wait("Z")
	if got := a.query("select current_setting('app.a', true)"); slices.Contains(got, `D "undone"`) {
		t.Errorf("%q: what failed was kept", got)
	}
}

// TestReadsSeeCommits pauses replay: what one session commits, it and every other
// session reads, on the primary then. When replay goes on the replicas read again.
func TestReadsSeeCommits(t *testing.T) {
	cluster, s := freshnessCluster(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	writer, reader := connectTo(t, s), connectTo(t, s)
	replicaReads := func() float64 { return s.metric(t, "pgweir_statements_total", "target=replica", "reason=read") }
	read := func(conn *pgx.Conn, want int) {
		t.Helper()
		var v int
		if err := conn.QueryRow(ctx, "select v from r where id = 1").Scan(&v); err != nil || v != want {
			t.Fatalf("read %d, %v; want %d", v, err, want)
		}
	}
	until(t, "a replica reads", func() bool { read(reader, 0); return replicaReads() > 0 })
	for _, r := range cluster.Replicas {
		if err := r.PauseReplay(ctx); err != nil {
			t.Fatal(err)
		}
	}
	writes := map[string]func(v int) error{
		"autocommit": func(v int) error {
			_, err := writer.Exec(ctx, "update r set v = $1 where id = 1", v)
			return err
		},
		"simple": func(v int) error {
			_, err := writer.PgConn().Exec(ctx, fmt.Sprintf("update r set v = %d where id = 1", v)).ReadAll()
			return err
		},
		"transaction": func(v int) error {
			return pgx.BeginFunc(ctx, writer, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "update r set v = $1 where id = 1", v)
				return err
			})
		},
		"read, then write": func(v int) error {
			return pgx.BeginFunc(ctx, writer, func(tx pgx.Tx) error {
				var old int
				if err := tx.QueryRow(ctx, "select v from r where id = 1").Scan(&old); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, "update r set v = $1 where id = 1", v)
				return err
			})
		},
		"several in one string": func(v int) error {
			_, err := writer.PgConn().Exec(ctx, fmt.Sprintf("begin; update r set v = %d where id = 1; commit", v)).ReadAll()
			return err
		},
		"a function called by SELECT": func(v int) error {
			_, err := writer.Exec(ctx, "select set_r($1)", v)
			return err
		},
		"batch": func(v int) error {
			b := &pgx.Batch{}
			b.Queue("select 1")
			b.Queue("update r set v = $1 where id = 1", v)
			return writer.SendBatch(ctx, b).Close()
		},
	}
	if _, err := writer.Exec(ctx, "create function set_r(x int) returns int language sql as 'update r set v = x where id = 1 returning v'"); err != nil {
		t.Fatal(err)
	}
	v := 0
	for name, write := range writes {
		v++
		if err := write(v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Log(name)
		read(writer, v)
		read(reader, v)
	}
	for _, r := range cluster.Replicas {
		if err := r.ResumeReplay(ctx); err != nil {
			t.Fatal(err)
		}
	}
	before := replicaReads()
	until(t, "replicas read again", func() bool { read(reader, v); return replicaReads() > before })
}

// TestNoStaleReads runs writers and readers against replicas that lag by a random
// apply delay: a register never goes back, and nobody reads less than what was
// acknowledged before its read began.
func TestNoStaleReads(t *testing.T) {
	_, s := freshnessCluster(t, map[string]string{"recovery_min_apply_delay": "20ms"})
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	var mu sync.Mutex // protects acknowledged
	acknowledged := [10]int{}
	var g errgroup.Group
	for i := range 10 {
		conn := connectTo(t, s)
		g.Go(func() error {
			for v := 1; ctx.Err() == nil; v++ {
				if _, err := conn.Exec(ctx, "update r set v = $1 where id = $2", v, i); err != nil {
					return ignoreEnd(ctx, err)
				}
				mu.Lock()
				acknowledged[i] = v
				mu.Unlock()
				time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
			}
			return nil
		})
	}
	for range 8 {
		conn := connectTo(t, s)
		g.Go(func() error {
			for ctx.Err() == nil {
				i := rand.IntN(10)
				mu.Lock()
				least := acknowledged[i]
				mu.Unlock()
				var v int
				if err := conn.QueryRow(ctx, "select v from r where id = $1", i).Scan(&v); err != nil {
					return ignoreEnd(ctx, err)
				}
				if v < least {
					return fmt.Errorf("register %d: read %d after %d was acknowledged", i, v, least)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	onReplica := s.metric(t, "pgweir_statements_total", "target=replica")
	onPrimary := s.metric(t, "pgweir_statements_total", "target=primary", "reason=freshness")
	t.Logf("reads on replicas: %.0f, on the primary for freshness: %.0f", onReplica, onPrimary)
	if onReplica == 0 {
		t.Error("no read ran on a replica")
	}
}

// ignoreEnd forgives what the end of the test's time breaks off.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
