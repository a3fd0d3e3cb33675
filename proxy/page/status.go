package page

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/proxy/console"
	"github.com/pgweir/pgweir/router"
)

// most is how many rows there are of what grows with clients and statements: the page says how many are left out.
const most = 20

// status is what the page shows of a moment. Durations are in milliseconds, and below 0 if not known.
type status struct {
	At         int64       `json:"at"` // milliseconds since 1970
	Version    string      `json:"version"`
	Up         float64     `json:"up"`
	NotReady   string      `json:"not_ready"` // why clients cannot be served
	Window     float64     `json:"window"`    // how long "lately" is
	Point      Point       `json:"point"`
	Notices    []Notice    `json:"notices"`
	ReadShare  float64     `json:"read_share"` // of reads lately, those that replicas served; below 0 if there were none
	Clients    clientCount `json:"clients"`
	Times      []timeRow   `json:"times"`
	Servers    []serverRow `json:"servers"`
	Routes     []routeRow  `json:"routes"`
	Pools      list        `json:"pools"`
	Waiting    list        `json:"waiting"`
	Open       list        `json:"transactions"`
	Pinned     list        `json:"pins"`
	Statements *statements `json:"statements"` // null if they are not counted
	Unfiltered list        `json:"unfiltered"`
	Events     []Event     `json:"events"`
}

// list are the first rows of so many.
type list struct {
	Rows any `json:"rows"`
	All  int `json:"all"`
}

// first are the first rows, as a page shows them.
func first[T, R any](all []T, row func(T) R) list {
	rows := make([]R, 0, most)
	for _, v := range all[:min(len(all), most)] {
		rows = append(rows, row(v))
	}
	return list{rows, len(all)}
}

type clientCount struct {
	All     int `json:"all"`
	Active  int `json:"active"`
	Waiting int `json:"waiting"`
	Idling  int `json:"idle_in_transaction"`
}

type timeRow struct {
	Target  string  `json:"target"`
	Batches uint64  `json:"batches"`
	P50     float64 `json:"p50"`
	P95     float64 `json:"p95"`
	P99     float64 `json:"p99"`
}

type serverRow struct {
	Cluster   string  `json:"cluster"`
	Address   string  `json:"address"`
	Role      string  `json:"role"`
	Status    string  `json:"status"`
	Disabled  bool    `json:"disabled"`
	Since     float64 `json:"since"`
	Lag       int64   `json:"lag"` // bytes; below 0 if not known
	Staleness float64 `json:"staleness"`
	Rate      float64 `json:"rate"`
	Share     float64 `json:"share"` // of its cluster's
	Load      int64   `json:"load"`
	Open      int     `json:"open"`
	Bound     int     `json:"bound"`
	Because   string  `json:"because"`
}

type routeRow struct {
	Target string `json:"target"`
	Reason string `json:"reason"`
	Lately uint64 `json:"lately"`
	All    uint64 `json:"all"`
}

type poolRow struct {
	Database string  `json:"database"`
	User     string  `json:"user"`
	Mode     string  `json:"mode"`
	Clients  int     `json:"clients"`
	Waiting  int     `json:"waiting"`
	MaxWait  float64 `json:"max_wait"`
	Used     int     `json:"used"`
	Idle     int     `json:"idle"`
	Login    int     `json:"login"`
	Size     int     `json:"size"` // to one server; 0 if not known
}

// sessionRow is a client that waits, is in a transaction or is tied to its connection.
type sessionRow struct {
	ID          uint64  `json:"id"`
	PID         uint32  `json:"pid"`
	Database    string  `json:"database"`
	User        string  `json:"user"`
	Application string  `json:"application"`
	State       string  `json:"state"`
	Age         float64 `json:"age"` // of what the list is about
	Server      string  `json:"server"`
	ServerPID   uint32  `json:"server_pid"`
	Pins        string  `json:"pins"`
}

type statements struct {
	Since int64 `json:"since"`
	Left  int   `json:"left"`
	list
}

