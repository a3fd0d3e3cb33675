// Package reload reads the configuration of a running service again and has it followed,
// whole or not at all, and says what changed.
package reload

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
)

// Options are what a Reloader works with.
type Options struct {
	Load    func() (config.Config, error)
	Apply   func(config.Config) ([]config.Change, error) // with an error nothing has changed
	Applied func(config.Config)                          // called with what is in force; may be nil
	Running config.Config                                // in force now
	Log     *zap.Logger
}

// Reloader reads the configuration again when it is told to. It is safe for concurrent use,
// and a prometheus.Collector.
type Reloader struct {
	o       Options
	results *prometheus.CounterVec
	last    prometheus.Gauge
	ok      prometheus.Gauge

	mu       sync.Mutex        // held while the configuration is read; protects o.Running and the fields below
	contents map[string]string // of the files named, as they were last read
}

// New makes a Reloader.
func New(o Options) *Reloader {
	r := &Reloader{
		o: o, contents: o.Running.Contents(),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pgweir_config_reloads_total", Help: "Times the configuration was read again, by result."}, []string{"result"}),
		last:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "pgweir_config_last_reload_success_timestamp_seconds", Help: "When the configuration in force was read."}),
		ok:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "pgweir_config_last_reload_successful", Help: "Whether the configuration was in order when it was last read."}),
	}
	r.results.WithLabelValues("ok")
	r.results.WithLabelValues("failed")
	r.ok.Set(1)
	r.last.SetToCurrentTime()
	return r
}

// Describe implements prometheus.Collector.
func (r *Reloader) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(r, ch) }

// Collect implements prometheus.Collector.
func (r *Reloader) Collect(ch chan<- prometheus.Metric) {
	r.results.Collect(ch)
	r.last.Collect(ch)
	r.ok.Collect(ch)
}

var errNothing = errors.New("there is no file to be read again")

// when is what a reload without any change is worth.
type when uint8

const (
	always    when = iota
	ifChanged      // then nothing was asked for, and nothing is said
)

// Reload reads the configuration and has it followed. The error is everything wrong with it;
// then nothing has changed. Either is logged.
func (r *Reloader) Reload() error { return r.reload(always) }

func (r *Reloader) reload(w when) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.read(w)
	if err != nil {
		r.results.WithLabelValues("failed").Inc()
		r.ok.Set(0)
		r.o.Log.Error("configuration not reloaded: what was in force stays", zap.String("event", "reload_failed"), zap.Strings("faults", strings.Split(err.Error(), "\n")))
		return err
	}
	r.results.WithLabelValues("ok").Inc()
	r.ok.Set(1)
	r.last.SetToCurrentTime()
	return nil
}

func (r *Reloader) read(w when) error {
	if r.o.Load == nil {
		return errNothing
	}
	began := time.Now()
	cfg, err := r.o.Load()
	if err != nil {
		return err
	}
	contents := cfg.Contents()
	if w == ifChanged && len(cfg.Changes(r.o.Running))+len(renewed(r.contents, contents)) == 0 {
		return nil
	}
	changes, err := r.o.Apply(cfg)
	if err != nil {
		return err
	}
	changes = append(changes, renewed(r.contents, contents)...)
	r.contents, r.o.Running = contents, cfg
	if r.o.Applied != nil {
		r.o.Applied(cfg)
	}
	for _, w := range cfg.Warnings() {
		r.o.Log.Warn("configuration: " + w.String())
	}
	r.tell(changes, time.Since(began))
	return nil
}

// renewed are the files whose content has changed.
func renewed(before, after map[string]string) (changes []config.Change) {
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if old := before[path]; old != "" && old != after[path] {
			changes = append(changes, config.Change{Path: path, Old: "content " + old, New: "content " + after[path]})
		}
	}
	return changes
}

func (r *Reloader) tell(changes []config.Change, took time.Duration) {
	var live, waiting []string
	for _, c := range changes {
		if c.Restart {
			waiting = append(waiting, c.String())
		} else {
			live = append(live, c.String())
		}
	}
	r.o.Log.Info("configuration reloaded", zap.String("event", "reloaded"), zap.Strings("changed", live), zap.Duration("took", took))
	if len(waiting) > 0 {
		r.o.Log.Warn("configuration: a restart is needed for some of what has changed", zap.Strings("needs_restart", waiting))
	}
}
