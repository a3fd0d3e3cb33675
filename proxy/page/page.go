// Package page is the status page: what the service does, for people, at the address of metrics. The page is
// a few files that are part of the program (static) and loads nothing from elsewhere; what it shows comes by
// server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
//
// Run counts once a second, for the charts of the last minutes. Only while somebody looks it also asks a
// Service, which the admin console asks too, and tells everybody who looks the same. What is shown holds no
// literal: statements come masked, and of the log's lines only what fieldsShown lists.
package page

import (
	"context"
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/proxy/console"
	"github.com/pgweir/pgweir/proxy/metrics"
)

// Service is what the page shows. Its methods are safe for concurrent use; what they return is a picture
// of the moment, which the caller may keep.
type Service interface {
	Config() config.Config
	Servers() []console.Server
	Pools() []console.Pool
	Clients() []console.Client
	Databases() []console.Database
	Unfiltered() (columns []string, rows [][]string)
	Counts() *metrics.Counts
	// Acquired is how often a connection to each server was taken from a pool, by address.
	Acquired() map[string]uint64
	// Insights are what statements cost; not there if that is not counted.
	Insights() (insight.Summary, bool)
	// Book is what counts them; nil if nothing does.
	Book() *insight.Book
	// SinceBaseline is the last baseline, and what was counted since; nil if there is none.
	SinceBaseline() (before, after *insight.Snapshot, err error)
	// OnlyPrimary is that an administrator has everything run on the primary.
	OnlyPrimary() bool
	// Verified is how many server connections were asked what they carry, and how many differed.
	Verified() (asked, differing uint64)
	// Ready says why clients cannot be served; nil if they can.
	Ready() error
}

// Options are what a Page is made with.
type Options struct {
	Service Service
	Events  *Events
	Version string
}

// Page serves the status page until Close. Safe for concurrent use.
type Page struct {
	o     Options
	files http.Handler
	began time.Time
	end   context.CancelFunc
	done  chan struct{} // closed when run has ended

	sampler sampler // run's own

	mu        sync.Mutex // protects the fields below
	history   history
	listeners map[*listener]struct{} // nil once the page is closed
	recent    *insight.Recent        // nil if nothing is counted
	sampled   time.Time              // recent was

	asked sync.Mutex // is had by who asks of one statement; protects the field below
	since sinceBaseline
}

//go:embed static
var static embed.FS

// Start makes a Page, which counts from now on.
func Start(o Options) *Page {
	files, _ := fs.Sub(static, "static") // the name is right
	ctx, end := context.WithCancel(context.Background())
	p := &Page{
		o: o, files: http.FileServerFS(files), began: time.Now(), end: end, done: make(chan struct{}),
		listeners: map[*listener]struct{}{},
	}
	if book := o.Service.Book(); book != nil {
		p.recent = book.NewRecent(steps)
	}
	go p.run(ctx)
	return p
}

// Close ends it, and everybody's stream.
func (p *Page) Close() {
	p.end()
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.listeners {
		close(l.messages)
	}
	p.listeners = nil
}

// interval is between two samples.
const interval = time.Second

func (p *Page) run(ctx context.Context) {
	defer close(p.done)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	p.sampler.add(time.Now(), p.o.Service.Counts())
	for {
		select {
		case now := <-ticker.C:
			p.tick(now)
		case <-ctx.Done():
			return
		}
	}
}

// tick takes a sample, and tells those who look of it.
func (p *Page) tick(now time.Time) {
	point := p.sampler.add(now, p.o.Service.Counts())
	p.mu.Lock()
	p.history.add(point)
	if p.recent != nil && now.Sub(p.sampled) >= step {
		p.recent.Sample(now)
		p.sampled = now
	}
	watched := len(p.listeners) > 0
	p.mu.Unlock()
	if !watched {
		p.sampler.acquired = nil // it would be of long ago
		return
	}
	status := p.status(now)
	status.Point = point
	text, err := json.Marshal(status)
	if err != nil {
		return // it has no values that could not be
	}
	p.tell(message("status", text))
}

// headers keep a browser from running, loading or showing anything but the page's own files, and other
// sites from showing the page. https://www.w3.org/TR/CSP3/
var headers = map[string]string{
	"Content-Security-Policy": strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
	}, "; "),
	"Cache-Control":                "no-store",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	switch r.URL.Path {
	case "/events":
		p.stream(w, r)
	case "/statement":
		p.serveStatement(w, r)
	default:
		p.files.ServeHTTP(w, r)
	}
}