type statementRow struct {
	Database  string `json:"database"`
	Statement string `json:"statement"`
	// Fingerprint is empty of what stands for other statements, which has no page of its own.
	Fingerprint string `json:"fingerprint"`

	Target string  `json:"target"`
	Calls  uint64  `json:"calls"`
	Total  float64 `json:"total"`
	P50    float64 `json:"p50"`
	P95    float64 `json:"p95"`
	Waited float64 `json:"waited"`
	Rows   uint64  `json:"rows"`
	Share  float64 `json:"share"` // of the time of all
}

// status asks the service.
func (p *Page) status(now time.Time) *status {
	s, sv := &p.sampler, p.o.Service
	before, after := s.earlier[0], s.last
	st := &status{
		At: now.UnixMilli(), Version: p.o.Version, Up: ms(now.Sub(p.began)), Window: ms(after.at.Sub(before.at)),
		ReadShare: readShare(before, after), Routes: routes(before, after), Servers: s.servers(now, sv), Events: p.o.Events.list(),
	}
	if err := sv.Ready(); err != nil {
		st.NotReady = err.Error()
	}
	for _, t := range []router.Target{router.TargetReplica, router.TargetPrimary} {
		took := of(before, after, t)
		st.Times = append(st.Times, timeRow{t.String(), took.Count(), ms(took.Quantile(0.5)), ms(took.Quantile(0.95)), ms(took.Quantile(0.99))})
	}
	pools := p.pools(sv)
	st.Pools = list{pools[:min(len(pools), most)], len(pools)}
	clients := sv.Clients()
	st.clients(clients, now)
	if now.Sub(s.slow.at) >= slowly {
		s.slow = readSlow(sv, now)
	}
	st.Statements, st.Unfiltered = s.slow.statements, s.slow.unfiltered
	st.Notices = p.notices(st, pools, clients, now)
	return st
}

func readShare(before, after sample) float64 {
	r := reads(after, router.TargetReplica) - reads(before, router.TargetReplica)
	all := r + reads(after, router.TargetPrimary) - reads(before, router.TargetPrimary)
	if all == 0 {
		return -1
	}
	return float64(r) / float64(all)
}

// routes are why statements went where they did, what was most of late first.
func routes(before, after sample) []routeRow {
	rows := []routeRow{}
	for t := range after.Statements {
		for r := range after.Statements[t] {
			row := routeRow{Target: router.Target(t).String(), Reason: router.Reason(r).String()}
			for c, n := range after.Statements[t][r] {
				row.All += n
				row.Lately += n - before.Statements[t][r][c]
			}
			if row.All > 0 {
				rows = append(rows, row)
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b routeRow) int {
		return cmp.Or(cmp.Compare(b.Lately, a.Lately), cmp.Compare(b.All, a.All))
	})
	return rows
}

func (s *sampler) servers(now time.Time, sv Service) []serverRow {
	rates := s.shares(now, sv.Acquired())
	all := map[string]float64{}
	rows := []serverRow{}
	for _, v := range sv.Servers() {
		row := serverRow{
			Cluster: v.Cluster, Address: v.Address, Role: v.Role, Status: v.Status, Disabled: v.Disabled, Since: -1,
			Lag: v.Lag, Staleness: -1, Rate: rates[v.Address], Load: v.Load, Open: v.Open, Bound: v.Bound, Because: clipped(v.Err),
		}
		if !v.Since.IsZero() {
			row.Since = ms(now.Sub(v.Since))
		}
		if v.Staleness >= 0 {
			row.Staleness = ms(v.Staleness)
		}
		all[v.Cluster] += row.Rate
		rows = append(rows, row)
	}
	for i := range rows {
		if sum := all[rows[i].Cluster]; sum > 0 {
			rows[i].Share = rows[i].Rate / sum
		}
	}
	return rows
}

// pools are those that clients wait for first, then those in use.
func (p *Page) pools(sv Service) []poolRow {
	cfg := sv.Config()
	rows := []poolRow{}
	for _, v := range sv.Pools() {
		row := poolRow{v.Database, v.User, v.Mode, v.Clients, v.Waiting, ms(v.MaxWait), v.Used, v.Idle, v.Login, 0}
		if eff, ok := cfg.Resolve(v.User, v.Database); ok {
			row.Size = eff.PoolSize
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b poolRow) int {
		return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(b.Used, a.Used), cmp.Compare(b.Clients, a.Clients))
	})
	return rows
}

