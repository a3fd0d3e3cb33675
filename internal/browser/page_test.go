// Package browser tries the status page in a browser: Debian's chromium, driven over its debugging protocol,
// before bin/pgweir and real servers.
package browser

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/internal/pgtest"
)

var shots = flag.String("screenshots", "", "`directory` that screenshots are written to")

const config = `
listen: %[1]s
http: %[2]s
servers: [%[3]s]
auth: {method: trust}
service: {user: postgres}
insight: {enabled: true, plans: {enabled: true, interval: 30s}}
tenant: {columns: [tenant], settings: [app.tenant]}
users: {small: {pool_size: 1}}
`

// proxy is a running pgweir.
type proxy struct {
	t            testing.TB
	file         string
	clients, web string
	cmd          *exec.Cmd
}

// freeAddress is one that nobody listens on at the moment.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func newProxy(t testing.TB, c *pgtest.Cluster) *proxy {
	t.Helper()
	p := &proxy{t: t, file: filepath.Join(t.TempDir(), "pgweir.yaml"), clients: freeAddress(t), web: freeAddress(t)}
	var servers []string
	for _, s := range c.Servers() {
		servers = append(servers, s.Addr())
	}
	if err := os.WriteFile(p.file, fmt.Appendf(nil, config, p.clients, p.web, strings.Join(servers, ", ")), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	t.Cleanup(p.stop)
	return p
}

func (p *proxy) start() {
	p.t.Helper()
	p.cmd = exec.Command("../../bin/pgweir", "serve", "--config", p.file)
	p.cmd.Stderr = p.t.Output()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("%v (make build makes it)", err)
	}
	p.eventually("it serves", 20*time.Second, func() bool {
		c, err := pgx.Connect(p.t.Context(), p.conn("postgres"))
		if err == nil {
			_ = c.Close(p.t.Context())
		}
		return err == nil
	})
}

// insights runs a command of pgweir insights.
func (p *proxy) insights(args ...string) {
	p.t.Helper()
	out, err := exec.Command("../../bin/pgweir", append(append([]string{"insights"}, args...), "--config", p.file)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%v: %v: %s", args, err, out)
	}
}

func (p *proxy) stop() {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(os.Interrupt)
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

func (p *proxy) conn(user string) string {
	host, port, _ := net.SplitHostPort(p.clients)
	return fmt.Sprintf("host=%s port=%s user=%s dbname=postgres sslmode=disable", host, port, user)
}

func (p *proxy) connect(user, application string) *pgx.Conn {
	p.t.Helper()
	cfg, err := pgx.ParseConfig(p.conn(user))
	if err != nil {
		p.t.Fatal(err)
	}
	cfg.RuntimeParams["application_name"] = application
	c, err := pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *proxy) eventually(what string, within time.Duration, is func() bool) {
	p.t.Helper()
	for end := time.Now().Add(within); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// load has clients work until the end of ctx.
func (p *proxy) load(ctx context.Context, done *sync.WaitGroup) {
	for i := range 6 {
		c := p.connect("postgres", []string{"shop", "billing", "reports"}[i%3])
		done.Go(func() {
			defer func() { _ = c.Close(context.Background()) }()
			for n := i; ctx.Err() == nil; n++ {
				for _, sql := range []string{
					"select name from customer where id = $1 and tenant = 'one'",
					"select o.id, o.total from orders o join customer c on c.id = o.customer where c.id = $1 and c.tenant = 'one' and o.tenant = 'one' order by o.id desc limit 20",
					"select count(*) from orders where id > $1",
					"update orders set total = total + 1 where id = $1 and tenant = 'one'",
				}[:3+n%8/7] {
					_, _ = c.Exec(ctx, sql, n%100)
				}
				if n%200 == 0 {
					_, _ = c.Exec(ctx, "select pg_sleep(0.02)")
				}
				time.Sleep(12 * time.Millisecond)
			}
		})
	}
}

// tab is a page in a browser, with what went wrong there.
type tab struct {
	*testing.T
	ctx context.Context

	mu     sync.Mutex // protects faults
	faults []string
}

func open(t *testing.T, address string) *tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.ExecPath("/usr/bin/chromium"))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &tab{T: t, ctx: ctx}
	chromedp.ListenTarget(ctx, func(ev any) { b.hear(ev, address) })
	b.run(network.Enable(), log.Enable(), emulation.SetDeviceMetricsOverride(1440, 900, 1, false), chromedp.Navigate("http://"+address+"/"))
	b.until("it is live", 5*time.Second, `document.getElementById('live').textContent.startsWith('live')`)
	return b
}

