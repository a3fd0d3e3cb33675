package clients

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// Debian's own Python and JDBC driver: the packages "make deps" installs belong to them.
const (
	python  = "/usr/bin/python3"
	jdbcJar = "/usr/share/java/postgresql.jar"
)

// TestClients runs every client directly, through the proxy and through the proxy
// again, and compares what it saw.
func TestClients(t *testing.T) {
	cluster := newCluster(t, noLag)
	proxy := startProxy(t, cluster)
	may := loadAccepted(t)
	for _, c := range clients(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			compare(t, cluster, proxy, c, may)
		})
	}
}

func compare(t *testing.T, cluster *pgtest.Cluster, proxy string, c client, may accepted) {
	transcript := c.run(t, target{cluster.Primary.Addr(), newDatabase(t, cluster)})
	requireComplete(t, transcript)
	direct, free := may.find(c.name, transcript)
	through := target{proxy, newDatabase(t, cluster)}
	for _, run := range []string{"first run", "second run"} {
		proxied, differing := may.find(c.name, c.run(t, through))
		requireEqual(t, run, direct, proxied)
		requireDifferent(t, free, differing)
		empty(t, cluster, through.database)
	}
}

func clients(t *testing.T) []client {
	t.Helper()
	all := []client{{"pgx", runPgx}}
	all = append(all, pythonClients(t)...)
	all = append(all, jdbcClients(t)...)
	all = append(all, command("php_pdo", "testdata/php", "php", "pdo.php"))
	all = append(all, command("node_pg", "testdata/node", "node", "pg.js"))
	return append(all, psqlClients(t)...)
}

// pythonClients are the files of testdata/python that are programs: the others are
// modules they import.
func pythonClients(t *testing.T) []client {
	t.Helper()
	var all []client
	for _, name := range []string{
		"psycopg2_session", "psycopg2_pins", "psycopg2_data", "psycopg3_data", "psycopg3_pipeline", "asyncpg_data", "sqlalchemy_orm",
	} {
		all = append(all, command(name, "testdata/python", python, name+".py"))
	}
	return all
}

// jdbcClients are compiled once for all runs.
func jdbcClients(t *testing.T) []client {
	t.Helper()
	classes := t.TempDir()
	sources, err := filepath.Glob("testdata/jdbc/*.java")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no Java sources: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), programTimeout)
	defer cancel()
	javac := exec.CommandContext(ctx, "javac", append([]string{"-encoding", "UTF-8", "-d", classes, "-cp", jdbcJar}, sources...)...)
	if out, err := javac.CombinedOutput(); err != nil {
		t.Fatalf("compile the JDBC programs (is \"make deps\" done?): %v\n%s", err, out)
	}
	var all []client
	for _, class := range []string{"Statements", "Sessions"} {
		all = append(all, command("jdbc_"+strings.ToLower(class), ".", "java",
			"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-Dfile.encoding=UTF-8", "-Duser.timezone=UTC", "-Duser.language=en",
			"-cp", classes+":"+jdbcJar, class))
	}
	return all
}

func psqlClients(t *testing.T) []client {
	t.Helper()
	files, err := filepath.Glob("testdata/psql/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no psql scripts: %v", err)
	}
	var all []client
	for _, f := range files {
		name := filepath.Base(f)
		all = append(all, command("psql_"+strings.TrimSuffix(name, ".sql"), "testdata/psql", "psql", "-X", "--echo-queries", "-f", name))
	}
	return all
}

// TestDependencies says what is missing in words rather than by failing programs.
func TestDependencies(t *testing.T) {
	pgtest.SkipShort(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	imports := exec.CommandContext(ctx, python, "-c", "import psycopg2, psycopg, asyncpg, sqlalchemy, greenlet")
	if out, err := imports.CombinedOutput(); err != nil {
		t.Errorf("Debian's packages of Python drivers are missing (\"make deps\" installs them): %v\n%s", err, out)
	}
	if _, err := os.Stat(jdbcJar); err != nil {
		t.Errorf("the package libpostgresql-jdbc-java is missing (\"make deps\" installs it): %v", err)
	}
	if _, err := os.Stat("testdata/node/node_modules/pg"); err != nil {
		t.Errorf("node-postgres is missing (\"make deps\" installs it): %v", err)
	}
	for _, program := range []string{"psql", "pgbench", "java", "javac", "php", "node"} {
		if _, err := lookFor(program); err != nil {
			t.Errorf("%s is missing (\"make deps\" installs it): %v", program, err)
		}
	}
}

// lookFor finds a program on the path or, as pgbench, with the server's binaries.
func lookFor(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + program); len(found) > 0 {
		return found[len(found)-1], nil
	}
	return "", err
}