// clients are counted, and listed by what they do.
func (st *status) clients(all []console.Client, now time.Time) {
	var waiting, open, pinned []console.Client
	for _, c := range all {
		switch {
		case c.State == console.ClientWaiting:
			st.Clients.Waiting++
			waiting = append(waiting, c)
		case c.Idling:
			st.Clients.Idling++
		case c.State == console.ClientActive && !c.Transaction.IsZero():
			st.Clients.Active++
		}
		if !c.Transaction.IsZero() {
			open = append(open, c)
		}
		if c.Pins != "" {
			pinned = append(pinned, c)
		}
	}
	st.Clients.All = len(all)
	st.Waiting = oldest(waiting, now, func(c console.Client) time.Time { return c.Asked })
	st.Open = oldest(open, now, func(c console.Client) time.Time { return c.Transaction })
	st.Pinned = oldest(pinned, now, func(c console.Client) time.Time { return c.Pinned })
}

func oldest(all []console.Client, now time.Time, since func(console.Client) time.Time) list {
	slices.SortFunc(all, func(a, b console.Client) int { return since(a).Compare(since(b)) })
	return first(all, func(c console.Client) sessionRow {
		return sessionRow{
			c.ID, c.PID, c.Database, c.User, clipped(c.Application), doing(c), ms(max(now.Sub(since(c)), 0)), c.Server, c.ServerPID, c.Pins,
		}
	})
}

// doing is what a client does, in the words of the metrics.
func doing(c console.Client) string {
	switch {
	case c.Idling:
		return "idle in transaction"
	case c.State == console.ClientActive && c.Transaction.IsZero():
		return "idle" // and tied to its connection
	}
	return c.State.String()
}

// slow is what is asked for every slowly only.
type slow struct {
	at         time.Time
	statements *statements
	unfiltered list
}

const slowly = 5 * time.Second

func readSlow(sv Service, now time.Time) slow {
	s := slow{at: now, unfiltered: unfiltered(sv)}
	sum, counted := sv.Insights()
	if !counted {
		return s
	}
	total := 0.0
	for i := range sum.Statements {
		total += sum.Statements[i].Total
	}
	s.statements = &statements{sum.Since.UnixMilli(), sum.Left, first(sum.Statements, func(r insight.Row) statementRow {
		row := statementRow{r.Database, clipped(r.Statement), r.Fingerprint, r.Target, r.Calls, r.Total, r.P50, r.P95, r.Waited, r.Rows, 0}
		if total > 0 {
			row.Share = r.Total / total
		}
		return row
	})}
	return s
}

// unfilteredColumns are those of the audit's that are shown.
var unfilteredColumns = []string{"database", "severity", "kind", "tables", "count", "mode", "statement", "user", "application", "last_seen"}

func unfiltered(sv Service) list {
	columns, rows := sv.Unfiltered()
	return first(rows, func(row []string) map[string]string {
		shown := map[string]string{}
		for i, c := range columns {
			if slices.Contains(unfilteredColumns, c) {
				shown[c] = clipped(row[i])
			}
		}
		return shown
	})
}

// plural is a number with its noun.
func plural(n int, one string) string {
	s := strconv.Itoa(n) + " " + one
	if n == 1 {
		return s
	}
	if strings.HasSuffix(one, "y") {
		return strings.TrimSuffix(s, "y") + "ies"
	}
	return s + "s"
}
