package pgtest

import (
	"context"
	"flag"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestSharedReplicates(t *testing.T) {
	c, ctx := Shared(t), testContext(t)
	db := c.Database(t)
	require.NoError(t, c.Primary.Exec(ctx, db, "create table n (i int); insert into n values (1), (2)"))
	require.NoError(t, c.WaitReplay(ctx))
	require.Len(t, c.Replicas, 2)
	for _, r := range c.Replicas {
		v, err := r.Value(ctx, db, "select sum(i) from n")
		require.NoError(t, err)
		require.Equal(t, "3", v)
		recovering, err := r.Value(ctx, db, "select pg_is_in_recovery()")
		require.NoError(t, err)
		require.Equal(t, "t", recovering)
	}
	require.ErrorContains(t, c.Replicas[0].Exec(ctx, db, "insert into n values (3)"), "25006")
}

// skipper is a test that notes that it was skipped.
type skipper struct {
	TB
	skipped bool
}

func (s *skipper) Skip(...any) {
	s.skipped = true
	runtime.Goexit()
}

// TestShort: with -short no server is started, and who asks for one otherwise than
// by New and Shared is told what to do.
func TestShort(t *testing.T) {
	was := flag.Lookup("test.short").Value.String()
	require.NoError(t, flag.Set("test.short", "true"))
	defer func() { require.NoError(t, flag.Set("test.short", was)) }()
	_, err := Start(testContext(t), Options{})
	require.ErrorContains(t, err, "SkipShort")
	for name, f := range map[string]func(TB){
		"New":    func(t TB) { New(t, Options{}) },
		"Shared": func(t TB) { Shared(t) },
	} {
		s := &skipper{TB: t}
		var wg sync.WaitGroup
		wg.Go(func() { f(s) })
		wg.Wait()
		require.True(t, s.skipped, name)
	}
}

func TestDatabasesDiffer(t *testing.T) {
	c := Shared(t)
	require.NotEqual(t, c.Database(t), c.Database(t))
}

func TestConnString(t *testing.T) {
	c, ctx := Shared(t), testContext(t)
	db := c.Database(t)
	conn, err := pgx.Connect(ctx, c.Replicas[1].ConnString(db, Superuser))
	require.NoError(t, err)
	defer conn.Close(ctx)
	var name, database string
	require.NoError(t, conn.QueryRow(ctx, "select current_setting('cluster_name'), current_database()").Scan(&name, &database))
	require.Equal(t, []string{"replica2", db}, []string{name, database})
}

func TestPauseReplay(t *testing.T) {
	c, ctx := New(t, Options{Replicas: 2}), testContext(t)
	slow, quick := c.Replicas[0], c.Replicas[1]
	require.NoError(t, c.Exec(ctx, "create table n (i int)"))
	require.NoError(t, c.WaitReplay(ctx))
	require.NoError(t, slow.PauseReplay(ctx))
	require.NoError(t, c.Exec(ctx, "insert into n values (1)"))
	require.NoError(t, c.WaitReplayOn(ctx, quick))
	count := func(s *Server) string {
		v, err := s.Value(ctx, "postgres", "select count(*) from n")
		require.NoError(t, err)
		return v
	}
	require.Equal(t, []string{"0", "1"}, []string{count(slow), count(quick)})
	require.NoError(t, slow.ResumeReplay(ctx))
	require.NoError(t, c.WaitReplay(ctx))
	require.Equal(t, "1", count(slow))
}

func TestCrashPromoteFollow(t *testing.T) {
	c, ctx := New(t, Options{Replicas: 2}), testContext(t)
	require.NoError(t, c.Exec(ctx, "create table n (i int); insert into n values (1)"))
	require.NoError(t, c.WaitReplay(ctx))

	require.NoError(t, c.Primary.Kill())
	require.Zero(t, c.Primary.PID())
	require.Empty(t, processesIn(c.Primary.DataDir))

	next, other := c.Replicas[0], c.Replicas[1]
	require.NoError(t, next.Promote(ctx))
	require.NoError(t, next.Exec(ctx, "postgres", "insert into n values (2)"))
	require.NoError(t, other.Follow(ctx, next))
	require.NoError(t, other.waitTrue(ctx, "select count(*) = 2 from n"))

	port := c.Primary.Port
	require.NoError(t, c.Primary.Start(ctx))
	require.Equal(t, port, c.Primary.Port)
	v, err := c.Primary.Value(ctx, "postgres", "select count(*) from n")
	require.NoError(t, err)
	require.Equal(t, "1", v)
}

func TestStopModesAndRestart(t *testing.T) {
	c, ctx := New(t, Options{}), testContext(t)
	for _, mode := range []StopMode{Smart, Fast, Immediate} {
		before := c.Primary.PID()
		require.NoError(t, c.Primary.Restart(ctx, mode))
		require.NotEqual(t, before, c.Primary.PID())
		require.NoError(t, c.Exec(ctx, "select 1"))
	}
	c.Primary.Freeze()
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	require.Error(t, c.Exec(short, "select 1"))
	c.Primary.Thaw()
	require.NoError(t, c.Exec(ctx, "select 1"))
}

func TestTLSAndHBA(t *testing.T) {
	c, ctx := New(t, Options{TLS: true, HBA: []string{"hostssl all all 127.0.0.1/32 cert"}}), testContext(t)
	require.NoError(t, c.Exec(ctx, "create role ann login"))
	cert, key, err := c.ClientCert("ann")
	require.NoError(t, err)

	verify := " sslmode=verify-full sslrootcert=" + c.CA()
	conn, err := pgx.Connect(ctx, c.Primary.ConnString("postgres", "ann")+verify+" sslcert="+cert+" sslkey="+key)
	require.NoError(t, err)
	require.NoError(t, conn.Close(ctx))

	_, err = pgx.Connect(ctx, c.Primary.ConnString("postgres", "ann")+verify)
	require.ErrorContains(t, err, "28000")
	_, err = pgx.Connect(ctx, c.Primary.ConnString("postgres", "ann")+" sslmode=disable")
	require.ErrorContains(t, err, "28000")
}

func TestOptions(t *testing.T) {
	var steps []string
	dir, err := os.MkdirTemp("/tmp", "pgt-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	c, ctx := New(t, Options{
		Dir: dir, Fresh: true, Replicas: 1, Sync: true,
		Conf:     map[string]string{"work_mem": "5MB", "application_name": "it's"},
		Progress: func(s string) { steps = append(steps, s) },
	}), testContext(t)
	require.True(t, strings.HasPrefix(c.Dir, dir+"/"))
	require.NotEmpty(t, steps)
	for sql, want := range map[string]string{
		"select current_setting('work_mem')":           "5MB",
		"select sync_state from pg_stat_replication":   "quorum",
		"select pg_is_in_recovery()":                   "f",
		"select count(*) from pg_stat_wal_receiver":    "0",
		"select current_setting('server_version_num')": c.Primary.mustVersionNum(t),
	} {
		v, err := c.Primary.Value(ctx, "postgres", sql)
		require.NoError(t, err)
		require.Equal(t, want, v, sql)
	}
	id := "select system_identifier from pg_control_system()"
	own, err := c.Primary.Value(ctx, "postgres", id)
	require.NoError(t, err)
	common, err := Shared(t).Primary.Value(ctx, "postgres", id)
	require.NoError(t, err)
	require.NotEqual(t, common, own)
}

