package page

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/proxy/console"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/router"
)

// fake is a Service that says what it is told to.
type fake struct {
	cfg       config.Config
	servers   []console.Server
	pools     []console.Pool
	clients   []console.Client
	databases []console.Database
	sum       *insight.Summary
	book      *insight.Book
	baseline  *insight.Snapshot
	counted   *metrics.Metrics
	taken     map[string]uint64
	primary   bool
	differing uint64
	ready     error
	asked     atomic.Int64 // times it was asked for more than counts
}

func newFake() *fake {
	return &fake{cfg: config.Default().Complete(), counted: metrics.New(metrics.Sources{})}
}

func (f *fake) Config() config.Config         { return f.cfg }
func (f *fake) Servers() []console.Server     { f.asked.Add(1); return f.servers }
func (f *fake) Pools() []console.Pool         { return f.pools }
func (f *fake) Clients() []console.Client     { return f.clients }
func (f *fake) Databases() []console.Database { return f.databases }
func (f *fake) Unfiltered() ([]string, [][]string) {
	return []string{"database", "tenant"}, [][]string{{"d", "secret"}}
}
func (f *fake) Counts() *metrics.Counts     { return f.counted.Counts() }
func (f *fake) Acquired() map[string]uint64 { return f.taken }
func (f *fake) OnlyPrimary() bool           { return f.primary }
func (f *fake) Verified() (asked, n uint64) { return f.differing, f.differing }
func (f *fake) Ready() error                { return f.ready }
func (f *fake) Insights() (insight.Summary, bool) {
	if f.sum == nil {
		return insight.Summary{}, false
	}
	return *f.sum, true
}

func (f *fake) Book() *insight.Book { return f.book }
func (f *fake) SinceBaseline() (before, after *insight.Snapshot, err error) {
	if f.baseline == nil {
		return nil, nil, nil
	}
	return f.baseline, f.book.Snapshot().Since(f.baseline), nil
}

// pageOf is a Page that takes no samples by itself.
func pageOf(f *fake) *Page {
	p := &Page{o: Options{Service: f, Events: NewEvents()}, began: time.Now(), listeners: map[*listener]struct{}{}}
	p.sampler.add(time.Now(), f.Counts())
	return p
}

// next is the status a second later.
func next(p *Page, now time.Time) *status {
	p.sampler.add(now, p.o.Service.Counts())
	return p.status(now)
}

// What is shown is what was counted in the last second, and in the last minute.
func TestRates(t *testing.T) {
	f := newFake()
	p := pageOf(f)
	now := p.sampler.last.at
	for range 90 {
		f.counted.Statement(router.TargetReplica, router.ReasonRead, router.ClassRead)
		f.counted.Answered(router.TargetReplica, router.ClassRead, 3*time.Millisecond)
	}
	for range 10 {
		f.counted.Statement(router.TargetPrimary, router.ReasonFreshness, router.ClassRead)
		f.counted.Answered(router.TargetPrimary, router.ClassRead, 200*time.Millisecond)
	}
	f.counted.ServerError()
	f.counted.Awaited(metrics.WaitFreshness, time.Millisecond)
	point := p.sampler.add(now.Add(2*time.Second), f.Counts())
	require.Equal(t, 45.0, point.Replica)
	require.Equal(t, 5.0, point.Primary)
	require.Equal(t, 0.5, point.Errors)
	require.Equal(t, 0.5, point.Freshness)
	require.InDelta(t, 3, point.P50, 1.1, "within the bucket of 2 to 4 ms")
	require.InDelta(t, 200, point.P99, 70, "within the bucket of 131 to 262 ms")

	st := p.status(now.Add(2 * time.Second))
	require.Equal(t, 0.9, st.ReadShare)
	require.Equal(t, routeRow{"replica", "read", 90, 90}, st.Routes[0])
	require.Equal(t, routeRow{"primary", "freshness", 10, 10}, st.Routes[1])

	for i := range 90 { // nothing happens
		point = p.sampler.add(now.Add(time.Duration(3+i)*time.Second), f.Counts())
	}
	require.Zero(t, point.Replica+point.P99)
	st = p.status(now.Add(93 * time.Second))
	require.Equal(t, routeRow{"replica", "read", 0, 90}, st.Routes[0])
	require.Equal(t, -1.0, st.ReadShare)
	require.LessOrEqual(t, len(p.sampler.earlier), 9, "of the last minute only")
}

