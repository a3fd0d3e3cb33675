package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy"
	"github.com/pgweir/pgweir/proxy/auth"
)

// visitor is the client whose whole login is made.
type visitor struct{ user, database, from string }

func (v *visitor) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&v.user, "as", "", "make a whole login as this user, with PGPASSWORD, PGSSLCERT and PGSSLKEY")
	cmd.Flags().StringVar(&v.database, "database", "", "the database of --as; by default named as the user")
	cmd.Flags().StringVar(&v.from, "from", "127.0.0.1", "the address that --as comes from, or local for a Unix-domain socket")
}

// local is the value of --from for a Unix-domain socket.
const local = "local"

// logInAs makes a whole login through a service of its own, in this process, and prints
// each step.
func logInAs(ctx context.Context, out io.Writer, c config.Config, v visitor) error {
	v.database = cmp.Or(v.database, v.user)
	_, _ = fmt.Fprintf(out, "login of %s to database %s from %s\n", v.user, v.database, v.from)
	say := func(step, format string, args ...any) {
		_, _ = fmt.Fprintf(out, "  %-9s %s\n", step, fmt.Sprintf(format, args...))
	}
	fail := func(step string, err error) error {
		say(step, "fault: %v", err)
		return errReported
	}
	eff, ok := c.Resolve(v.user, v.database)
	if !ok {
		return fail("database", fmt.Errorf("no entry of databases is for %q", v.database))
	}
	say("database", "%s of cluster %s", eff.Database, eff.Cluster)
	t, err := newTrial(c, v)
	if err != nil {
		return fail("start", err)
	}
	defer t.close()
	ctx, cancel := context.WithTimeout(ctx, c.Auth.Timeout+c.Pool.ConnectTimeout)
	defer cancel()
	if err := t.explain(ctx, say); err != nil {
		return fail("method", err)
	}
	conn, err := t.logIn(ctx)
	if err != nil {
		return fail("login", t.because(err))
	}
	defer func() { _ = conn.Close(ctx) }()
	say("login", "ok")
	if err := t.statements(ctx, conn, say, len(c.Clusters[eff.Cluster].Servers) != 1); err != nil {
		return fail("statement", err)
	}
	_, _ = fmt.Fprintln(out, "login: ok")
	return nil
}

// trial is a service that serves one client.
type trial struct {
	visitor
	server *proxy.Server
	tls    bool
	log    bytes.Buffer // of JSON, written before the client is told
	dir    string       // of the Unix-domain socket
	within *within
	ended  sync.Once
}

func newTrial(c config.Config, v visitor) (*trial, error) {
	t := &trial{visitor: v, tls: c.TLS.Mode != "disable" && v.from != local}
	c.Log.Connections, c.HTTP = false, ""
	network := proxy.Network{}
	if v.from == local {
		dir, err := os.MkdirTemp("", "pgweir-")
		if err != nil {
			return nil, err
		}
		t.dir = dir
		c.Listen = config.Addresses{dir + ":6432"}
	} else {
		from, err := netip.ParseAddr(v.from)
		if err != nil {
			return nil, fmt.Errorf("--from: %q is neither an address nor local", v.from)
		}
		t.within = &within{from: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 1)), arriving: make(chan net.Conn), closed: make(chan struct{})}
		c.Listen = c.Listen[:1]
		network.Listen = func(string, string) (net.Listener, error) { return t.within, nil }
	}
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "message"})
	log := zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(&t.log)), zap.WarnLevel))
	var err error
	if t.server, err = proxy.NewOver(network, c, log, nil); err == nil {
		if err = t.server.Start(); err != nil {
			t.server.Close()
		}
	}
	if err != nil {
		_ = os.RemoveAll(t.dir)
		return nil, err
	}
	return t, nil
}

func (t *trial) close() {
	t.ended.Do(func() {
		t.server.Close()
		if t.dir != "" {
			_ = os.RemoveAll(t.dir)
		}
	})
}

// explain says what the client has to prove, and whether it could.
func (t *trial) explain(ctx context.Context, say func(step, format string, args ...any)) error {
	client := auth.Client{User: t.user, Database: t.database, Address: t.from, Local: t.from == local}
	var state *tls.ConnectionState
	if t.tls {
		state = &tls.ConnectionState{}
	}
	f, err := t.server.Explain(ctx, client, state)
	if f.Method != "" {
		say("method", "%s, by %s", f.Method, cmp.Or(f.Rule, "auth.method"))
	}
	if err != nil || !f.ByPassword() {
		return err
	}
	password, given := os.LookupEnv("PGPASSWORD")
	switch {
	case f.Source == "":
		say("secret", "none: %s", f.Why())
	case !given:
		say("secret", "%s, by %s; PGPASSWORD is not set", f.Kind, f.Source)
	case f.Matches(password):
		say("secret", "%s, by %s; PGPASSWORD fits", f.Kind, f.Source)
	default:
		say("secret", "%s, by %s; PGPASSWORD does not fit", f.Kind, f.Source)
	}
	return nil
}