func (s *Server) mustVersionNum(t *testing.T) string {
	v, err := s.Value(testContext(t), "postgres", "show server_version_num")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(v, s.Version), "%s runs as version %s", v, s.Version)
	return v
}

func TestEveryVersionStarts(t *testing.T) {
	ctx := testContext(t)
	versions := Versions(ctx)
	require.NotEmpty(t, versions)
	for _, v := range versions {
		t.Run(v, func(t *testing.T) {
			c := New(t, Options{Version: v, Replicas: 1})
			require.NoError(t, c.WaitReplay(ctx))
			got, err := c.Replicas[0].Value(ctx, "postgres", "show server_version")
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(got, v), got)
		})
	}
}

func TestMissingVersion(t *testing.T) {
	SkipShort(t)
	_, err := Start(testContext(t), Options{Version: "7"})
	require.ErrorContains(t, err, "make deps")
}

func TestStartFailureShowsTheLogAndLeavesNothing(t *testing.T) {
	SkipShort(t)
	dir, err := os.MkdirTemp("/tmp", "pgt-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	_, err = Start(testContext(t), Options{Dir: dir, Conf: map[string]string{"no_such_setting": "1"}})
	require.ErrorContains(t, err, `unrecognized configuration parameter "no_such_setting"`)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestCloseLeavesNothing(t *testing.T) {
	SkipShort(t)
	c, err := Start(testContext(t), Options{Replicas: 1})
	require.NoError(t, err)
	dirs := []string{c.Primary.DataDir, c.Replicas[0].DataDir}
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	require.NoDirExists(t, c.Dir)
	for _, d := range dirs {
		require.Empty(t, processesIn(d))
	}
}

func TestDatabaseName(t *testing.T) {
	c := &Cluster{}
	names := []string{c.databaseName("TestÄ/a b-9"), c.databaseName(strings.Repeat("X", 99))}
	require.True(t, slices.Equal(names, []string{"t1_test__a_b_9", "t2_" + strings.Repeat("x", 50)}), names)
}

func TestClone(t *testing.T) {
	c, ctx := New(t, Options{Replicas: 1}), testContext(t)
	old, next := c.Primary, c.Replicas[0]
	require.NoError(t, c.Exec(ctx, "create table n (i int); insert into n values (1)"))
	require.NoError(t, c.WaitReplay(ctx))
	require.NoError(t, next.Promote(ctx))
	require.NoError(t, old.Exec(ctx, "postgres", "insert into n values (2)"), "two histories")
	require.NoError(t, next.Exec(ctx, "postgres", "insert into n values (3)"))
	require.NoError(t, old.Clone(ctx, next))
	require.NoError(t, next.Exec(ctx, "postgres", "insert into n values (4)"))
	require.NoError(t, old.waitTrue(ctx, "select string_agg(i::text, ',' order by i) = '1,3,4' from n"))
}
