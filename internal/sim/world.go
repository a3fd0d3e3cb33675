package sim

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/simpg"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy"
)

// Where hosts are. Servers have names too, by which the proxy knows them.
const (
	proxyHost    = "proxy"
	proxyAddress = "10.0.1.1:6432"
	database     = "app"

	// synchronous is the standby that COMMIT waits for, and the one that takes over: what
	// is acknowledged is there.
	synchronous = "replica1"
)

func serverName(i int) string    { return fmt.Sprintf("pg%d:5432", i+1) }
func serverAddress(i int) string { return fmt.Sprintf("10.0.0.%d:5432", i+1) }

// Outcome is what came of a run.
type Outcome struct {
	Trace  []string
	Faults []string // what was wrong; none is right
	Steps  int      // that were answered
	Took   time.Duration
}

// world is a run: everything that takes part in it. It lives in a bubble.
type world struct {
	h      *History
	began  time.Time
	net    *Network
	model  *simpg.Cluster
	alone  *simpg.Cluster // one server, on which every session's steps run a second time
	proxy  *proxy.Server
	reg    *prometheus.Registry
	oracle *oracle
	hosts  sync.WaitGroup // goroutines of the servers' listeners and sessions

	mu     sync.Mutex // protects the fields below
	trace  []string
	faults []string
	steps  int
}

// note adds a line to the trace.
func (w *world) note(format string, args ...any) {
	line := fmt.Sprintf("%12v  ", time.Since(w.began)) + fmt.Sprintf(format, args...)
	w.mu.Lock()
	w.trace = append(w.trace, line)
	w.mu.Unlock()
}

// fault notes something that must not be.
func (w *world) fault(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	w.note("FAULT: %s", what)
	w.mu.Lock()
	w.faults = append(w.faults, what)
	w.mu.Unlock()
}

// Clocks in a bubble begin in the year 2000.
func init() { cluster.CountFrom(time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)) }

// Play plays a history. It must be called in a bubble, and leaves no goroutine behind
// unless the proxy does.
func Play(h *History) (*Outcome, error) {
	w := &world{h: h, began: time.Now()}
	w.oracle = newOracle(w)
	k := &h.Knobs
	w.net = NewNetwork(h.Seed, delays{least: 20 * time.Microsecond, most: max(k.Delay, 50*time.Microsecond), stall: k.Stall, stalled: 200 * time.Millisecond},
		h.Faults, func(what string) { w.note("%s", what) })
	if err := w.startServers(); err != nil {
		return nil, err
	}
	if !k.Direct {
		if err := w.startProxy(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var clients, events sync.WaitGroup
	for i := range h.Scripts {
		clients.Go(func() { newSession(w, &h.Scripts[i]).play() })
	}
	for i := range h.Events {
		events.Go(func() { w.happen(ctx, &h.Events[i]) })
	}
	clients.Wait()
	cancel()
	events.Wait()
	if !k.Direct {
		w.rest()
	}
	w.oracle.atRest()
	w.end()
	return &Outcome{Trace: w.trace, Faults: w.faults, Steps: w.steps, Took: time.Since(w.began)}, nil
}

// image is what all clusters begin with.
var image = sync.OnceValue(func() *simpg.Image {
	c, err := simpg.New(simpg.Options{Databases: []string{database}, Setup: setup})
	if err != nil {
		panic(err)
	}
	return c.Image()
})

// startServers makes both models and has the servers of the cluster listen.
func (w *world) startServers() (err error) {
	k := &w.h.Knobs
	o := simpg.Options{
		Seed: uint64(w.h.Seed), Replicas: k.Replicas, Image: image(), Slots: k.Slots, SCRAM: k.SCRAM,
		Observer: (&observer{w.oracle, false}).statement,
	}
	if k.Replicas > 0 && !k.Async {
		o.Synchronous = []string{synchronous}
	}
	if w.model, err = simpg.New(o); err != nil {
		return fmt.Errorf("the model: %w", err)
	}
	o.Replicas, o.Slots, o.Synchronous, o.Observer = 0, 0, nil, (&observer{w.oracle, true}).statement
	if w.alone, err = simpg.New(o); err != nil {
		return fmt.Errorf("the model alone: %w", err)
	}
	for i, s := range w.model.Servers() {
		w.net.Name(serverName(i), serverAddress(i))
		if i > 0 {
			s.Lag(k.Lag)
		}
		if err := w.open(i); err != nil {
			return err
		}
	}
	return nil
}

// open has a server take connections.
func (w *world) open(i int) error {
	l, err := w.net.Listen("tcp", serverAddress(i))
	if err != nil {
		return err
	}
	s := w.model.Servers()[i]
	w.hosts.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.hosts.Go(func() { s.Serve(conn) })
		}
	})
	return nil
}

