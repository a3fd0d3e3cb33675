package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// likeAurora makes servers answer as Amazon Aurora's instances do, and refuse what these
// refuse, to accounts that are no superusers'. What is durable is what is flushed, what a
// reader shows is what it has replayed.
const likeAurora = `
set allow_system_table_mods = on;
create or replace function pg_catalog.aurora_version() returns text language sql as $$select '15.4'$$;
create or replace function pg_catalog.aurora_db_instance_identifier() returns text language sql stable as
  $$select case when pg_is_in_recovery() then 'reader' else 'writer' end$$;
create or replace function pg_catalog.aurora_replica_status(out server_id text, out session_id text, out durable_lsn bigint,
  out current_read_lsn bigint, out last_update_timestamp timestamptz) returns setof record language plpgsql security definer as $$
begin
  if pg_is_in_recovery() then
    return query select 'reader', 'a5d6', (pg_last_wal_replay_lsn() - '0/0')::bigint, (pg_last_wal_replay_lsn() - '0/0')::bigint, null::timestamptz;
    return query select 'writer', 'MASTER_SESSION_ID', 9223372036854775807, null::bigint, now();
  else
    return query select 'writer', 'MASTER_SESSION_ID', (pg_current_wal_flush_lsn() - '0/0')::bigint, null::bigint, null::timestamptz;
    return query select 'reader', 'a5d6', 0::bigint, 0::bigint, now();
  end if;
end$$;
revoke execute on function pg_last_wal_replay_lsn(), pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn(), pg_walfile_name(pg_lsn),
  pg_control_checkpoint(), pg_control_recovery(), pg_control_system() from public, pg_monitor`

// auroraIsSilent has the status tell nothing of the instance that is asked.
const auroraIsSilent = `
set allow_system_table_mods = on;
create or replace function pg_catalog.aurora_replica_status(out server_id text, out session_id text, out durable_lsn bigint,
  out current_read_lsn bigint, out last_update_timestamp timestamptz) returns setof record language sql as $$
  select 'reader', 'a5d6', 5::bigint, null::bigint, null::timestamptz where pg_is_in_recovery()$$`

// flavoured is a cluster whose service account is no superuser's, and its proxies.
type flavoured struct {
	*pgtest.Cluster
	t *testing.T
}

func (f *flavoured) are(sql string) {
	f.t.Helper()
	ctx := bounded(f.t, patience)
	must(f.t, f.Exec(ctx, sql))
	must(f.t, f.WaitReplay(ctx))
}

func (f *flavoured) proxy(flavour string) *service {
	f.t.Helper()
	cfg := failoverConfig(f.t, f.Cluster)
	cfg.Service.User, cfg.Flavour = "watcher", flavour
	cfg.Routing.MonitorInterval, cfg.Routing.FreshnessWait = 50*time.Millisecond, 200*time.Millisecond
	return startConfig(f.t, cfg)
}

// reads writes and reads n times at a level, and tells how many reads were stale and how
// many ran on the replica.
func (f *flavoured) reads(s *service, level string, n int) (stale int, onReplica float64) {
	f.t.Helper()
	ctx := bounded(f.t, time.Minute)
	writer := s.connect(f.t, "postgres")
	reader := s.connect(f.t, "postgres", "options='-c pgweir.consistency="+level+"'")
	before, all := s.metric(f.t, "pgweir_statements_total", "target=replica"), s.metric(f.t, "pgweir_statements_total")
	for range n {
		var wrote, read int
		must(f.t, writer.QueryRow(ctx, "update n set a = a + 1 returning a").Scan(&wrote))
		must(f.t, reader.QueryRow(ctx, "select a from n").Scan(&read))
		if read < wrote {
			stale++
		}
	}
	until(f.t, "all are counted", func() bool { return s.metric(f.t, "pgweir_statements_total") >= all+float64(2*n) })
	return stale, s.metric(f.t, "pgweir_statements_total", "target=replica") - before
}