// logIn comes as the client does.
func (t *trial) logIn(ctx context.Context) (*pgconn.PgConn, error) {
	o := backend.Options{Address: backend.Address{Host: t.dir, Port: 6432}}
	if t.within != nil {
		o.Address.Host = "pgweir"
		o.Dial = t.within.dial
	}
	if t.tls {
		loaded, err := backend.LoadTLS(config.ServerTLS{Mode: "require", CertFile: os.Getenv("PGSSLCERT"), KeyFile: os.Getenv("PGSSLKEY")})
		if err != nil {
			return nil, err
		}
		o.TLS = loaded
	}
	cred := backend.Credentials{User: t.user, Password: os.Getenv("PGPASSWORD")}
	login, err := backend.Open(ctx, o, cred, t.database, map[string]string{"application_name": "pgweir check", "client_encoding": "UTF8"})
	if err != nil {
		return nil, err
	}
	return adopt(login)
}

// because is err with what the service's log tells of it.
func (t *trial) because(err error) error {
	var told *pgconn.PgError
	if errors.As(err, &told) {
		err = fmt.Errorf("%s (SQLSTATE %s)", told.Message, told.Code)
	}
	t.close() // nobody writes to the log any more
	for line := range bytes.Lines(t.log.Bytes()) {
		var entry struct{ Message, Because, Cure string }
		if json.Unmarshal(line, &entry) != nil {
			continue
		}
		if entry.Message == "login refused" && entry.Because != "" && told != nil {
			err = fmt.Errorf("%w: %s", err, entry.Because)
		}
		if entry.Cure != "" {
			err = fmt.Errorf("%w\n            %s", err, entry.Cure)
		}
	}
	return err
}

// whereQuery: the user, the server, whether it is a replica.
const whereQuery = `SELECT session_user, coalesce(pg_catalog.host(inet_server_addr()) || ':' || inet_server_port(), 'a Unix-domain socket'), pg_is_in_recovery()`

// statements runs one on the primary and one on a replica.
func (t *trial) statements(ctx context.Context, conn *pgconn.PgConn, say func(step, format string, args ...any), replicas bool) error {
	row, err := queryRow(ctx, conn, "/* pgweir:primary */ "+whereQuery)
	if err != nil {
		return err
	}
	say("primary", "%s as %s", row[1], row[0])
	if !replicas {
		return nil
	}
	for tries := 0; ; tries++ {
		if row, err = queryRow(ctx, conn, "/* pgweir:replica */ "+whereQuery); err != nil {
			return err
		}
		if row[2] == "t" {
			say("replica", "%s as %s", row[1], row[0])
			return nil
		}
		if tries == 30 {
			say("replica", "none took a statement")
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// within is a listener for clients in this process, which seem to come from an address.
type within struct {
	from     net.Addr
	arriving chan net.Conn
	closed   chan struct{}
}

func (w *within) Accept() (net.Conn, error) {
	select {
	case c := <-w.arriving:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

// Close may be called again.
func (w *within) Close() error {
	select {
	case <-w.closed:
	default:
		close(w.closed)
	}
	return nil
}

func (w *within) Addr() net.Addr { return &net.TCPAddr{} }

func (w *within) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	select {
	case w.arriving <- arrived{theirs, w.from}:
		return ours, nil
	case <-w.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = ours.Close()
	_ = theirs.Close()
	return nil, err
}

// socketPair is a connection within the process. Its ends need not be read for the other to be
// closed, as those of net.Pipe must under TLS.
func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		unix.CloseOnExec(fd)
		file := os.NewFile(uintptr(fd), "client")
		ends[i], err = net.FileConn(file)
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, nil, err
		}
	}
	return ends[0], ends[1], nil
}

// arrived is a connection that seems to come from an address.
type arrived struct {
	net.Conn
	from net.Addr
}

func (a arrived) RemoteAddr() net.Addr { return a.from }
func (a arrived) LocalAddr() net.Addr  { return &net.TCPAddr{} }
