package page

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/console"
	"github.com/pgweir/pgweir/router"
)

// Notice is something that explains a refusal or a slow request, and what to do about it.
type Notice struct {
	Level string `json:"level"` // error, warning or info
	Text  string `json:"text"`
	Next  string `json:"next"`
	Docs  string `json:"docs"` // the page of docs that tells more
}

const (
	// longTransaction is from when on an idle transaction is worth a notice.
	longTransaction = 30 * time.Second
	// manyReads is what part of the reads on the primary is, and fewReads how many there must be.
	manyReads, fewReads = 0.1, 60
)

// notices say what stands out, the gravest first.
func (p *Page) notices(st *status, pools []poolRow, clients []console.Client, now time.Time) []Notice {
	sv, cfg := p.o.Service, p.o.Service.Config()
	all := []Notice{}
	all = append(all, ofServers(st, &cfg)...)
	all = append(all, ofPools(&cfg, pools, clients, now)...)
	for _, d := range sv.Databases() {
		switch {
		case d.Paused:
			all = append(all, Notice{"warning", "Database " + d.Name + " is paused: clients wait.", "RESUME at the console lets them go on.", "console"})
		case d.Disabled:
			all = append(all, Notice{"warning", "Database " + d.Name + " is disabled: new clients are refused (57P03).", "ENABLE at the console lets them in.", "console"})
		}
	}
	if n := len(clients); cfg.MaxClients > 0 && n*10 >= cfg.MaxClients*9 {
		all = append(all, Notice{"warning", fmt.Sprintf("%d of max_clients %d are connected; beyond, clients are refused (53300).", n, cfg.MaxClients), "Raise max_clients, or let applications keep fewer connections.", "operations"})
	}
	if _, differing := sv.Verified(); differing > 0 {
		all = append(all, Notice{"error", plural(int(differing), "server connection") + " carried something else than was believed; they were closed.", "The log has what it was, and what ran there.", "isolation"})
	}
	if sv.OnlyPrimary() {
		all = append(all, Notice{"warning", "Everything runs on the primary: an administrator has said ROUTE PRIMARY.", "ROUTE AUTO at the console ends it.", "console"})
	}
	all = append(all, p.ofReads()...)
	return append(all, ofTransactions(clients, now)...)
}

func ofServers(st *status, cfg *config.Config) (all []Notice) {
	primary := map[string]bool{}
	var clusters []string
	for i := range st.Servers {
		s := &st.Servers[i]
		if _, seen := primary[s.Cluster]; !seen {
			clusters = append(clusters, s.Cluster)
			primary[s.Cluster] = false
		}
		used := s.Status == cluster.StatusServing.String() || s.Status == cluster.StatusSlow.String()
		primary[s.Cluster] = primary[s.Cluster] || used && s.Role == cluster.RolePrimary.String()
		switch {
		case s.Status == cluster.StatusUnknown.String():
		case !used:
			all = append(all, Notice{"warning", because("Server "+s.Address+" is "+s.Status, s.Because), "What runs there goes elsewhere; see the word under status.", "failover"})
		case s.Status == cluster.StatusSlow.String():
			all = append(all, Notice{"warning", because("Server "+s.Address+" is slow to answer: reads go elsewhere", s.Because), "Look at its load, and at the network.", "failover"})
		case s.Because != "":
			all = append(all, Notice{"warning", because("Server "+s.Address+" serves", s.Because), "List it again, or list the primary that takes its place.", "failover"})
		case s.Disabled:
			all = append(all, Notice{"info", "Server " + s.Address + " gets no reads: it is disabled.", "ENABLE SERVER at the console gives it reads.", "console"})
		}
	}
	for _, name := range clusters {
		if !primary[name] {
			text := fmt.Sprintf("Cluster %s has no primary: writes wait for one, up to routing.primary_wait (%s), and are then refused (57P03).", name, cfg.Routing.PrimaryWait)
			all = append([]Notice{{"error", text, "Promote a replica, or start the primary.", "failover"}}, all...)
		}
	}
	return all
}

func because(what, why string) string {
	if why == "" {
		return what + "."
	}
	return what + ": " + strings.TrimSuffix(why, ".") + "."
}

