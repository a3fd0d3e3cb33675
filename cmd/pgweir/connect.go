package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/pool/probe"
)

// moreLogins is how many logins, besides the first, are to show whether one server answers.
const moreLogins = 3

// serverState is what one server said of itself.
type serverState struct {
	cluster.Probe
	err     error
	version string
	slots   int  // sessions of ordinary roles it lets in
	many    bool // another login was answered by another server
}

// checkServers prints a table for every cluster and what is wrong with it. With loginToo a
// client's login follows, which may do without an account of pgweir's own.
func checkServers(ctx context.Context, out io.Writer, c config.Config, who account, loginToo bool) error {
	faults, unasked := 0, 0
	for _, name := range c.ClusterNames() {
		cl, err := located(ctx, c.Clusters[name])
		if err != nil {
			faults++
			_, _ = fmt.Fprintf(out, "cluster %s\n  fault: %v\n", name, err)
			continue
		}
		cred, err := who.credentials(cl.Service)
		switch {
		case err != nil && loginToo:
			unasked++
			_, _ = fmt.Fprintf(out, "cluster %s\n  warning: %v\n", name, err)
			continue
		case err != nil:
			faults++
			_, _ = fmt.Fprintf(out, "cluster %s\n  fault: %v\n", name, err)
			continue
		}
		states := askAll(ctx, c, cl, cred)
		if err := printCluster(out, name, cl, states); err != nil {
			return err
		}
		printSlots(out, c.Pool, cl, states)
		for _, fault := range judge(cl, states) {
			faults++
			_, _ = fmt.Fprintf(out, "  fault: %s\n", fault)
		}
		if i := reachable(states); i >= 0 {
			faults += checkLookUps(ctx, out, c, name, cl.Servers[i])
			recommend(ctx, out, c, name, cl.Servers[i], cred)
		} else if len(states) > 0 && cred.User == cl.Service.User {
			printCure(out, cl, states[0].err, "")
		}
	}
	if faults > 0 {
		_, _ = fmt.Fprintf(out, "%s\n", count(faults, "fault"))
		return errReported
	}
	if unasked == 0 {
		_, _ = fmt.Fprintln(out, "servers: ok")
	}
	return nil
}

func askAll(ctx context.Context, c config.Config, cl config.Cluster, cred backend.Credentials) []serverState {
	states := make([]serverState, len(cl.Servers))
	var wg sync.WaitGroup
	for i, s := range cl.Servers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, c.Pool.ConnectTimeout)
			defer cancel()
			states[i].err = states[i].ask(ctx, cl, s, cred)
		})
	}
	wg.Wait()
	return states
}

func (st *serverState) ask(ctx context.Context, cl config.Cluster, s config.Server, cred backend.Credentials) error {
	open := func(ctx context.Context, _ *cluster.Server) (*backend.Backend, error) {
		login, err := openTo(ctx, cl, s, cred, cl.Service.Database)
		if err != nil {
			return nil, err
		}
		st.version, _, _ = strings.Cut(login.Parameters["server_version"], " ")
		b := backend.New(login, 1)
		if st.slots == 0 {
			if st.slots, _, err = backend.AskSlots(ctx, b); err != nil {
				b.Close()
				return nil, fmt.Errorf("ask how many connections it lets in: %w", err)
			}
		}
		return b, nil
	}
	prober := probe.NewProber(open, probe.Flavour(cl.Flavour), time.Minute, time.Minute)
	defer prober.Close()
	server := cluster.NewServer(s.Address, s.Weight)
	for i := range 1 + moreLogins {
		found, err := prober.Probe(ctx, server, true)
		if err != nil {
			return err
		}
		if i == 0 {
			st.Probe = found
		}
		st.many = st.many || found.Started != st.Started
	}
	return nil
}

// systemID is the identifier of the cluster: that of most servers, of one with a primary among
// equals.
func systemID(states []serverState) (id string) {
	votes := map[string]int{}
	for _, st := range states {
		if st.err != nil {
			continue
		}
		votes[st.SystemID] += 2
		if !st.InRecovery {
			votes[st.SystemID] |= 1
		}
	}
	for _, st := range states {
		if votes[st.SystemID] > votes[id] {
			id = st.SystemID
		}
	}
	return id
}

// succession divides the cluster's primaries into those on the highest timeline, each once, and
// older ones. Timelines of another cluster say nothing.
func succession(states []serverState) (newest, old []int) {
	id := systemID(states)
	for i, st := range states {
		switch {
		case st.err != nil || st.InRecovery || st.SystemID != id:
		case len(newest) == 0 || st.Timeline > states[newest[0]].Timeline:
			old = append(old, newest...)
			newest = []int{i}
		case st.Timeline == states[newest[0]].Timeline:
			if !slices.ContainsFunc(newest, func(j int) bool { return st.Started != "" && st.Started == states[j].Started }) {
				newest = append(newest, i)
			}
		default:
			old = append(old, i)
		}
	}
	return newest, old
}