// hear keeps what no page should have: errors, and requests to elsewhere.
func (b *tab) hear(ev any, address string) {
	fault := ""
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		fault = ev.ExceptionDetails.Error()
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.APITypeError || ev.Type == runtime.APITypeWarning {
			fault = "console: " + string(ev.Type)
		}
	case *log.EventEntryAdded:
		if ev.Entry.Level == log.LevelError || ev.Entry.Level == log.LevelWarning {
			fault = ev.Entry.Text + " " + ev.Entry.URL
		}
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(ev.Request.URL, "http://"+address+"/") {
			fault = "loads " + ev.Request.URL
		}
	}
	if fault != "" {
		b.mu.Lock()
		b.faults = append(b.faults, fault)
		b.mu.Unlock()
	}
}

// forget returns what went wrong, and forgets it.
func (b *tab) forget() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	faults := b.faults
	b.faults = nil
	return faults
}

func (b *tab) run(actions ...chromedp.Action) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if b.ctx.Err() == nil && chromedp.FromContext(b.ctx).Target == nil {
		ctx = b.ctx // the browser lives as long as the context of its first run
	}
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.Fatal(err)
	}
}

func eval[T any](b *tab, script string) (v T) {
	b.Helper()
	b.run(chromedp.Evaluate(script, &v))
	return v
}

func (b *tab) until(what string, within time.Duration, script string) time.Duration {
	b.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var is bool // not while one page leaves and the next one comes: what the script looks for is not there
		if chromedp.Run(b.ctx, chromedp.Evaluate(script, &is)) == nil && is {
			return time.Since(began)
		}
		if time.Since(began) > within {
			b.Fatalf("not within %s: %s\n%s", within, what, eval[string](b, `document.body.innerText`))
		}
	}
}

func (b *tab) look(width int, theme string) {
	b.Helper()
	height := int64(900)
	if width < 500 {
		height = 780
	}
	b.run(emulation.SetDeviceMetricsOverride(int64(width), height, 1, width < 500),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}))
	time.Sleep(1200 * time.Millisecond) // the next message has what no longer fits scroll
}

func (b *tab) shoot(name string, whole bool) {
	b.Helper()
	if *shots == "" {
		return
	}
	var png []byte
	b.run(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		png, err = page.CaptureScreenshot().WithCaptureBeyondViewport(whole).Do(ctx)
		if whole {
			_, _, _, _, _, size, sizeErr := page.GetLayoutMetrics().Do(ctx)
			if sizeErr != nil {
				return sizeErr
			}
			png, err = page.CaptureScreenshot().WithCaptureBeyondViewport(true).WithClip(&page.Viewport{Width: size.Width, Height: size.Height, Scale: 1}).Do(ctx)
		}
		return err
	}))
	if err := os.WriteFile(filepath.Join(*shots, name+".png"), png, 0o644); err != nil {
		b.Fatal(err)
	}
}

const hostile = `<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>`