// ofPools tells who waits for connections, and who has them.
func ofPools(cfg *config.Config, pools []poolRow, clients []console.Client, now time.Time) (all []Notice) {
	for _, p := range pools {
		if p.Waiting == 0 || p.MaxWait < 250 {
			continue
		}
		wait := cfg.Pool.AcquireTimeout
		if eff, ok := cfg.Resolve(p.User, p.Database); ok {
			wait = eff.AcquireTimeout
		}
		text := fmt.Sprintf("%s of user %s wait for a connection to database %s, the longest for %s; %d in use, and there may be %d to each server. After pool.acquire_timeout (%s) they are refused (53300).",
			plural(p.Waiting, "client"), p.User, p.Database, spoken(time.Duration(p.MaxWait*float64(time.Millisecond))), p.Used, p.Size, wait)
		if p.Waiting == 1 {
			text = strings.Replace(text, " wait for", " waits for", 1)
			text = strings.Replace(text, "they are refused", "it is refused", 1)
		}
		all = append(all, Notice{"error", text, holders(p, clients, now), "operations"})
	}
	return all
}

// holders says what keeps the connections of a pool.
func holders(p poolRow, clients []console.Client, now time.Time) string {
	held, idling, pinned := 0, 0, 0
	var longest time.Duration
	for _, c := range clients {
		if c.Database != p.Database || c.User != p.User || c.State != console.ClientActive {
			continue
		}
		held++
		if c.Idling {
			idling++
		}
		if c.Pins != "" {
			pinned++
		}
		if !c.Transaction.IsZero() {
			longest = max(longest, now.Sub(c.Transaction))
		}
	}
	if held == 0 {
		return "No client of this pool holds one: other pools, or the server's own limit, have them. See the connections of the servers."
	}
	return fmt.Sprintf("They are held by %s: %d idle in a transaction, %d pinned; the oldest transaction has lasted %s. Transactions, below, says whose it is.",
		plural(held, "client"), idling, pinned, spoken(longest))
}

// cures say what would let reads run on replicas, by the reason that they did not.
var cures = map[router.Reason]string{
	router.ReasonFreshness:   "Replicas lag behind: a weaker consistency level, or faster replicas.",
	router.ReasonNoReplica:   "No replica can serve: see the servers.",
	router.ReasonTransaction: "They are in transactions that write: reads outside, or BEGIN READ ONLY.",
	router.ReasonIsolation:   "READ COMMITTED, or BEGIN READ ONLY.",
	router.ReasonPinned:      "Pins, below, says what ties sessions to their connection.",
	router.ReasonNoCatalog:   "The catalog is read anew, as after DDL; the log says if that fails.",
	router.ReasonRoute:       "pgweir.route, or the route of the user or the database, says so.",
}

// ofReads says why reads run on the primary, if many do.
func (p *Page) ofReads() []Notice {
	before, after := p.sampler.earlier[0], p.sampler.last
	all := reads(after, router.TargetPrimary) - reads(before, router.TargetPrimary) +
		reads(after, router.TargetReplica) - reads(before, router.TargetReplica)
	var main router.Reason
	var most, sum uint64
	for r := range after.Statements[router.TargetPrimary] {
		n := after.Statements[router.TargetPrimary][r][router.ClassRead] - before.Statements[router.TargetPrimary][r][router.ClassRead]
		sum += n
		if n > most {
			main, most = router.Reason(r), n
		}
	}
	if all < fewReads || float64(sum) < manyReads*float64(all) {
		return nil
	}
	text := fmt.Sprintf("%.0f %% of the reads lately ran on the primary, most because of %s.", 100*float64(sum)/float64(all), main)
	next, ok := cures[main]
	if !ok {
		next = "Why statements went where, below, has the reasons."
	}
	return []Notice{{"info", text, next, "routing"}}
}

// ofTransactions tells of those that keep a connection without using it.
func ofTransactions(clients []console.Client, now time.Time) (all []Notice) {
	n, oldest := 0, console.Client{}
	for _, c := range clients {
		if c.Idling && c.Server != "" && now.Sub(c.Transaction) >= longTransaction {
			if n++; n == 1 || c.Transaction.Before(oldest.Transaction) {
				oldest = c
			}
		}
	}
	if n == 0 {
		return nil
	}
	text := fmt.Sprintf("%s for longer than %s; the oldest is client %d (user %s), for %s.", plural(n, "transaction")+" idle, holding a server connection,",
		longTransaction, oldest.ID, oldest.User, spoken(now.Sub(oldest.Transaction)))
	return []Notice{{"warning", text, "Commit before waiting for something else; timeouts.idle_transaction ends them.", "insights"}}
}

// spoken is a duration as people say it.
func spoken(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}
