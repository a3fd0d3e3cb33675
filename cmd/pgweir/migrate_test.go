package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgbouncer"
	"github.com/pgweir/pgweir/internal/pgtest"
)

const pgbouncerINI = `
[databases]
shop = host=127.0.0.1 port=%[1]d dbname=store
forced = host=127.0.0.1 port=%[1]d dbname=store user=reader password=reads pool_size=3
small = host=127.0.0.1 port=%[1]d dbname=postgres pool_mode=session max_db_connections=2

[users]
app = max_user_connections=5

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[2]d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %[3]s/users.txt
auth_user = bouncer
auth_query = SELECT name, secret FROM public.look_up($1)
pool_mode = transaction
default_pool_size = 4
max_client_conn = 50
admin_users = app
query_wait_timeout = 20
client_login_timeout = 20
server_lifetime = 1800
logfile = %[3]s/log
ignore_startup_parameters = extra_float_digits
`

// lookUpSQL is what auth_query calls; PgBouncer wants it in every database.
const lookUpSQL = `CREATE FUNCTION look_up(INOUT name text, OUT secret text) RETURNS SETOF record LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS 'SELECT usename::text, passwd FROM pg_shadow WHERE usename = $1'; REVOKE ALL ON FUNCTION look_up FROM PUBLIC; GRANT EXECUTE ON FUNCTION look_up TO bouncer`

// script is what clients of both ask. What they are told must be the same.
var script = []struct {
	user, password, database string
	statements               []string
}{
	{"app", "secret", "shop", []string{"SELECT session_user, current_database()", "SELECT count(*) FROM goods", "INSERT INTO goods VALUES (1), (2)", "SELECT sum(a) FROM goods"}},
	{"app", "secret", "shop", []string{"BEGIN", "DELETE FROM goods", "SELECT count(*) FROM goods", "ROLLBACK", "SELECT count(*) FROM goods"}},
	{"app", "secret", "shop", []string{"SELEC 1", "SELECT 1/0", "SELECT * FROM nowhere", "SELECT 1"}},
	{"app", "secret", "shop", []string{"BEGIN", "SELECT 1/0", "SELECT 1", "COMMIT", "SELECT 2"}},
	{"app", "secret", "shop", []string{"SET application_name = 'mine'", "SHOW application_name", "SELECT 'a'; SELECT 'b'"}},
	{"app", "wrong", "shop", nil},
	{"nobody", "secret", "shop", nil},
	{"app", "secret", "nowhere", nil},
	{"asked", "by query", "shop", []string{"SELECT session_user", "SELECT count(*) FROM goods"}}, // in no file
	{"asked", "wrong", "shop", nil},
	{"app", "secret", "forced", []string{"SELECT session_user, current_database()", "INSERT INTO goods VALUES (3)"}},
	{"asked", "by query", "forced", []string{"SELECT session_user"}},
	{"app", "secret", "small", []string{"CREATE TEMP TABLE kept (a int)", "INSERT INTO kept VALUES (7)", "SELECT a FROM kept", "SELECT current_database()"}},
}

// TestMigrate runs a script through a real PgBouncer and then, at the same address, through
// pgweir with what migrate makes of PgBouncer's configuration.
func TestMigrate(t *testing.T) {
	pgtest.SkipShort(t)
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		binary = "/usr/sbin/pgbouncer"
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatal("there is no pgbouncer; .ci/deps.sh test installs it")
	}
	c := pgtest.New(t, pgtest.Options{HBA: passwords})
	dir, ini := migrated(t, c)
	_, port, _ := net.SplitHostPort(pgtest.FreeAddress(t))
	n, _ := strconv.Atoi(port)
	write(t, ini, fmt.Sprintf(pgbouncerINI, c.Primary.Port, n, dir))
	write(t, filepath.Join(dir, "users.txt"), "\"app\" \"secret\"\n\"bouncer\" \"asks\"\n")

	stop := runPgBouncer(t, binary, ini, dir)
	address := "127.0.0.1:" + port
	eventually(t, "PgBouncer listens", func() bool { conn, err := net.Dial("tcp", address); return err == nil && conn.Close() == nil })
	known(t, address)
	want := play(t, c, address)
	t.Logf("PgBouncer:\n%s", strings.Join(want, "\n"))
	stop()

	text, code := pgweir("", "migrate", ini)
	if code != 0 {
		t.Fatal(text)
	}
	ours := filepath.Join(dir, "pgweir.yaml")
	write(t, ours, text+"http: "+pgtest.FreeAddress(t)+"\n")
	out, code := pgweir("", "check", "--connect", "--config", ours)
	if wantOutput(t, out, "servers: ok"); code != 0 {
		t.Errorf("exit %d", code)
	}
	cfg, _ := proxyOf(t, ours)
	eventually(t, "pgweir is ready", func() bool { _, err := through(t, cfg, "app", "secret", "shop"); return err == nil })
	if diff := cmp.Diff(want, play(t, c, address)); diff != "" {
		t.Errorf("PgBouncer (-) and pgweir (+) answer differently:\n%s", diff)
	}
}