// reachable is the index of the server to ask further: the primary, else any that
// answered, -1 if none did.
func reachable(states []serverState) int {
	if newest, _ := succession(states); len(newest) > 0 {
		return newest[0]
	}
	return slices.IndexFunc(states, func(st serverState) bool { return st.err == nil })
}

func printCluster(out io.Writer, name string, cl config.Cluster, states []serverState) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "cluster %s\n  server\trole\tversion\ttimeline\tlag\tsystem identifier\n", name)
	first, _ := succession(states)
	for i, st := range states {
		role, lag := "primary", "-"
		switch {
		case st.err != nil:
			said := "unreachable"
			if errors.As(st.err, new(*pgconn.PgError)) {
				said = "refused"
			}
			_, _ = fmt.Fprintf(w, "  %s\t%s\t-\t-\t-\t-\n", cl.Servers[i].Address, said)
			continue
		case st.InRecovery:
			role = "replica"
			if len(first) == 1 && st.Unproved == nil && st.SystemID == states[first[0]].SystemID {
				// The servers were asked at once, so a replica may seem ahead.
				lag = formatLag(max(int64(states[first[0]].LSN)-int64(st.LSN), 0))
			}
		}
		_, _ = fmt.Fprintf(w, "  %s\t%s\t%s\t%d\t%s\t%s\n", cl.Servers[i].Address, role, st.version, st.Timeline, lag, st.SystemID)
	}
	return w.Flush()
}

// printSlots says whether the servers let in what pools may open.
func printSlots(out io.Writer, p config.Pool, cl config.Cluster, states []serverState) {
	for i, st := range states {
		if st.err != nil {
			continue
		}
		words, fits := p.Demand(cl.Servers[i], st.slots)
		kind := "connections"
		if !fits {
			kind = "warning"
		}
		_, _ = fmt.Fprintf(out, "  %s: %s: %s\n", kind, cl.Servers[i].Address, words)
	}
}

func formatLag(bytes int64) string {
	switch {
	case bytes < 10<<10:
		return fmt.Sprintf("%d B", bytes)
	case bytes < 10<<20:
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}

// judge says what is wrong with a cluster.
func judge(cl config.Cluster, states []serverState) []string {
	var faults []string
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	id := systemID(states)
	reached := -1 // the server the others are compared with: the primary, or the first of the cluster
	for i, st := range states {
		unsupported := cluster.Supported(st.Version)
		switch {
		case st.err != nil:
			said := strings.TrimPrefix(st.err.Error(), "connect to server "+cl.Servers[i].Address+": ")
			add("%s: %s", cl.Servers[i].Address, strings.ReplaceAll(said, "\n", "; "))
			continue
		case unsupported != nil:
			add("%s: %v", cl.Servers[i].Address, unsupported)
		}
		if st.many {
			add("%s: several servers answer at this address; give each an address of its own, or reads there go to the primary", cl.Servers[i].Address)
		}
		if st.Unproved != nil {
			add("%s: it does not tell how far it is, so that reads above eventual run elsewhere: %v", cl.Servers[i].Address, st.Unproved)
		}
		if reached < 0 && st.SystemID == id {
			reached = i
		}
	}
	switch p, old := succession(states); {
	case len(p) == 0 && reached >= 0:
		add("no server is a primary; writes would wait for one")
	case len(p) > 1:
		add("%s and %s are both primaries on timeline %d; pgweir uses none until one is gone", cl.Servers[p[0]].Address, cl.Servers[p[1]].Address, states[p[0]].Timeline)
	case len(p) == 1:
		reached = p[0]
		for _, i := range old {
			add("%s is an old primary on timeline %d; %s has succeeded it on timeline %d: rewind it (pg_rewind) or clone it anew",
				cl.Servers[i].Address, states[i].Timeline, cl.Servers[reached].Address, states[reached].Timeline)
		}
	}
	for i, st := range states {
		switch base := max(reached, 0); {
		case st.err != nil || i == base:
		case st.SystemID != id:
			add("%s has system identifier %s, %s has %s: they are not one cluster: take the wrong one out of servers", cl.Servers[i].Address, st.SystemID, cl.Servers[base].Address, id)
		case st.InRecovery && st.Timeline != states[base].Timeline:
			add("%s is on timeline %d, %s on %d: it does not follow", cl.Servers[i].Address, st.Timeline, cl.Servers[base].Address, states[base].Timeline)
		}
	}
	return faults
}
