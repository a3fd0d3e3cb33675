package proxy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const hammerTenants = 8

const hammerSchema = `
create table item (id bigserial, org text not null, v int not null default 0);
insert into item (org) select t::text from generate_series(1, 8) t, generate_series(1, 5);
alter table item enable row level security; alter table item force row level security;
create policy p on item using (org = current_setting('app.current_org_id', true)) with check (org = current_setting('app.current_org_id', true));
create role %ROLE% login; grant all on item to %ROLE%; grant usage on sequence item_id_seq to %ROLE%`

// hammer is what its clients share.
type hammer struct {
	*service
	t              *testing.T
	database, role string
	good, failed   atomic.Int64
}

// TestTenantsUnderTheHammer: many tenants share few connections, which are killed at
// random. No session ever sees a row of another tenant, or misses its own.
// PGWEIR_HAMMER is how long (10s).
func TestTenantsUnderTheHammer(t *testing.T) {
	limit := 10 * time.Second
	if v := os.Getenv("PGWEIR_HAMMER"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
		limit = d
	}
	h := &hammer{t: t, database: newDatabase(t, "")}
	h.role = "role_" + h.database
	run(t, h.database, strings.ReplaceAll(hammerSchema, "%ROLE%", h.role))
	t.Cleanup(func() { run(t, h.database, "drop owned by "+h.role+"; drop role "+h.role) })
	h.service = start(t, poolSize(2))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	until := time.Now().Add(limit)
	var clients sync.WaitGroup
	for i := range 32 {
		clients.Go(func() { h.client(rand.New(rand.NewPCG(seed, uint64(i))), until) })
	}
	clients.Go(func() { h.terminator(rand.New(rand.NewPCG(seed, 1000)), until) })
	clients.Wait()
	t.Logf("%d looks at a tenant's rows, %d sessions failed", h.good.Load(), h.failed.Load())
	if h.good.Load() < 500 {
		t.Error("too little was done")
	}
}

// client lives one session after the other until time is up.
func (h *hammer) client(rnd *rand.Rand, until time.Time) {
	for time.Now().Before(until) {
		if err := h.session(rnd, until); err != nil {
			h.failed.Add(1)
			switch wantCode(err) {
			case "42501", "42P01", "22P02", "42704":
				h.t.Errorf("not what a lost connection says: %v", err)
			}
		}
	}
}

func (h *hammer) session(rnd *rand.Rand, until time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cfg, err := pgx.ParseConfig(h.dsn(h.database))
	if err != nil {
		return err
	}
	cfg.User = h.role
	if rnd.IntN(2) == 0 {
		cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	tenant := ""
	for range 1 + rnd.IntN(30) {
		if time.Now().After(until) {
			return nil
		}
		if tenant == "" || rnd.IntN(3) == 0 {
			next := fmt.Sprint(1 + rnd.IntN(hammerTenants))
			if err := h.become(ctx, conn, rnd, next); err != nil {
				return err
			}
			tenant = next
		}
		if rnd.IntN(60) == 0 {
			_, _ = conn.Exec(ctx, "begin")
			_ = h.look(ctx, conn, tenant)
			return conn.PgConn().Conn().Close() // without a word
		}
		if err := h.work(ctx, conn, rnd, tenant); err != nil {
			return err
		}
	}
	return nil
}

// become changes the tenant for the session.
func (h *hammer) become(ctx context.Context, conn *pgx.Conn, rnd *rand.Rand, tenant string) error {
	var err error
	switch rnd.IntN(3) {
	case 0:
		_, err = conn.Exec(ctx, "set app.current_org_id = '"+tenant+"'")
	case 1:
		_, err = conn.Exec(ctx, "select set_config('app.current_org_id', '"+tenant+"', false)")
	default:
		_, err = conn.Exec(ctx, "select set_config('app.current_org_id', $1, false)", tenant)
	}
	return err
}

// work reads and writes as a tenant, or as another one for a transaction.
func (h *hammer) work(ctx context.Context, conn *pgx.Conn, rnd *rand.Rand, tenant string) error {
	other := fmt.Sprint(1 + rnd.IntN(hammerTenants))
	switch rnd.IntN(6) {
	case 0:
		if _, err := conn.Exec(ctx, "update item set v = v + 1 where id % 7 = $1", rnd.IntN(7)); err != nil {
			return err
		}
	case 1:
		return h.inTransaction(ctx, conn, rnd, tenant, other)
	case 2:
		if _, err := conn.Exec(ctx, "select 1/0"); wantCode(err) != "22012" {
			return err
		}
	}
	return h.look(ctx, conn, tenant)
}

// inTransaction is another tenant for a transaction, with savepoints, errors and either end.
func (h *hammer) inTransaction(ctx context.Context, conn *pgx.Conn, rnd *rand.Rand, tenant, other string) error {
	third := fmt.Sprint(1 + rnd.IntN(hammerTenants))
	local := "set local app.current_org_id = '" + other + "'"
	if rnd.IntN(2) == 0 {
		local = "select set_config('app.current_org_id', '" + other + "', true)"
	}
	steps := []struct{ sql, sees string }{
		{"begin", tenant}, {local, other}, {"savepoint a", other}, {"set local app.current_org_id = '" + third + "'", third},
		{"insert into item (org) values ('" + third + "')", third}, {"rollback to a", other}, {"update item set v = 0", other},
	}
	if rnd.IntN(2) == 0 {
		steps = append(steps, struct{ sql, sees string }{"savepoint b", other}, struct{ sql, sees string }{"release b", other})
	}
	for _, s := range steps {
		if _, err := conn.Exec(ctx, s.sql); err != nil {
			return err
		}
		if rnd.IntN(2) == 0 {
			if err := h.look(ctx, conn, s.sees); err != nil {
				return err
			}
		}
	}
	if rnd.IntN(3) == 0 {
		_, _ = conn.Exec(ctx, "select 1/0")
	}
	if _, err := conn.Exec(ctx, []string{"commit", "rollback"}[rnd.IntN(2)]); err != nil {
		return err
	}
	return h.look(ctx, conn, tenant)
}

// look checks that a session sees its tenant's rows, all of its five at least, and no other's.
func (h *hammer) look(ctx context.Context, conn *pgx.Conn, tenant string) error {
	var own, all int
	if err := conn.QueryRow(ctx, "select count(*) filter (where org = $1), count(*) from item", tenant).Scan(&own, &all); err != nil {
		return err
	}
	if own != all || own < 5 {
		h.t.Errorf("tenant %s sees %d rows, %d of them its own", tenant, all, own)
	}
	h.good.Add(1)
	return nil
}

// terminator ends server connections of the proxy at random.
func (h *hammer) terminator(rnd *rand.Rand, until time.Time) {
	servers := shared(h.t).Servers()
	for time.Now().Before(until) {
		time.Sleep(time.Duration(20+rnd.IntN(200)) * time.Millisecond)
		_, err := servers[rnd.IntN(len(servers))].Value(context.Background(), "postgres",
			`select coalesce((select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and usename = $2 order by random() limit 1), false)`, h.database, h.role)
		if err != nil {
			h.t.Errorf("terminate: %v", err)
		}
	}
}