// The history is bounded, and in order.
func TestHistory(t *testing.T) {
	var h history
	for i := range kept + 7 {
		h.add(Point{At: int64(i)})
	}
	points := h.points()
	require.Len(t, points, kept)
	for i, p := range points {
		require.EqualValues(t, i+7, p.At)
	}
}

// Notices say why a statement waits or is refused, and by whom.
func TestNotices(t *testing.T) {
	now := time.Now()
	holder := console.Client{ID: 7, Database: "d", User: "u", State: console.ClientActive, Server: "a:1", Transaction: now.Add(-time.Minute), Idling: true, Pins: "temp"}
	pool := console.Pool{Database: "d", User: "u", Clients: 4, Waiting: 3, MaxWait: 2 * time.Second, Used: 1}
	serving := []console.Server{{Cluster: "c", Address: "a:1", Role: "primary", Status: "serving"}}
	for _, c := range []struct {
		name string
		make func(*fake)
		want []string // parts of all notices, in their order
	}{
		{"nothing", func(*fake) {}, nil},
		{"a full pool", func(f *fake) { f.pools, f.clients = []console.Pool{pool}, []console.Client{holder} }, []string{
			"3 clients of user u wait for a connection to database d, the longest for 2s; 1 in use|held by 1 client: 1 idle in a transaction, 1 pinned; the oldest transaction has lasted 1m0s",
			"1 transaction idle, holding a server connection, for longer than 30s; the oldest is client 7 (user u), for 1m0s",
		}},
		{"a pool whose slots others have", func(f *fake) { f.pools = []console.Pool{pool} }, []string{"3 clients|other pools, or the server's own limit"}},
		{"a moment's wait", func(f *fake) { p := pool; p.MaxWait = time.Millisecond; f.pools = []console.Pool{p} }, nil},
		{"no primary", func(f *fake) {
			f.servers = []console.Server{{Cluster: "c", Address: "a:1", Role: "unknown", Status: "down", Err: "refused"}, {Cluster: "c", Address: "b:1", Role: "replica", Status: "serving"}}
		}, []string{"Cluster c has no primary", "Server a:1 is down: refused."}},
		{"a primary that is not listed", func(f *fake) {
			f.servers = []console.Server{{Cluster: "c", Address: "a:1", Role: "primary", Status: "serving", Err: "it is not listed any more"}}
		}, []string{"Server a:1 serves: it is not listed any more.|List it again"}},
		{"paused and disabled", func(f *fake) {
			f.databases = []console.Database{{Name: "d", Paused: true}, {Name: "e", Disabled: true}}
		}, []string{"Database d is paused", "Database e is disabled"}},
		{"a difference found", func(f *fake) { f.differing = 2 }, []string{"2 server connections carried something else"}},
		{"all on the primary", func(f *fake) { f.primary = true }, []string{"ROUTE PRIMARY"}},
		{"max_clients", func(f *fake) { f.cfg.MaxClients = 1; f.clients = []console.Client{{}} }, []string{"1 of max_clients 1"}},
		{"reads on the primary", func(f *fake) {
			for range fewReads {
				f.counted.Statement(router.TargetPrimary, router.ReasonTransaction, router.ClassRead)
			}
		}, []string{"100 % of the reads lately ran on the primary, most because of transaction.|BEGIN READ ONLY"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake()
			f.servers = serving
			p := pageOf(f)
			c.make(f)
			got := next(p, now.Add(time.Second)).Notices
			if strings.Contains(c.name, "pool") {
				got = p.notices(p.status(now), p.pools(f), f.clients, now)
			}
			require.Len(t, got, len(c.want), "%+v", got)
			for i, want := range c.want {
				for _, part := range strings.Split(want, "|") {
					require.Contains(t, got[i].Text+"|"+got[i].Next, part)
				}
				require.FileExists(t, "../../docs/"+got[i].Docs+".md")
			}
		})
	}
}

