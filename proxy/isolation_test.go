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
			return q.QueryRow("select count(*) filter (where org = '" + tenant + "'), count(*) from item").Scan(&mine, &all)
		}
		if inTx {
			err = pgx.BeginFunc(t.Context(), c, func(tx pgx.Tx) error { return look(querier(func(sql string) pgx.Row { return tx.QueryRow(t.Context(), sql) })) })
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
