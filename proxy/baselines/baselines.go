// Package baselines keeps what insight counts beyond the process, and beyond a change: each
// minute what came to a Book goes to a file, from which the next process takes it up; and a
// baseline is what was counted since the one before, under a name, to compare with what comes
// after it. Baselines are taken by command, and by themselves when the schema changes or another
// version of an application appears.
package baselines

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/insight/archive"
)

// Options are what a Keeper is made of.
type Options struct {
	Book *insight.Book
	// Dir is where files are kept, Files and Bytes how many periods may be there; without it
	// all is gone with the process.
	Dir   string
	Files int
	Bytes int64
	// Statements is how many that earlier processes counted are taken up at most: those that were
	// called last.
	Statements int
	// Lag is how old what the replica shows that is furthest behind, if that is known.
	Lag func() (lag time.Duration, known bool)
	Log *zap.Logger
}

const (
	// every is how often what was counted is written.
	every = time.Minute
	// calm is how long a baseline must be that is taken by itself: changes come together.
	calm = time.Minute
	// maxBaselines bounds the baselines that are kept.
	maxBaselines = 32
)

// Entry is a baseline without what is in it.
type Entry struct {
	Name  string    `json:"name"`
	Why   string    `json:"why,omitempty"` // it was taken by itself
	Begin time.Time `json:"begin"`
	End   time.Time `json:"end"`
	Calls uint64    `json:"calls"`

	data []byte // where there is no directory
}

// Keeper keeps the periods of a Book. It is safe for concurrent use; a nil Keeper, which there
// is while nothing is counted, keeps nothing.
type Keeper struct {
	o        Options
	dir      *archive.Dir
	instance string
	requests chan func()
	stop     context.CancelFunc
	done     sync.WaitGroup
	ctx      context.Context

	// What follows belongs to run.

	number    int
	written   *insight.Snapshot // what the files hold
	mark      *insight.Snapshot // what was counted up to the last baseline
	lag       struct{ ofPeriod, ofBaseline insight.Lag }
	baselines []Entry // the oldest first
	failing   bool    // to write
}

// New makes a Keeper; nil if nothing is counted. It does nothing before Start.
func New(o Options) (*Keeper, error) {
	if o.Book == nil {
		return nil, nil
	}
	k := &Keeper{o: o, instance: rand.Text()[:8], requests: make(chan func())}
	k.ctx, k.stop = context.WithCancel(context.Background())
	if o.Dir != "" {
		var err error
		if k.dir, err = archive.Open(o.Dir, o.Files, o.Bytes); err != nil {
			return nil, fmt.Errorf("insight.dir: %w", err)
		}
	}
	return k, nil
}

// Start begins to keep what is counted, until Close.
func (k *Keeper) Start() {
	if k != nil {
		k.done.Go(k.run)
	}
}

// Close writes what was not written yet, and returns once that is done.
func (k *Keeper) Close() {
	if k != nil {
		k.stop()
		k.done.Wait()
	}
}

func (k *Keeper) run() {
	k.written = &insight.Snapshot{End: time.Now()}
	k.mark = k.written
	k.restore()
	second, minute := time.NewTicker(time.Second), time.NewTicker(every)
	defer second.Stop()
	defer minute.Stop()
	for {
		select {
		case <-k.ctx.Done():
			k.write()
			return
		case f := <-k.requests:
			f()
		case <-minute.C:
			k.write()
		case now := <-second.C:
			if lag, known := k.o.Lag(); known {
				k.lag.ofPeriod.Sample(lag)
				k.lag.ofBaseline.Sample(lag)
			}
			if why := k.o.Book.TakeChange(); why != "" && now.Sub(k.mark.End) >= calm {
				k.changed(why, now)
			}
		}
	}
}

