package demo

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// stop is one stop of the tour: statements run in order on one connection.
type stop struct {
	title string
	why   string // one line on what is to be seen
	run   []string
	// prepared is a statement to prepare once and to execute with each of args.
	prepared string
	args     []string
	// follows is that no time must pass after the stop before. At others the replicas first
	// catch up with what was written, or reads would go to the primary.
	follows bool
}

var stops = []stop{
	{
		title: "A read runs on a replica",
		run:   []string{"select id, name, plan from organizations order by id"},
	}, {
		title: "Reads are shared among the replicas",
		run: []string{
			"select count(*) from organizations where id > 0",
			"select count(*) from organizations where id > 1",
			"select count(*) from organizations where id > 2",
			"select count(*) from organizations where id > 3",
		},
	}, {
		title: "A write runs on the primary",
		run:   []string{"update organizations set plan = 'plus' where id = 3"},
	}, {
		title:   "A read at once after it sees what was written",
		why:     "It runs on the primary as long as no replica is known to have caught up.",
		run:     []string{"select name, plan from organizations where id = 3"},
		follows: true,
	}, {
		title: "A moment later it runs on a replica, and sees it all the same",
		run:   []string{"select name, plan from organizations where id = 3"},
	}, {
		title: "A transaction begins on a replica and moves to the primary at its first write",
		why:   "BEGIN is answered at once and sent with the first statement that needs a server.",
		run: []string{
			"begin",
			"select plan from organizations where id = 1",
			"update organizations set plan = 'plus' where id = 1",
			"select plan from organizations where id = 1",
			"commit",
		},
	}, {
		title: "Row-level security: organization 1 sees its own deliveries",
		why:   "The setting is in force on whichever server runs the statement.",
		run:   tenant(1),
	}, {
		title: "Row-level security: organization 2 sees others",
		run:   tenant(2),
	}, {
		title: "Without the setting there is nothing to see",
		why:   "No client inherits another's setting along with its server connection.",
		run:   []string{"select count(*) from deliveries"},
	}, {
		title: "A function that writes goes to the primary, though SELECT calls it",
		run:   []string{"select next_tracking_code()"},
	}, {
		title: "So does a read that locks rows",
		run:   []string{"select name from organizations where id = 2 for update"},
	}, {
		title:    "A prepared statement runs on any server",
		why:      "It is prepared there when first needed.",
		prepared: "select name from organizations where id = $1",
		args:     []string{"1", "2", "3", "4"},
	}, {
		title: "A cursor stays where it was opened",
		run: []string{
			"begin",
			"declare c cursor for select name from organizations order by id",
			"fetch 2 from c",
			"fetch 2 from c",
			"commit",
		},
	}, {
		title: "EXPLAIN of a read is a read",
		run:   []string{"explain (costs off) select * from organizations where id = 1"},
	},
}

// tenant reads as an application does that names its tenant for each transaction.
func tenant(org int) []string {
	return []string{
		"begin",
		fmt.Sprintf("set local app.current_org_id = '%d'", org),
		"select organization_id, count(*), min(address) from deliveries group by 1",
		"commit",
	}
}

// ran is where one statement ran, as the proxy's notice tells.
type ran struct {
	address string // of the server; "proxy" if no server was needed
	role    string
	reason  string
	took    time.Duration
}

var trace = regexp.MustCompile(`^pgweir: (\S+) (\S+) (.+) (\d+)µs$`)

func parseTrace(message string) (ran, bool) {
	m := trace.FindStringSubmatch(message)
	if m == nil {
		return ran{}, false
	}
	took, err := time.ParseDuration(m[4] + "us")
	return ran{address: m[1], role: m[2], reason: m[3], took: took}, err == nil
}

// guide takes the tour on one connection.
type guide struct {
	conn  *pgconn.PgConn
	names map[string]string // of the servers, by address
	seen  []ran             // notices since the last statement
	print *printer
}

func runTour(ctx context.Context, c *pgtest.Cluster, address string, in *Insights, p *printer) error {
	g := &guide{names: map[string]string{"proxy": "pgweir itself"}, print: p}
	for _, s := range c.Servers() {
		g.names[s.Addr()] = s.Name
	}
	if err := g.start(ctx, address); err != nil {
		return err
	}
	defer g.conn.Close(context.WithoutCancel(ctx))
	for i, s := range stops {
		if !s.follows {
			if err := g.settle(ctx); err != nil {
				return err
			}
		}
		p.title(i+1, s.title, s.why)
		if err := g.visit(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
	}
	if in == nil {
		return nil
	}
	owner, err := connect(ctx, address, pgtest.Superuser, nil)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	if err := g.showInsights(ctx, owner, in, len(stops)+1); err != nil {
		return fmt.Errorf("insights: %w", err)
	}
	return nil
}

// connect logs in through the proxy.
func connect(ctx context.Context, address, user string, onNotice pgconn.NoticeHandler) (*pgconn.PgConn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable application_name=tour",
		host, port, user, Database))
	if err != nil {
		return nil, err
	}
	cfg.OnNotice = onNotice
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return conn, nil
}

// start connects as the application, and has each statement told where it ran.
func (g *guide) start(ctx context.Context, address string) (err error) {
	g.conn, err = connect(ctx, address, App, func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if r, ok := parseTrace(n.Message); ok {
			g.seen = append(g.seen, r)
		}
	})
	if err != nil {
		return err
	}
	_, err = g.conn.Exec(ctx, "set pgweir.trace = on").ReadAll()
	return err
}

// settleTimeout is how long the proxy may take to learn the servers' roles and the catalog, and
// the replicas to catch up.
const settleTimeout = 10 * time.Second

// settle waits until a read runs on a replica: what is not known yet goes to the
// primary. A proxy that never does so is shown as it is.
func (g *guide) settle(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.Now().Add(settleTimeout)
	for time.Now().Before(limit) {
		if _, err := g.conn.Exec(ctx, "select name from organizations where id = 1").ReadAll(); err != nil {
			return err
		}
		replica := len(g.seen) > 0 && g.seen[len(g.seen)-1].role == "replica"
		g.seen = nil
		if replica {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func (g *guide) visit(ctx context.Context, s stop) error {
	for _, sql := range s.run {
		results, err := g.conn.Exec(ctx, sql).ReadAll()
		if err != nil {
			return err
		}
		g.report(sql, results...)
	}
	if s.prepared == "" {
		return nil
	}
	if _, err := g.conn.Prepare(ctx, "tour", s.prepared, nil); err != nil {
		return err
	}
	g.seen = nil // where it was described is not where it runs
	for _, arg := range s.args {
		result := g.conn.ExecPrepared(ctx, "tour", [][]byte{[]byte(arg)}, nil, nil).Read()
		if result.Err != nil {
			return result.Err
		}
		g.report(s.prepared+" -- $1 is "+arg, result)
	}
	return nil
}

func (g *guide) report(sql string, results ...*pgconn.Result) {
	where := ran{address: "unknown", role: "-", reason: "pgweir sent no trace"}
	if len(g.seen) > 0 {
		where = g.seen[len(g.seen)-1]
	}
	g.seen = nil
	name := g.names[where.address]
	if name == "" {
		name = where.address
	}
	g.print.statement(sql, name, where)
	for _, r := range results {
		g.print.rows(r)
	}
}
