package page

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"
)

// maxEvents is how many are kept.
const maxEvents = 40

// fieldsShown are the fields of a line that are shown: of servers, clients and the configuration, never of
// statements or what sessions have set.
var fieldsShown = []string{
	"cluster", "server", "role", "before", "timeline", "without_primary", "primary_wait", "connections", "user", "database",
	"client", "pid", "by", "command", "took", "cut_off", "changed", "faults", "needs_restart", "servers", "because", "error",
}

// Event is a line of the log that has a name, or one of level WARN and above.
type Event struct {
	At      time.Time `json:"at"`
	Level   string    `json:"level"`
	Name    string    `json:"name,omitempty"`
	Message string    `json:"message"`
	Fields  []string  `json:"fields,omitempty"` // key=value
	Times   int       `json:"times"`            // lines without a name are counted together
}

// Events are the last of them. It is a zapcore.Core, to be joined to that of a log. Safe for concurrent use.
type Events struct {
	zapcore.LevelEnabler
	with []zapcore.Field
	*recent
}

type recent struct {
	mu  sync.Mutex // protects all
	all []Event    // the oldest first
}

// NewEvents keeps none yet.
func NewEvents() *Events { return &Events{LevelEnabler: zapcore.InfoLevel, recent: &recent{}} }

// With implements zapcore.Core.
func (e *Events) With(fields []zapcore.Field) zapcore.Core {
	return &Events{e.LevelEnabler, slices.Concat(e.with, fields), e.recent}
}

// Check implements zapcore.Core.
func (e *Events) Check(entry zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Enabled(entry.Level) {
		return to.AddCore(entry, e)
	}
	return to
}

// Sync implements zapcore.Core.
func (e *Events) Sync() error { return nil }

// Write implements zapcore.Core.
func (e *Events) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	name := ""
	for _, f := range slices.Concat(e.with, fields) {
		if f.Key == "event" {
			name = f.String
		}
	}
	if name == "" && entry.Level < zapcore.WarnLevel {
		return nil
	}
	values := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(e.with, fields) {
		f.AddTo(values)
	}
	ev := Event{At: entry.Time, Level: entry.Level.String(), Name: name, Message: entry.Message, Times: 1}
	for _, key := range fieldsShown {
		if v, ok := values.Fields[key]; ok && fmt.Sprint(v) != "[]" {
			ev.Fields = append(ev.Fields, key+"="+clipped(fmt.Sprint(v)))
		}
	}
	e.keep(ev)
	return nil
}

// keep has lines without a name, of which there may be many, take one place for each message.
func (k *recent) keep(ev Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ev.Name == "" {
		if i := slices.IndexFunc(k.all, func(o Event) bool { return o.Name == "" && o.Message == ev.Message }); i >= 0 {
			ev.Times += k.all[i].Times
			k.all = slices.Delete(k.all, i, i+1)
		}
	}
	if len(k.all) == maxEvents {
		k.all = slices.Delete(k.all, 0, 1)
	}
	k.all = append(k.all, ev)
}

// list are all of them, the newest first.
func (k *recent) list() []Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := slices.Clone(k.all)
	slices.Reverse(all)
	return all
}

// maxText bounds a text that is shown.
const maxText = 300

func clipped(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}