// The parts are in the order in which they need each other.
func TestPage(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Replicas: 2})
	if err := c.Exec(t.Context(), `create role small login;
		create table customer (id int primary key, name text, tenant text);
		create table orders (id int primary key, customer int, total int, tenant text);
		grant all on customer, orders to small;
		insert into customer select i, 'n', 'one' from generate_series(1, 100) i;
		insert into orders select i, i, 0, 'one' from generate_series(1, 100) i;
		create index on orders (customer)`); err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, c)
	b := open(t, p.web)

	ctx, end := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer end()
	p.load(ctx, &clients)
	took := b.until("load is seen", 10*time.Second, `Number(document.getElementById('t-rate').firstChild.data.replace(/,/g, '')) > 50`)
	t.Logf("load was seen after %s", took)
	if took > 2*time.Second {
		t.Errorf("load was seen after %s only", took)
	}

	if *shots != "" {
		time.Sleep(4 * time.Minute) // the charts fill
	}
	accessible(t, b, p, ctx)
	poolFull(t, b, p)
	text(t, b, p)
	keyboard(t, b)
	statement(t, b, p)
	for _, fault := range b.forget() {
		t.Error(fault)
	}
	again(t, b, p)
	noPrimary(t, b, c)
}

// text: what clients send is text on the page, and nothing of their literals.
func text(t *testing.T, b *tab, p *proxy) {
	c := p.connect("postgres", hostile)
	defer func() { _ = c.Close(context.Background()) }()
	for range 3 {
		if _, err := c.Exec(t.Context(), `select 'canary' as "`+strings.ReplaceAll(hostile, `"`, `""`)+`", pg_sleep(0.3)`); err != nil {
			t.Fatal(err)
		}
	}
	b.until("the statement is there", 10*time.Second, `document.getElementById('statements').innerText.includes('<script>window.hurt=1</script>')`)
	if eval[bool](b, `window.hurt === 1 || document.querySelectorAll('main img, main script').length > 0`) {
		t.Error("a statement's text became markup")
	}
	if eval[bool](b, `document.documentElement.outerHTML.includes('canary')`) {
		t.Error("a literal is on the page")
	}
}

