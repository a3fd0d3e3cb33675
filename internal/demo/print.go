package demo

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/fatih/color"
	"github.com/jackc/pgx/v5/pgconn"
)

// printer writes the demo's text, coloured if it goes to a terminal.
type printer struct {
	out     io.Writer
	began   time.Time
	head    *color.Color
	dim     *color.Color
	primary *color.Color
	replica *color.Color
	plain   *color.Color
}

func newPrinter(out io.Writer) *printer {
	p := &printer{
		out: out, began: time.Now(),
		head:    color.New(color.Bold),
		dim:     color.New(color.Faint),
		primary: color.New(color.FgYellow),
		replica: color.New(color.FgGreen),
		plain:   color.New(),
	}
	for _, c := range []*color.Color{p.head, p.dim, p.primary, p.replica, p.plain} {
		if colourful(out) {
			c.EnableColor()
		} else {
			c.DisableColor()
		}
	}
	return p
}

// colourful tells whether out is a terminal whose user did not ask for plain text.
func colourful(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok || f != os.Stdout {
		return false
	}
	return !color.NoColor // which package color found out for standard output
}

// step prints one step of the preparation with the time since the start.
func (p *printer) step(format string, args ...any) {
	p.dim.Fprintf(p.out, "%6.2fs ", time.Since(p.began).Seconds())
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *printer) title(n int, title, why string) {
	p.head.Fprintf(p.out, "\n%2d. %s\n", n, title)
	if why != "" {
		p.dim.Fprintf(p.out, "    %s\n", why)
	}
}

// statement prints a statement and where it ran.
func (p *printer) statement(sql, server string, r ran) {
	c := p.plain
	switch r.role {
	case "primary":
		c = p.primary
	case "replica":
		c = p.replica
	}
	where := server
	if host, _, err := net.SplitHostPort(r.address); err == nil && host != "" {
		where = fmt.Sprintf("%s (%s)", server, r.address)
	}
	fmt.Fprintf(p.out, "    %s\n", sql)
	p.dim.Fprint(p.out, "      ran on ")
	c.Fprintf(p.out, "%-26s", where)
	if r.role == "-" {
		p.dim.Fprintf(p.out, " %s\n", r.reason)
		return
	}
	p.dim.Fprintf(p.out, " role %s, reason: %s, %v\n", r.role, r.reason, r.took)
}

// shown is how many rows of a result are printed.
const shown = 4

func (p *printer) rows(r *pgconn.Result) {
	for i, row := range r.Rows {
		if i == shown {
			p.dim.Fprintf(p.out, "      … %d more\n", len(r.Rows)-shown)
			return
		}
		values := make([]string, len(row))
		for j, v := range row {
			values[j] = string(v)
		}
		fmt.Fprintf(p.out, "      | %s\n", strings.Join(values, " | "))
	}
	if len(r.FieldDescriptions) > 0 && len(r.Rows) == 0 {
		p.dim.Fprintln(p.out, "      | no rows")
	}
}

// farewell tells how to go on by hand.
func (p *printer) farewell(o Options, config string) {
	host, port, _ := net.SplitHostPort(o.Listen) // checked before it was listened on
	p.head.Fprintf(p.out, "\nThe proxy stays up until Ctrl-C. In another terminal:\n")
	fmt.Fprintf(p.out, "    psql \"host=%s port=%s user=%s dbname=%s\"\n", host, port, App, Database)
	fmt.Fprintf(p.out, "        set pgweir.trace = on;      -- tells where each statement runs\n")
	if o.HTTP != "" {
		fmt.Fprintf(p.out, "    %s insights findings --config %s\n", os.Args[0], config)
		fmt.Fprintf(p.out, "    status page: http://%s/, Prometheus metrics: http://%s/metrics\n", o.HTTP, o.HTTP)
	}
}