// restore takes up what earlier processes counted. It comes to the Book as if it was counted
// now; what came after the last baseline is compared with that one.
func (k *Keeper) restore() {
	if k.dir == nil {
		return
	}
	problem := func(err error) {
		if err != nil {
			k.o.Log.Warn("a file of insight.dir is skipped", zap.Error(err))
		}
	}
	problem(k.dir.Baselines(func(s *insight.Snapshot, err error) {
		if problem(err); err == nil {
			k.baselines = append(k.baselines, entryOf(s))
		}
	}))
	slices.SortFunc(k.baselines, func(x, y Entry) int { return x.End.Compare(y.End) })
	var last time.Time
	if n := len(k.baselines); n > 0 {
		last = k.baselines[n-1].End
	}
	all, older := archive.NewSum(insight.Options{}), archive.NewSum(insight.Options{})
	problem(k.dir.Periods(func(s *insight.Snapshot, err error) {
		if problem(err); err != nil || k.ctx.Err() != nil {
			return
		}
		if all.Add(s) && !s.End.After(last) {
			older.Add(s)
		} else {
			k.lag.ofBaseline.Add(s.Lag)
		}
	}))
	k.written = all.Snapshot()
	slices.SortFunc(k.written.Statements, func(x, y insight.Counted) int { return -cmp.Compare(x.Last, y.Last) })
	k.written.Statements = k.written.Statements[:min(len(k.written.Statements), k.o.Statements)]
	k.written.End = time.Now()
	k.mark = older.Snapshot()
	k.mark.End = cmp.Or(last, k.written.Begin, k.written.End)
	k.o.Book.Add(k.written)
}

func entryOf(s *insight.Snapshot) Entry {
	e := Entry{Name: s.Name, Why: s.Why, Begin: s.Begin, End: s.End}
	for i := range s.Statements {
		e.Calls += s.Statements[i].On[insight.Primary].Calls + s.Statements[i].On[insight.Replica].Calls
	}
	return e
}

// write writes what came since it was last done.
func (k *Keeper) write() {
	if k.dir == nil {
		return
	}
	now := k.o.Book.Snapshot()
	s := now.Since(k.written)
	if len(s.Statements) == 0 {
		return
	}
	k.number++
	s.ID, s.Lag = fmt.Sprintf("%s-%d", k.instance, k.number), k.lag.ofPeriod
	switch err := k.dir.SavePeriod(s); {
	case err == nil:
		k.written, k.lag.ofPeriod, k.failing = now, insight.Lag{}, false
		if err := k.dir.Prune(); err != nil {
			k.o.Log.Warn("old files of insight.dir could not be removed", zap.Error(err))
		}
	case !k.failing:
		k.o.Log.Warn("what insight has counted could not be written; it is tried again each minute", zap.Error(err))
		k.failing = true
	}
}

// changed takes a baseline of what was counted before a change.
func (k *Keeper) changed(why string, now time.Time) {
	name := "before-" + safe(why)
	if why == "ddl" {
		name += now.UTC().Format("-20060102T150405")
	}
	if slices.ContainsFunc(k.baselines, func(e Entry) bool { return e.Name == name }) {
		return // an earlier process has seen that version
	}
	switch err := k.take(name, why); {
	case err == nil:
		k.o.Log.Info("a baseline was taken by itself", zap.String("event", "baseline"), zap.String("name", name), zap.String("because", why))
	case !errors.Is(err, errNothing):
		k.o.Log.Warn("a baseline could not be taken", zap.String("name", name), zap.Error(err))
	}
}

// safe is what of an application's name may be part of the name of a baseline.
func safe(text string) string {
	text = strings.Map(func(r rune) rune {
		if archive.CheckName("x"+string(r)) != nil {
			return '-'
		}
		return r
	}, text)
	return text[:min(len(text), 60)]
}

// Errors of commands.
var (
	errNothing = errors.New("nothing was counted since the last baseline")
	errOff     = errors.New("nothing is counted: insight.enabled is false")
	errEnding  = errors.New("pgweir is shutting down")
)