// poolFull: the page says who waits, for what, and who holds it.
func poolFull(t *testing.T, b *tab, p *proxy) {
	holder, waiter := p.connect("small", "holder"), p.connect("small", "waiter")
	for _, sql := range []string{"begin", "update orders set total = 0 where id = 1 and tenant = 'one'"} {
		if _, err := holder.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var done sync.WaitGroup
	done.Go(func() {
		_, _ = waiter.Exec(context.Background(), "update orders set total = 0 where id = 2 and tenant = 'one'")
	})
	b.until("the waiter is explained", 5*time.Second, `(() => {
		const said = document.getElementById('notices').innerText;
		return said.includes('1 client of user small waits for a connection') && said.includes('held by 1 client: 1 idle in a transaction')
			&& document.getElementById('waiting').innerText.includes('small (waiter)') && document.getElementById('transactions').innerText.includes('small (holder)');
	})()`)
	if *shots != "" {
		time.Sleep(10 * time.Second) // it is worth a picture
	}
	b.shoot("full", false)
	_, _ = holder.Exec(context.Background(), "commit")
	done.Wait()
	b.until("nobody waits", 5*time.Second, `!document.getElementById('notices').innerText.includes('waits for a connection')`)
	for _, c := range []*pgx.Conn{holder, waiter} {
		_ = c.Close(context.Background())
	}
}

// accessible: axe-core finds nothing serious, and nothing is wider than the screen.
func accessible(t *testing.T, b *tab, p *proxy, ctx context.Context) {
	pinned := p.connect("postgres", "reports")
	defer func() { _ = pinned.Close(context.Background()) }()
	if _, err := pinned.Exec(ctx, "create temp table t (a int)"); err != nil {
		t.Fatal(err)
	}
	b.until("the pin is there", 5*time.Second, `document.getElementById('pins').innerText.includes('temp')`)
	axe(t, b, "")
}

// axe tries the page that is shown, small and large, in both themes.
func axe(t *testing.T, b *tab, prefix string) {
	t.Helper()
	script, err := os.ReadFile("testdata/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatalf("%v (.ci/deps.sh browser installs it)", err)
	}
	b.run(chromedp.Evaluate(string(script), nil))
	widths := []int{360, 1440}
	if *shots != "" {
		widths = append(widths, 820)
	}
	for _, width := range widths {
		for _, theme := range []string{"light", "dark"} {
			b.look(width, theme)
			name := prefix + theme + "-" + strconv.Itoa(width)
			b.shoot(name, false)
			b.shoot(name+"-whole", true)
			var found []string
			b.run(chromedp.Evaluate(`axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(r =>
				r.violations.filter(v => v.impact !== 'minor').map(v => v.impact + ' ' + v.id + ': ' + v.help + ' ' + v.nodes.slice(0, 3).map(n => n.html).join(' | ')))`, &found,
				func(e *runtime.EvaluateParams) *runtime.EvaluateParams { return e.WithAwaitPromise(true) }))
			for _, f := range found {
				t.Errorf("%s: %s", name, f)
			}
			if w := eval[int](b, `document.documentElement.scrollWidth`); w > width {
				t.Errorf("%s: the page is %d wide", name, w)
			}
		}
	}
	b.look(1440, "light")
}

// statement: each of the top statements leads to a page of its own, which is as good as the first.
func statement(t *testing.T, b *tab, p *proxy) {
	p.insights("baseline", "before")
	open := func(part string) {
		t.Helper()
		link := `[...document.querySelectorAll('#x-statements a[href]')].find(a => a.textContent.includes(` + strconv.Quote(part) + `))`
		b.until("the statement is there", 15*time.Second, `!!`+link)
		b.run(chromedp.Evaluate(link+`.focus()`, nil), chromedp.KeyEvent(kb.Enter))
		b.until("its page is there", 10*time.Second, `location.pathname === '/statement.html' && document.getElementById('statement').textContent.includes(`+strconv.Quote(part)+`)
			&& document.getElementById('live').textContent.startsWith('live')`)
	}
	const joined = "from orders o join customer c"
	open(joined)
	b.until("all of it is there", 40*time.Second, `(() => {
		const says = (id, ...all) => all.every(s => document.getElementById(id).innerText.includes(s));
		return document.querySelectorAll('#c-calls path.s0:not(.area)')[0]?.getAttribute('d')?.includes('L') && says('load', 'calls/s') && Number(document.getElementById('t-rate').firstChild.data) > 1
			&& says('plan', 'Scan', 'cost') && says('where', 'replica') && says('who', 'shop', 'billing', 'postgres', 'slow call') && says('baseline', 'the baseline before', 'after');
	})()`)
	axe(t, b, "statement-")
	b.run(chromedp.Evaluate(`document.activeElement.blur(); window.scrollTo(0, 0)`, nil))
	var order []string
	for range 10 {
		b.run(chromedp.KeyEvent(kb.Tab))
		order = append(order, eval[string](b, `document.activeElement.textContent.trim()`))
	}
	if got := strings.Join(order, ", "); got != "Skip to the content, Freeze, All statements, Load, Findings, Plan, Before and after, Where, Who, The same as figures" {
		t.Errorf("the keyboard goes through\n%s", got)
	}
	b.run(chromedp.KeyEvent(kb.Enter))
	if !eval[bool](b, `document.querySelector('details').open && document.querySelectorAll('#x-figures tbody tr').length > 0`) {
		t.Error("Enter does not open the figures")
	}
	b.run(chromedp.Focus("nav a[href='./#statements']"), chromedp.KeyEvent(kb.Enter))
	b.until("it leads back", 10*time.Second, `location.pathname === '/' && document.getElementById('live').textContent.startsWith('live')`)

	open("window.hurt")
	b.until("who sent it is there", 10*time.Second, `document.getElementById('who').innerText.includes('<script>window.hurt=1')`)
	if eval[bool](b, `window.hurt === 1 || document.querySelectorAll('main img, main script').length > 0`) {
		t.Error("a text became markup")
	}
	if eval[bool](b, `document.documentElement.outerHTML.includes('canary')`) {
		t.Error("a literal is on the page")
	}
	b.run(chromedp.Navigate("http://" + p.web + "/"))
	b.until("it is live", 5*time.Second, `document.getElementById('live').textContent.startsWith('live')`)
}

// keyboard: everything that does something is reached, in the order of the page.
func keyboard(t *testing.T, b *tab) {
	b.run(chromedp.Evaluate(`document.activeElement.blur(); window.scrollTo(0, 0)`, nil))
	var order []string
	for range 13 {
		b.run(chromedp.KeyEvent(kb.Tab))
		order = append(order, eval[string](b, `document.activeElement.textContent.trim()`))
	}
	want := "Skip to the content, Freeze, Load, Servers, Pools, Waiting, Transactions, Pins, Routes, Statements, Unfiltered, Events, The same as figures"
	if got := strings.Join(order, ", "); got != want {
		t.Errorf("the keyboard goes through\n%s, want\n%s", got, want)
	}
	b.run(chromedp.KeyEvent(kb.Enter))
	if !eval[bool](b, `document.querySelector('details').open && document.querySelectorAll('#x-figures tbody tr').length > 0`) {
		t.Error("Enter does not open the figures")
	}
	b.run(chromedp.Focus("#freeze"), chromedp.KeyEvent(" "))
	frozen := eval[string](b, `document.getElementById('about').textContent`)
	time.Sleep(2500 * time.Millisecond)
	if eval[string](b, `document.getElementById('about').textContent`) != frozen {
		t.Error("the page changes while it is frozen")
	}
	b.run(chromedp.KeyEvent(" "))
	b.until("it goes on", 3*time.Second, `document.getElementById('about').textContent !== `+strconv.Quote(frozen))
}

// again: the page says that it has no news, and goes on once there are.
func again(t *testing.T, b *tab, p *proxy) {
	p.stop()
	b.until("it says so", 10*time.Second, `document.getElementById('live').textContent.startsWith('no news')`)
	p.start()
	b.until("it goes on", 10*time.Second, `document.getElementById('live').textContent.startsWith('live')`)
	b.forget() // that the stream broke
}

// BenchmarkLooking is what the process costs in a second, in parts of a core: with 1,000 statements counted, while
// nobody and while somebody looks. Run it once: go test -run - -bench Looking -benchtime 1x
func BenchmarkLooking(b *testing.B) {
	const seconds = 20
	c := pgtest.New(b, pgtest.Options{Replicas: 2})
	p := newProxy(b, c)
	conn := p.connect("postgres", "bench")
	for i := range 1000 {
		if _, err := conn.Exec(b.Context(), fmt.Sprintf("select %s as a%d", strings.Repeat("1 + ", i%20)+"1", i)); err != nil {
			b.Fatal(err)
		}
	}
	_ = conn.Close(b.Context())
	for b.Loop() {
		for _, name := range []string{"nobody", "somebody"} {
			ctx, end := context.WithCancel(b.Context())
			if name == "somebody" {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.web+"/events", nil)
				if err != nil {
					b.Fatal(err)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				told := make(chan int64, 1)
				go func() { n, _ := io.Copy(io.Discard, resp.Body); _ = resp.Body.Close(); told <- n }()
				defer func() { b.ReportMetric(float64(<-told)/1024/(seconds+2), "KiB/s") }()
			}
			time.Sleep(2 * time.Second)
			before := p.used()
			time.Sleep(seconds * time.Second)
			b.ReportMetric(100*(p.used()-before).Seconds()/seconds, "%core-"+name)
			end()
		}
	}
}

// used is what the process's threads have used of a core: nanoseconds, as the scheduler counts them.
func (p *proxy) used() (d time.Duration) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			p.t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.Fields(string(text))[0])
		if err != nil {
			p.t.Fatal(err)
		}
		d += time.Duration(n)
	}
	return d
}

func noPrimary(t *testing.T, b *tab, c *pgtest.Cluster) {
	if err := c.Primary.Kill(); err != nil {
		t.Fatal(err)
	}
	b.until("it says so", 10*time.Second, `document.getElementById('notices').innerText.includes('has no primary') && document.getElementById('events').innerText.includes('primary_lost')`)
	b.shoot("no-primary", false)
}