// What grows with clients and statements is shown up to a bound, and what the audit hides stays hidden.
func TestBounded(t *testing.T) {
	f := newFake()
	f.sum = &insight.Summary{}
	for i := range 1000 {
		f.clients = append(f.clients, console.Client{ID: uint64(i), State: console.ClientWaiting, Transaction: time.Now(), Pins: "temp", Application: strings.Repeat("a", 1<<10)})
		f.pools = append(f.pools, console.Pool{User: fmt.Sprint(i)})
		f.sum.Statements = append(f.sum.Statements, insight.Row{Statement: strings.Repeat("s", 1<<10)})
	}
	p := pageOf(f)
	for i := range 1000 {
		log := zap.New(p.o.Events)
		log.Info("server is up", zap.String("event", "server_serving"), zap.Int("n", i))
		log.Warn("login refused", zap.String("statement", "select 'secret'"), zap.Strings("differences", []string{"secret"}))
		log.Info("nothing")
	}
	st := next(p, time.Now())
	text, err := json.Marshal(st)
	require.NoError(t, err)
	require.Less(t, len(text), 100<<10)
	require.NotContains(t, string(text), "secret")
	require.Len(t, st.Events, maxEvents)
	require.Equal(t, "login refused", st.Events[0].Message)
	require.Equal(t, 1000, st.Events[0].Times)
	require.Equal(t, "server_serving", st.Events[1].Name)
	require.Equal(t, 1000, st.Waiting.All)
	require.Len(t, st.Waiting.Rows, most)
}

// readMessage reads one event of a stream.
func readMessage(r *bufio.Reader) (event, data string, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == "\n" {
			return event, data, err
		}
		if s, ok := strings.CutPrefix(line, "event: "); ok {
			event = strings.TrimSpace(s)
		}
		if s, ok := strings.CutPrefix(line, "data: "); ok {
			data = strings.TrimSpace(s)
		}
	}
}

// Who looks is told the last minutes, then every second; the service is asked for no more than counts before
// and after, and the end of the page ends the stream.
func TestStream(t *testing.T) {
	f := newFake()
	p := Start(Options{Service: f, Events: NewEvents(), Version: "v1"})
	server := httptest.NewServer(p)
	defer server.Close()
	time.Sleep(interval + interval/5)
	require.Zero(t, f.asked.Load(), "nobody looks")

	resp, err := http.Get(server.URL + "/events")
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	r := bufio.NewReader(resp.Body)
	event, data, err := readMessage(r)
	require.NoError(t, err)
	require.Equal(t, "history", event)
	var points []Point
	require.NoError(t, json.Unmarshal([]byte(data), &points))
	require.NotEmpty(t, points)
	event, data, err = readMessage(r)
	require.NoError(t, err)
	require.Equal(t, "status", event)
	require.Contains(t, data, `"version":"v1"`)
	require.Positive(t, f.asked.Load())

	p.Close()
	_, _, err = readMessage(r)
	require.Error(t, err)
	late, err := http.Get(server.URL + "/events")
	require.NoError(t, err)
	_ = late.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, late.StatusCode)
}

