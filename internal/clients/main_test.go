package clients

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The role every program runs as, and one it may SET ROLE to.
const (
	role       = "app"
	memberRole = "app_reader"
)

const setupTimeout = 30 * time.Second

// noLag makes a commit wait until it can be seen on every replica, so that what a
// client sees does not depend on how far behind they are. What lag may show is the
// subject of other tests.
var noLag = map[string]string{"synchronous_standby_names": "ANY 2 (*)", "synchronous_commit": "remote_apply"}

// newCluster starts a primary with two replicas and the roles of the programs.
func newCluster(t *testing.T, conf map[string]string) *pgtest.Cluster {
	t.Helper()
	cluster := pgtest.New(t, pgtest.Options{Replicas: 2, Conf: conf})
	execute(t, cluster, "postgres", "create role "+role+" login; create role "+memberRole+"; grant "+memberRole+" to "+role)
	return cluster
}

// newDatabase makes an empty database that belongs to the programs' role.
func newDatabase(t *testing.T, cluster *pgtest.Cluster) string {
	t.Helper()
	name := cluster.Database(t)
	execute(t, cluster, name, `alter database "`+name+`" owner to `+role)
	return name
}

// empty removes what a program left in its database, and ends its connections to the
// primary in no way: pooled ones must live with what happened under them.
func empty(t *testing.T, cluster *pgtest.Cluster, database string) {
	t.Helper()
	execute(t, cluster, database, `
		select lo_unlink(oid) from pg_largeobject_metadata;
		drop schema public cascade;
		create schema public authorization pg_database_owner;
		grant usage on schema public to public`)
}

// execute runs SQL on the primary as the superuser and waits for the replicas.
func execute(t *testing.T, cluster *pgtest.Cluster, database, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()
	if err := cluster.Primary.Exec(ctx, database, sql); err != nil {
		t.Fatal(err)
	}
	if err := cluster.WaitReplay(ctx); err != nil {
		t.Fatal(err)
	}
}