// migrated makes the roles and databases, and a directory that PgBouncer may read.
func migrated(t *testing.T, c *pgtest.Cluster) (dir, ini string) {
	t.Helper()
	for _, sql := range []string{
		"CREATE DATABASE store",
		"CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE ROLE bouncer LOGIN PASSWORD 'asks'; CREATE ROLE asked LOGIN PASSWORD 'by query'; CREATE ROLE reader LOGIN PASSWORD 'reads'; GRANT pg_monitor TO bouncer",
		lookUpSQL,
	} {
		if err := c.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Primary.Exec(t.Context(), "store", lookUpSQL+"; CREATE TABLE goods (a int); GRANT ALL ON goods TO app; GRANT SELECT ON goods TO asked, reader"); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "pgweir-migrate-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, "pgbouncer.ini")
}

// write writes a file that everybody may read.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// runPgBouncer runs it as somebody else than root, which it refuses.
func runPgBouncer(t *testing.T, binary, ini, dir string) (stop func()) {
	t.Helper()
	cmd := exec.Command(binary, ini)
	cmd.Dir = dir
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	return stop
}

// known: every key that this PgBouncer itself lists is in the table.
func known(t *testing.T, address string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(address)
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%s user=app password=secret dbname=pgbouncer sslmode=disable", host, port))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgconn.ConnectConfig(t.Context(), &cfg.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	results, err := conn.Exec(t.Context(), "SHOW CONFIG").ReadAll()
	if err != nil || len(results) != 1 || len(results[0].Rows) < 50 {
		t.Fatal(err, results)
	}
	for _, row := range results[0].Rows {
		name := string(row[0])
		if !slices.ContainsFunc(pgbouncer.Keys(), func(k pgbouncer.Key) bool { return k.Section == "pgbouncer" && k.Name == name }) {
			t.Errorf("PgBouncer has the key %s", name)
		}
	}
}

// play plays the script and returns what clients are told.
func play(t *testing.T, c *pgtest.Cluster, address string) (answers []string) {
	t.Helper()
	if err := c.Primary.Exec(t.Context(), "store", "TRUNCATE goods"); err != nil {
		t.Fatal(err)
	}
	for _, s := range script {
		who := fmt.Sprintf("%s (%s) in %s: ", s.user, s.password, s.database)
		conn, err := comes(t, address, s.user, s.password, s.database)
		if err != nil {
			answers = append(answers, who+"refused")
			var told *pgconn.PgError
			if !errors.As(err, &told) {
				t.Errorf("%s%v", who, err)
			}
			continue
		}
		for _, sql := range s.statements {
			answers = append(answers, who+sql+": "+answer(t, conn, sql))
		}
		_ = conn.Close(t.Context())
	}
	return answers
}

func comes(t *testing.T, address, user, password, database string) (*pgconn.PgConn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	host, port, _ := net.SplitHostPort(address)
	return pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s user=%s password='%s' dbname=%s sslmode=disable", host, port, user, password, database))
}

// answer is all that comes back, on one line.
func answer(t *testing.T, conn *pgconn.PgConn, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	results, err := conn.Exec(ctx, sql).ReadAll()
	var b strings.Builder
	for _, r := range results {
		for _, row := range r.Rows {
			for _, v := range row {
				b.WriteString(string(v) + " ")
			}
		}
		b.WriteString(r.CommandTag.String() + "; ")
	}
	var told *pgconn.PgError
	switch {
	case errors.As(err, &told):
		b.WriteString(told.Code + " " + told.Message)
	case err != nil:
		b.WriteString(err.Error())
	}
	return b.String()
}

// TestMigrateSaysWhatIsWrong: a file whose result is no configuration ends with 1.
func TestMigrateSaysWhatIsWrong(t *testing.T) {
	ini := filepath.Join(t.TempDir(), "pgbouncer.ini")
	write(t, ini, "[databases]\na = host=h1\nb = host=h1,h2\n[pgbouncer]\nlisten_addr = 127.0.0.1\nauth_type = trust\n")
	out, code := pgweir("", "migrate", ini)
	if wantOutput(t, out, "1 fault to be mended by hand", "h1:5432 is already"); code != exitFailure {
		t.Errorf("exit %d", code)
	}
	if _, err := config.Load(ini); err == nil {
		t.Error("the original is no configuration of pgweir")
	}
	out, code = pgweir("", "migrate", "none.ini")
	if wantOutput(t, out, "no such file"); code != exitFailure {
		t.Errorf("exit %d", code)
	}
}