// warned counts the lines of the log that begin with some words.
func (s *service) warned(words string) (n int) {
	for _, e := range s.logs.All() {
		if strings.HasPrefix(e.Message, words) {
			n++
		}
	}
	return n
}

// TestAurora: where servers answer as Aurora's do, reads are on readers that are known to be
// fresh; without proof only those at eventual are, and that is said once.
func TestAurora(t *testing.T) {
	f := &flavoured{pgtest.New(t, pgtest.Options{Replicas: 1}), t}
	f.are("create table n (a int); insert into n values (0); create role watcher login in role pg_monitor")
	f.are(likeAurora)
	for _, flavour := range []string{"auto", "aurora"} {
		s := f.proxy(flavour)
		if stale, onReplica := f.reads(s, "database", 100); stale > 0 || onReplica < 10 {
			t.Errorf("flavour %s: %d of 100 reads are stale, %v ran on the reader", flavour, stale, onReplica)
		}
		must(t, f.Replicas[0].PauseReplay(bounded(t, patience)))
		if stale, onReplica := f.reads(s, "strong", 5); stale > 0 || onReplica > 0 {
			t.Errorf("flavour %s, a reader that stands still: %d of 5 reads are stale, %v ran there", flavour, stale, onReplica)
		}
		must(t, f.Replicas[0].ResumeReplay(bounded(t, patience)))
		if n := s.warned("a replica does not tell") + s.warned("the primary does not tell"); n > 0 {
			t.Errorf("flavour %s: %d warnings", flavour, n)
		}
	}

	f.are(auroraIsSilent)
	s := f.proxy("auto")
	f.unproved(s, "the primary does not tell how far it is")
	f.unproved(s, "a replica does not tell how far it is")
}

// TestSilentReplica: a replica that does not let the service account ask how far it is
// serves reads at eventual, which is said once; one that tells nothing of itself is down,
// with the reason.
func TestSilentReplica(t *testing.T) {
	f := &flavoured{pgtest.New(t, pgtest.Options{Replicas: 1}), t}
	f.are("create table n (a int); insert into n values (0); create role watcher login in role pg_monitor; revoke execute on function pg_last_wal_replay_lsn() from public")
	f.unproved(f.proxy("auto"), "a replica does not tell how far it is")

	f.are("revoke execute on function pg_control_system() from public, pg_monitor")
	cfg := failoverConfig(t, f.Cluster)
	cfg.Service.User = "watcher"
	s := launch(t, cfg)
	until(t, "the servers are down", func() bool { return s.metric(t, "pgweir_server_state", "state=down") == 2 })
	for _, e := range s.logs.FilterMessage("server is down").All() {
		if why := fmt.Sprint(e.ContextMap()["error"]); !strings.Contains(why, "permission denied for function pg_control_system") {
			t.Errorf("a server is down because: %s", why)
		}
	}
}

// unproved expects that a replica serves reads at eventual and no others, without a wait, and
// that this is said once.
func (f *flavoured) unproved(s *service, said string) {
	t := f.t
	t.Helper()
	began := time.Now()
	if stale, onReplica := f.reads(s, "database", 20); stale > 0 || onReplica > 0 {
		t.Errorf("%d of 20 reads are stale, %v ran on a replica", stale, onReplica)
	}
	if took := time.Since(began); took > 20*150*time.Millisecond {
		t.Errorf("20 reads took %v: they waited for what cannot be", took)
	}
	if _, onReplica := f.reads(s, "eventual", 20); onReplica != 20 {
		t.Errorf("%v of 20 reads at eventual ran on a replica", onReplica)
	}
	if n := s.warned(said); n != 1 {
		t.Errorf("%d times it is said that %s", n, said)
	}
	if up := s.metric(t, "pgweir_server_up"); up != 2 {
		t.Errorf("%v servers are up", up)
	}
}