// config is what the proxy runs with.
func (w *world) config(k *Knobs) config.Config {
	c := config.Default()
	c.Listen, c.HTTP = config.Addresses{proxyAddress}, ""
	for i := range w.model.Servers() {
		c.Servers = append(c.Servers, config.Server{Address: serverName(i), Weight: 1})
	}
	c.ServerTLS.Mode = "disable"
	c.Service.User = simpg.Superuser
	c.Service.Database = database
	c.Auth.Method = "trust"
	if k.SCRAM {
		c.Auth.Method, c.Auth.Query = "scram-sha-256", "select name, secret from secrets where name = $1"
		c.Service.Password = password
	}
	c.Log.Connections = false
	c.Pool.Size = k.PoolSize
	if k.Acquire > 0 && k.PoolSize < len(w.h.Scripts) {
		c.Pool.AcquireTimeout = k.Acquire
	}
	if k.Statements > 0 {
		c.Pool.MaxStatements = k.Statements
	}
	c.Routing.Consistency, c.Routing.FreshnessWait = k.Consistency, k.Wait
	c.Settings.VerifyReleases = k.Verify
	if k.Declared {
		c.Tenant.Settings = []string{"app.tenant"}
	}
	return c.Complete()
}

func (w *world) startProxy() (err error) {
	w.reg = prometheus.NewRegistry()
	network := proxy.Network{Listen: w.net.Listen, Dial: w.net.Dialer(proxyHost)}
	if w.proxy, err = proxy.NewOver(network, w.config(&w.h.Knobs), zap.New(&logged{w: w}), w.reg); err != nil {
		return err
	}
	return w.proxy.Start()
}

// logged takes what the proxy logs: an error is a fault of its own.
type logged struct {
	w      *world
	fields []zapcore.Field
}

func (l *logged) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }
func (l *logged) With(f []zapcore.Field) zapcore.Core {
	return &logged{l.w, slices.Concat(l.fields, f)}
}
func (l *logged) Sync() error { return nil }
func (l *logged) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if l.Enabled(e.Level) {
		return ce.AddCore(e, l)
	}
	return ce
}

func (l *logged) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(l.fields, fields) {
		f.AddTo(enc)
	}
	var b strings.Builder
	b.WriteString(e.Message)
	for _, k := range slices.Sorted(maps.Keys(enc.Fields)) {
		if k != "pid" {
			fmt.Fprintf(&b, " %s=%v", k, enc.Fields[k])
		}
	}
	told := strings.HasPrefix(e.Message, "server is not used") ||
		strings.HasPrefix(e.Message, "several servers answer") && l.w.h.has(Exchange)
	refused := strings.Contains(e.Message, "could not take over") && l.w.h.calm() && enc.Fields["sqlstate"] != "57014"
	if (e.Level >= zapcore.ErrorLevel || refused) && !told {
		l.w.fault("the proxy logs: %s", b.String())
	} else {
		l.w.note("proxy: %s", b.String())
	}
	return nil
}

// rest checks that everything is given back once the clients have gone.
func (w *world) rest() {
	if w.h.calm() {
		time.Sleep(2 * time.Second)
	} else {
		time.Sleep(15 * time.Second) // the longest that a connection is waited for that is in use by nobody
	}
	if slices.ContainsFunc(w.h.Faults, func(f Fault) bool { return f.Kind == Silence }) {
		time.Sleep(keepAlive)
	}
	busy := w.busy()
	for range 4 { // perhaps idle connections are being verified, of servers that are silent for five seconds
		if len(busy) == 0 {
			return
		}
		time.Sleep(1700 * time.Millisecond)
		again := w.busy()
		busy = slices.DeleteFunc(busy, func(what string) bool { return !slices.Contains(again, what) })
	}
	for _, what := range busy {
		w.fault("at rest %s", what)
	}
}