func (k *Keeper) take(name, why string) error {
	if err := archive.CheckName(name); err != nil {
		return err
	}
	now := k.o.Book.Snapshot()
	s := k.sinceMark(now)
	if len(s.Statements) == 0 {
		return errNothing
	}
	s.Name, s.Why = name, why
	e := entryOf(s)
	others := slices.DeleteFunc(slices.Clone(k.baselines), func(x Entry) bool { return x.Name == name })
	for len(others) >= maxBaselines {
		i := slices.IndexFunc(others, func(x Entry) bool { return x.Why != "" })
		if i < 0 {
			return fmt.Errorf("%d baselines are kept: remove one (pgweir insights baseline --remove NAME)", maxBaselines)
		}
		if err := k.drop(others[i].Name); err != nil {
			return err
		}
		others = slices.Delete(others, i, i+1)
	}
	if k.dir != nil {
		if err := k.dir.SaveBaseline(s); err != nil {
			return err
		}
	} else {
		var data bytes.Buffer
		if err := archive.Write(&data, s); err != nil {
			return err
		}
		e.data = data.Bytes()
	}
	k.baselines = append(others, e)
	k.mark, k.lag.ofBaseline = now, insight.Lag{}
	k.write() // so that no file holds what came before and after
	return nil
}

// sinceMark is what was counted since the last baseline.
func (k *Keeper) sinceMark(now *insight.Snapshot) *insight.Snapshot {
	s := now.Since(k.mark)
	s.Lag = k.lag.ofBaseline
	return s
}

func (k *Keeper) drop(name string) error {
	if k.dir != nil {
		return k.dir.RemoveBaseline(name)
	}
	return nil
}

// ask has run do what f does, and returns its error.
func (k *Keeper) ask(f func() error) (err error) {
	if k == nil {
		return errOff
	}
	done := make(chan struct{})
	select {
	case k.requests <- func() { defer close(done); err = f() }:
		<-done
		return err
	case <-k.ctx.Done():
		return errEnding
	}
}

// Take takes a baseline, in place of one of that name.
func (k *Keeper) Take(name string) error {
	return k.ask(func() error { return k.take(name, "") })
}

// Remove removes a baseline.
func (k *Keeper) Remove(name string) error {
	return k.ask(func() error {
		i := slices.IndexFunc(k.baselines, func(e Entry) bool { return e.Name == name })
		if i < 0 {
			return k.unknown(name)
		}
		err := k.drop(name)
		k.baselines = slices.Delete(k.baselines, i, i+1)
		return err
	})
}

// List lists the baselines, the oldest first.
func (k *Keeper) List() (all []Entry, err error) {
	err = k.ask(func() error { all = slices.Clone(k.baselines); return nil })
	return all, err
}

// Latest is the last baseline, and what was counted since; nil if there is none.
func (k *Keeper) Latest() (before, after *insight.Snapshot, err error) {
	var data bytes.Buffer
	err = k.ask(func() error {
		n := len(k.baselines)
		if n == 0 {
			return nil
		}
		after = k.sinceMark(k.o.Book.Snapshot())
		return k.copy(&data, &k.baselines[n-1])
	})
	if err != nil || after == nil {
		return nil, nil, err
	}
	before, err = archive.Read(&data)
	return before, after, err
}

// copy writes a baseline as package archive does.
func (k *Keeper) copy(w io.Writer, e *Entry) error {
	if k.dir != nil {
		return k.dir.CopyBaseline(w, e.Name)
	}
	_, err := w.Write(e.data)
	return err
}

// Write writes a baseline as package archive does; without a name, what was counted since the
// last one.
func (k *Keeper) Write(w io.Writer, name string) error {
	return k.ask(func() error {
		if name == "" {
			return archive.Write(w, k.sinceMark(k.o.Book.Snapshot()))
		}
		i := slices.IndexFunc(k.baselines, func(e Entry) bool { return e.Name == name })
		if i < 0 {
			return k.unknown(name)
		}
		return k.copy(w, &k.baselines[i])
	})
}

func (k *Keeper) unknown(name string) error {
	names := make([]string, len(k.baselines))
	for i, e := range k.baselines {
		names[i] = e.Name
	}
	if len(names) == 0 {
		return fmt.Errorf("there is no baseline %q, nor any other", name)
	}
	return fmt.Errorf("there is no baseline %q; there are: %s", name, strings.Join(names, ", "))
}
