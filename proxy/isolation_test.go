package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
)

// leaky is called clean by the configuration, which is what a hole in the prediction is.
const leaky = `
create function leaky(v text) returns text language plpgsql as $$
begin execute 'select set_config(' || quote_literal('app.current' || '_org_id') || ', $1, false)' using v; return v; end $$;
create function leaky_role(v text) returns text language plpgsql as $$ begin execute 'set role ' || quote_ident(v); return v; end $$;
create function leaky_table() returns int language plpgsql as $$
begin execute 'create temp table if not exists item as select 1 as id, ''none'' as org, 0 as v'; return 1; end $$;`

// leak lets sessions that spoil their connections, unnoticed, share few of them with
// sessions of tenants, and returns how often one of these saw what is not its own.
func leak(t *testing.T, limit time.Duration, change func(*config.Config)) (looks, foreign int64) {
	database := newDatabase(t, "")
	role := "role_" + database
	run(t, database, strings.ReplaceAll(hammerSchema, "%ROLE%", role)+";"+leaky+"grant "+role+" to current_user")
	t.Cleanup(func() { run(t, database, "drop owned by "+role+"; drop role "+role) })
	s := start(t, poolSize(2), func(c *config.Config) {
		c.Routing.SafeFunctions = []string{"leaky", "leaky_role", "leaky_table"}
		c.Settings.VerifyReleases = false // it would find all of it
	}, change)
	until := time.Now().Add(limit)
	var seen, wrong atomic.Int64
	var sessions sync.WaitGroup
	for i := range 12 {
		sessions.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for time.Now().Before(until) {
				if i < 4 {
					spoil(t, s, database, role, rnd)
					continue
				}
				n, w := watch(t, s, database, role, fmt.Sprint(1+i%hammerTenants), i%3 == 0)
				seen.Add(n)
				wrong.Add(w)
			}
		})
	}
	sessions.Wait()
	return seen.Load(), wrong.Load()
}

// spoil leaves on its connection what nobody foresees.
func spoil(t *testing.T, s *service, database, role string, rnd *rand.Rand) {
	c, err := pgx.Connect(t.Context(), s.dsn(database, "user="+role))
	if err != nil {
		return
	}
	defer c.Close(t.Context())
	for range 5 {
		switch rnd.IntN(5) {
		case 0:
			_, err = c.Exec(t.Context(), "select leaky_role($1)", role)
		case 1:
			_, err = c.Exec(t.Context(), "/* pgweir:primary */ select leaky_table()")
		default:
			_, err = c.Exec(t.Context(), "select leaky($1)", fmt.Sprint(1+rnd.IntN(hammerTenants)))
		}
		if err != nil {
			return
		}
	}
}

// watch looks at the rows of a tenant, or as nobody, and counts what is not its own.
func watch(t *testing.T, s *service, database, role, tenant string, inTx bool) (looks, foreign int64) {
	c, err := pgx.Connect(t.Context(), s.dsn(database, "user="+role))
	if err != nil {
		return 0, 0
	}
	defer c.Close(t.Context())
	want := int64(5)
	if tenant == "1" {
		want = 0 // it never says who it is
	} else if _, err := c.Exec(t.Context(), "select set_config('app.current_org_id', $1, false)", tenant); err != nil {
		return 0, 0
	}
	for range 5 {
		var mine, all int64
		look := func(q interface {
			QueryRow(sql string) pgx.Row
		}) error {
			return q.QueryRow("select count(*) filter (where org = '"+tenant+"'), count(*) from item").Scan(&mine, &all)
		}
		if inTx {
			err = pgx.BeginFunc(t.Context(), c, func(tx pgx.Tx) error {
				return look(querier(func(sql string) pgx.Row { return tx.QueryRow(t.Context(), sql) }))
			})
		} else {
			err = look(querier(func(sql string) pgx.Row { return c.QueryRow(t.Context(), sql) }))
		}
		if err != nil {
			return looks, foreign
		}
		if looks++; mine != want || all != want {
			foreign++
		}
	}
	return looks, foreign
}

type querier func(sql string) pgx.Row

func (q querier) QueryRow(sql string) pgx.Row { return q(sql) }

// TestTenantIsAssertedNotPredicted: with every prediction of what functions leave behind
// switched off, no session sees another's rows, or another's temporary table, once the
// tenant's setting is declared. Without the declaration it would, which shows that the
// test can tell.
func TestTenantIsAssertedNotPredicted(t *testing.T) {
	looks, foreign := leak(t, 3*time.Second, func(*config.Config) {})
	t.Logf("not declared: %d of %d looks saw what is not theirs", foreign, looks)
	if foreign == 0 {
		t.Error("nothing leaks without assertion: the test proves nothing")
	}
	looks, foreign = leak(t, 5*time.Second, func(c *config.Config) { c.Tenant.Settings = []string{"app.current_org_id"} })
	t.Logf("declared: %d of %d looks saw what is not theirs", foreign, looks)
	if foreign != 0 || looks < 200 {
		t.Error("a foreign row, or too little was done")
	}
}

// A connection keeps the schema of its temporary objects when they are gone. It is no
// reason to close it where they were foreseen, nor an alarm where they were not; objects
// that are still there are, and so is another role.
func TestWhatIsAssertedOfTemporarySchemas(t *testing.T) {
	database := newDatabase(t, leaky+`
		create materialized view totals as select 1 as id; create unique index on totals (id);
		create function renew() returns void language plpgsql as $$ begin refresh materialized view concurrently totals; end $$`)
	role := "role_" + database
	run(t, database, "create role "+role+"; grant "+role+" to current_user")
	t.Cleanup(func() { run(t, database, "drop role "+role) })
	s := start(t, poolSize(1), func(c *config.Config) {
		c.Routing.SafeFunctions = []string{"leaky_role", "leaky_table"}
		c.Settings.VerifyReleases = false
		c.Tenant.Settings = []string{"app.current_org_id"}
	})
	for _, test := range []struct {
		name, runs string
		kept       bool
		failed     float64
	}{
		{"nothing", "select 1", true, 0},
		{"foreseen", "create temp table made as select 1; drop table made", true, 0},
		{"refreshed", "refresh materialized view concurrently totals", true, 0},
		{"unforeseen", "select renew()", false, 0},
		{"role", "/* pgweir:primary */ select leaky_role('" + role + "')", false, 1},
		{"objects", "/* pgweir:primary */ select leaky_table()", false, 1},
		{"nothing again", "select 1", true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			const pid = "/* pgweir:primary */ select pg_backend_pid(), current_setting('role'), current_setting('app.current_org_id', true)"
			before, failed := s.connect(t, database), s.metric(t, "pgweir_assertions_failed_total")
			var had, has int
			var acts, tenant *string
			require.NoError(t, before.QueryRow(t.Context(), pid).Scan(&had, &acts, &tenant))
			_, err := before.Exec(t.Context(), test.runs, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
			for _, value := range []string{"", "7"} {
				other := s.connect(t, database)
				if value != "" {
					_, err = other.Exec(t.Context(), "set app.current_org_id = 7")
					require.NoError(t, err)
				}
				require.NoError(t, other.QueryRow(t.Context(), pid).Scan(&has, &acts, &tenant))
				require.Equal(t, "none", *acts)
				require.True(t, value == "" && (tenant == nil || *tenant == "") || value != "" && *tenant == value)
			}
			require.Equal(t, test.kept, had == has)
			require.Equal(t, test.failed, s.metric(t, "pgweir_assertions_failed_total")-failed)
		})
	}
}
