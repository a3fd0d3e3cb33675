// Package trial makes a whole login as a client does it, through a service of its own within the
// process, and says each step: which entry of the configuration is for it, what it has to prove and
// whether it could, what it is told, and where its statements run.
package trial

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
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy"
	"github.com/pgweir/pgweir/proxy/auth"
)

// Client is who logs in, with PGPASSWORD, PGSSLCERT and PGSSLKEY of the environment.
type Client struct {
	User     string
	Database string // empty is named as the user
	From     string // the address it comes from, or Local
}

// Local is where clients of a Unix-domain socket come from.
const Local = "local"

// LogIn makes the login, and prints each step. It returns what failed, which it has printed.
func LogIn(ctx context.Context, out io.Writer, c config.Config, v Client) error {
	v.Database = cmp.Or(v.Database, v.User)
	_, _ = fmt.Fprintf(out, "login of %s to database %s from %s\n", v.User, v.Database, v.From)
	say := func(step, format string, args ...any) {
		_, _ = fmt.Fprintf(out, "  %-9s %s\n", step, fmt.Sprintf(format, args...))
	}
	fail := func(step string, err error) error {
		say(step, "fault: %v", err)
		return err
	}
	eff, ok := c.Resolve(v.User, v.Database)
	if !ok {
		return fail("database", fmt.Errorf("no entry of databases is for %q", v.Database))
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
	b, err := t.logIn(ctx)
	if err != nil {
		return fail("login", t.because(err))
	}
	defer b.Close()
	say("login", "ok")
	if err := t.statements(ctx, b, say, len(c.Clusters[eff.Cluster].Servers) != 1); err != nil {
		return fail("statement", err)
	}
	_, _ = fmt.Fprintln(out, "login: ok")
	return nil
}

// trial is a service that serves one client.
type trial struct {
	Client
	server *proxy.Server
	tls    bool
	log    bytes.Buffer // of JSON, written before the client is told
	dir    string       // of the Unix-domain socket
	within *within
	ended  sync.Once
}

func newTrial(c config.Config, v Client) (*trial, error) {
	t := &trial{Client: v, tls: c.TLS.Mode != "disable" && v.From != Local}
	c.Log.Connections, c.HTTP = false, ""
	network := proxy.Network{}
	if v.From == Local {
		dir, err := os.MkdirTemp("", "pgweir-")
		if err != nil {
			return nil, err
		}
		t.dir = dir
		c.Listen = config.Addresses{dir + ":6432"}
	} else {
		from, err := netip.ParseAddr(v.From)
		if err != nil {
			return nil, fmt.Errorf("--from: %q is neither an address nor local", v.From)
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
	client := auth.Client{User: t.User, Database: t.Database, Address: t.From, Local: t.From == Local}
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
func (t *trial) logIn(ctx context.Context) (*backend.Backend, error) {
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
	cred := backend.Credentials{User: t.User, Password: os.Getenv("PGPASSWORD")}
	login, err := backend.Open(ctx, o, cred, t.Database, map[string]string{"application_name": "pgweir check", "client_encoding": "UTF8"})
	if err != nil {
		return nil, err
	}
	return backend.New(login, 1), nil
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

// where asks a server with a hint who and where it is.
func where(ctx context.Context, b *backend.Backend, hint string) (row [3]string, err error) {
	err = b.Query(ctx, hint+whereQuery, func(v [][]byte) error {
		for i := range row {
			row[i] = string(v[i])
		}
		return nil
	})
	return row, err
}

// statements runs one on the primary and one on a replica.
func (t *trial) statements(ctx context.Context, b *backend.Backend, say func(step, format string, args ...any), replicas bool) error {
	row, err := where(ctx, b, "/* pgweir:primary */ ")
	if err != nil {
		return err
	}
	say("primary", "%s as %s", row[1], row[0])
	if !replicas {
		return nil
	}
	for tries := 0; ; tries++ {
		if row, err = where(ctx, b, "/* pgweir:replica */ "); err != nil {
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