// busy is what the proxy's metrics say is not at rest.
func (w *world) busy() (what []string) {
	families, err := w.reg.Gather()
	if err != nil {
		return []string{"metrics: " + err.Error()}
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			v, of := m.GetGauge().GetValue()+m.GetCounter().GetValue(), ""
			for _, l := range m.GetLabel() {
				of += " " + l.GetName() + "=" + l.GetValue()
			}
			switch name := f.GetName(); {
			case v == 0:
			case name == "pgweir_pool_connections" && strings.Contains(of, "state=used"),
				name == "pgweir_pool_waiting", name == "pgweir_clients", name == "pgweir_pool_refused_total":
				what = append(what, fmt.Sprintf("%s is %v:%s", name, v, of))
			}
		}
	}
	return what
}

// end ends everything.
func (w *world) end() {
	if w.proxy != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		w.proxy.Shutdown(ctx)
	}
	w.net.Close()
	w.model.Close()
	w.alone.Close()
	w.hosts.Wait()
}

// clientsDial is where clients go.
func (w *world) clientsDial() string {
	if w.h.Knobs.Direct {
		return serverName(0)
	}
	return proxyAddress
}

// dialProxy opens a client's connection.
func (w *world) dialProxy(from string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return w.net.Dialer(from)(ctx, "tcp", w.clientsDial())
}

// dialAlone opens a connection to the server that runs everything a second time. It takes
// no time.
func (w *world) dialAlone() net.Conn {
	k := newLink("client:1", "alone:5432", 0, w.h.Seed, delays{}, nil)
	k.forth.instant, k.back.instant = true, true
	w.hosts.Go(func() {
		w.alone.Servers()[0].Serve(&Conn{in: k.forth, out: k.back, local: "alone:5432", remote: "client:1"})
	})
	return &Conn{in: k.back, out: k.forth, local: "client:1", remote: "alone:5432"}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

var _ io.Closer = (net.Conn)(nil)

// calm reports whether nothing fails in a history, so that every answer must be right.
func (h *History) calm() bool {
	for i := range h.Events {
		switch h.Events[i].Do {
		case Lag, Admin, Reload:
		case Crash, Stop, Promote, Freeze, Reset, Exchange, Terminate, Cancel, Drain:
			return false
		}
	}
	return len(h.Faults) == 0 && h.Knobs.Slots == 0
}

// redefines reports whether anything in a history changes the catalog.
func (h *History) redefines() bool {
	if slices.ContainsFunc(h.Events, func(e Event) bool { return e.Do == Admin }) {
		return true
	}
	for i := range h.Scripts {
		for j := range h.Scripts[i].Steps {
			text := h.Scripts[i].Steps[j].String()
			for _, verb := range []string{"create ", "alter ", "drop ", "truncate "} {
				if strings.Contains(text, verb) {
					return true
				}
			}
		}
	}
	return false
}

// lostCodes are what a client is told of servers that fail.
var lostCodes = []string{"08006", "57P01", "57P02", "57P03", "53300"}

// mayFail reports whether a client must expect an error of its servers' failing.
func (w *world) mayFail(code string) bool {
	if w.h.calm() {
		return code == "53300" && w.h.shares()
	}
	return slices.Contains(lostCodes, code) ||
		code == "57014" && slices.ContainsFunc(w.h.Events, func(e Event) bool { return e.Do == Cancel })
}

// promised reports whether a session must see what another, or itself, has committed.
func (w *world) promised(owner, marker string) bool {
	switch w.h.Knobs.Consistency {
	case "eventual":
		return false
	case "session", "tenant":
		return strings.HasPrefix(marker, owner+".")
	}
	return true
}

func (w *world) answered() {
	w.mu.Lock()
	w.steps++
	w.mu.Unlock()
}

// over reports whether the proxy serves nobody any more.
func (w *world) over() bool { return w.proxy != nil && w.proxy.Draining() }
