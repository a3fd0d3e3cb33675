package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServer(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "test_total"})
	reg.MustRegister(c)
	var notReady error
	s, err := Start(Options{Address: "127.0.0.1:0", Gatherer: reg, Ready: func() error { return notReady }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (int, string) {
		t.Helper()
		r, err := client.Get("http://" + s.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(body)
	}
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body, "test_total 0") {
		t.Errorf("metrics: %d %s", code, body)
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("healthz: %d", code)
	}
	if code, _ := get("/readyz"); code != 200 {
		t.Errorf("readyz: %d", code)
	}
	notReady = errors.New("no server is up")
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, "no server is up") {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, _ := get("/debug/pprof/"); code != 404 {
		t.Errorf("profiles are served unasked: %d", code)
	}
	if _, err := Start(Options{Address: s.Addr().String(), Gatherer: reg}); err == nil {
		t.Error("two servers on one address")
	}
}

// TestCloseAnswers: whoever was accepted before the end is answered.
func TestCloseAnswers(t *testing.T) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 20 {
		s, err := Start(Options{Address: "127.0.0.1:0", Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		url, address := "http://"+s.Addr().String()+"/readyz", s.Addr().String()
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				for {
					r, err := client.Get(url)
					if err != nil {
						// Refused, or cut off in the queue of the listener, which nobody inherits here.
						if strings.Contains(err.Error(), "EOF") {
							t.Errorf("%s: %v", address, err)
						}
						return
					}
					_ = r.Body.Close()
				}
			})
		}
		time.Sleep(5 * time.Millisecond)
		s.Close(context.Background())
		clients.Wait()
	}
}

// TestCommands: commands are taken from this host only, and with their header.
func TestCommands(t *testing.T) {
	reloads := 0
	h := handler(Options{
		Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil },
		Reload:   func() error { reloads++; return errors.New("line 3: a\nline 4: b") },
		Shadow:   func(w io.Writer) error { _, err := io.WriteString(w, "{}"); return err },
		Insights: func(io.Writer) error { return errors.New("nothing is counted") },
	})
	for _, try := range []struct {
		method, path, from, to, header string
		want                           int
	}{
		{"POST", "/reload", "127.0.0.1:1000", "127.0.0.1:9930", "1", 422},
		{"POST", "/reload", "[::1]:1000", "[::1]:9930", "1", 422},
		{"POST", "/reload", "10.0.0.1:1000", "10.0.0.1:9930", "1", 422}, // from itself by its address
		{"POST", "/reload", "[::ffff:10.0.0.1]:1000", "10.0.0.1:9930", "1", 422},
		{"POST", "/reload", "10.0.0.2:1000", "10.0.0.1:9930", "1", 403},
		{"POST", "/reload", "10.0.0.2:1000", "", "1", 403},
		{"POST", "/reload", "@", "127.0.0.1:9930", "1", 403},
		{"POST", "/reload", "127.0.0.1:1000", "127.0.0.1:9930", "", 403},
		{"GET", "/reload", "127.0.0.1:1000", "127.0.0.1:9930", "1", 405},
		{"GET", "/shadow", "127.0.0.1:1000", "127.0.0.1:9930", "1", 200},
		{"GET", "/shadow", "127.0.0.1:1000", "127.0.0.1:9930", "", 403},
		{"GET", "/shadow", "10.0.0.2:1000", "10.0.0.1:9930", "1", 403},
		{"GET", "/insights", "127.0.0.1:1000", "127.0.0.1:9930", "1", 409},
		{"GET", "/insights", "10.0.0.2:1000", "10.0.0.1:9930", "1", 403},
	} {
		r := httptest.NewRequest(try.method, try.path, nil)
		r.RemoteAddr = try.from
		if try.header != "" {
			r.Header.Set(Command, try.header)
		}
		if at, err := net.ResolveTCPAddr("tcp", try.to); err == nil && try.to != "" {
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(at)))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != try.want {
			t.Errorf("%+v: %d %s", try, w.Code, w.Body)
		}
		if try.want == 422 && w.Body.String() != "line 3: a\nline 4: b\n" {
			t.Errorf("the faults are told as %q", w.Body)
		}
	}
	if reloads != 4 {
		t.Errorf("%d reloads", reloads)
	}
}

// TestComplaints: what goes wrong with a request is in the log.
func TestComplaints(t *testing.T) {
	core, seen := observer.New(zap.InfoLevel)
	s, err := Start(Options{
		Address: "127.0.0.1:0", Gatherer: prometheus.NewRegistry(), Log: zap.New(core), Ready: func() error { return nil },
		Page: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a fault") }),
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + s.Addr().String() + "/")
	if err == nil {
		_ = r.Body.Close()
		t.Error("answered")
	}
	s.Close(context.Background())
	if all := seen.FilterMessage("http").All(); len(all) != 1 || !strings.Contains(fmt.Sprint(all[0].ContextMap()["error"]), "a fault") {
		t.Errorf("logged: %v", seen.All())
	}
}

// TestFaultyMetric: a metric that cannot be shown does not hide the others, and is told of in the log.
func TestFaultyMetric(t *testing.T) {
	core, seen := observer.New(zap.InfoLevel)
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "test_total"}), faulty{})
	answer := httptest.NewRecorder()
	handler(Options{Gatherer: reg, Log: zap.New(core)}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	if text := answer.Body.String(); answer.Code != 200 || !strings.Contains(text, "test_total 0") || strings.Contains(text, "goroutine") {
		t.Errorf("%d %s", answer.Code, text)
	}
	if seen.FilterMessage("metrics are not shown, or not all of them").Len() != 1 {
		t.Errorf("logged: %v", seen.All())
	}
}

// faulty panics when it is collected, with a label that is none.
type faulty struct{}

func (faulty) Describe(chan<- *prometheus.Desc) {}

func (faulty) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.MustNewConstMetric(prometheus.NewDesc("faulty", "", []string{"user"}, nil), prometheus.GaugeValue, 1, "caf\xe9")
}