// Only so many may look at once, and one that does not read is dropped, while others go on.
func TestListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Start(Options{Service: newFake(), Events: NewEvents()})
		var all []*listener
		for range maxListeners {
			all = append(all, p.enter())
		}
		require.Nil(t, p.enter())
		got := 0
		var reads sync.WaitGroup
		reads.Go(func() {
			for range all[0].messages {
				got++
			}
		})
		time.Sleep(20 * interval)
		synctest.Wait()
		p.mu.Lock()
		n := len(p.listeners)
		p.mu.Unlock()
		require.Equal(t, 1, n, "those who do not read are dropped")
		require.NotNil(t, p.enter())
		p.Close()
		reads.Wait()
		require.Equal(t, 21, got)
	})
}

// A client that stops reading, with its window full, does not keep its goroutine.
func TestVanishedReader(t *testing.T) {
	p := Start(Options{Service: newFake(), Events: NewEvents()})
	defer p.Close()
	server := httptest.NewServer(p)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/events", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	cancel()
	_ = resp.Body.Close()
	require.Eventually(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.listeners) == 0 }, 5*time.Second, 10*time.Millisecond)
}

// The files are served under a policy that lets nothing else run, and need nothing that it forbids.
func TestFiles(t *testing.T) {
	p := Start(Options{Service: newFake(), Events: NewEvents()})
	defer p.Close()
	forbidden := regexp.MustCompile(`(?i)\son\w+=|style=|<style|<script>|javascript:|https?://|innerHTML|insertAdjacent|document\.write|eval\(`)
	for path, kind := range map[string]string{
		"/": "text/html", "/statement.html": "text/html", "/page.css": "text/css", "/icon.svg": "image/svg+xml",
		"/shared.js": "text/javascript", "/page.js": "text/javascript", "/statement.js": "text/javascript",
	} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, http.StatusOK, w.Code, path)
		require.Contains(t, w.Header().Get("Content-Type"), kind)
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'")
		text := strings.ReplaceAll(w.Body.String(), "http://www.w3.org/2000/svg", "")
		require.Empty(t, forbidden.FindAllString(text, -1), path)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/../page.go", nil))
	require.NotEqual(t, http.StatusOK, w.Code)
}

// The page has words for every reason, and names pages of docs that are there.
func TestWords(t *testing.T) {
	script, err := os.ReadFile("static/page.js")
	require.NoError(t, err)
	for r := range router.Reason(router.Reasons) {
		require.Regexp(t, `[ {]`+r.String()+`: ['"]`, string(script))
	}
	for file, n := range map[string]int{"static/index.html": 10, "static/statement.html": 5} {
		html, err := os.ReadFile(file)
		require.NoError(t, err)
		named := regexp.MustCompile(`docs: (\w+)`).FindAllStringSubmatch(string(html), -1)
		require.Len(t, named, n)
		for _, m := range named {
			require.FileExists(t, "../../docs/"+m[1]+".md")
		}
	}
}

// BenchmarkTick is what a second costs while somebody looks, with 1,000 clients, 100 pools and 1,000 statements;
// BenchmarkSample what it costs while nobody does.
func BenchmarkTick(b *testing.B) {
	f := busy()
	p := pageOf(f)
	l := p.enter()
	<-l.messages
	b.ReportAllocs()
	for now := time.Now(); b.Loop(); now = now.Add(interval) {
		p.tick(now)
		<-l.messages
	}
}

func BenchmarkSample(b *testing.B) {
	p := pageOf(busy())
	b.ReportAllocs()
	for now := time.Now(); b.Loop(); now = now.Add(interval) {
		p.tick(now)
	}
}

func busy() *fake {
	f := newFake()
	f.sum = &insight.Summary{Statements: make([]insight.Row, 1000)}
	f.clients, f.pools = make([]console.Client, 1000), make([]console.Pool, 100)
	for t := range router.Target(router.Targets) {
		for c := range router.Class(router.Classes) {
			f.counted.Statement(t, router.ReasonRead, c)
			f.counted.Answered(t, c, time.Millisecond)
		}
	}
	return f
}
