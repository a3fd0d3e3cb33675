// Package logs writes the log of a process, and has nobody wait for who reads it. Lines go into a Queue; one goroutine
// writes them. A reader that stops costs lines, which are counted and told of once it reads again, and nothing else:
// neither sessions nor signals wait for it.
package logs

import (
	"io"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/config"
)

// Log is a logger and what it writes by. All methods may be called concurrently.
type Log struct {
	*zap.Logger
	level zap.AtomicLevel
	queue *Queue
}

// Open begins to write to w, which only the Log uses from now on, in the format and from the level on that c says. Close ends it.
func Open(c config.Log, w io.Writer) *Log {
	l := &Log{level: zap.NewAtomicLevelAt(levelOf(c)), queue: newQueue(w)}
	l.Logger = zap.New(zapcore.NewCore(encoder(c), l.queue, l.level))
	l.queue.start(l.tell)
	return l
}

// tell says how many lines have been lost since it was said last.
func (l *Log) tell(lost uint64) {
	l.Warn("lines of this log were dropped: nobody read them in time", zap.Uint64("lines", lost))
}

// Follow has c say from which level on.
func (l *Log) Follow(c config.Log) { l.level.SetLevel(levelOf(c)) }

// Dropped is how many lines have been lost.
func (l *Log) Dropped() uint64 { return l.queue.dropped.Load() }

// Write adds a line that is no message of the logger, in its turn.
func (l *Log) Write(line []byte) (int, error) { return l.queue.Write(line) }

// Close writes what is queued, within patience; what comes later is dropped.
func (l *Log) Close(patience time.Duration) { l.queue.close(patience) }

func encoder(c config.Log) zapcore.Encoder {
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	enc.EncodeDuration = zapcore.StringDurationEncoder
	if c.Format != "console" {
		return zapcore.NewJSONEncoder(enc)
	}
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	enc.EncodeLevel = zapcore.CapitalLevelEncoder
	enc.ConsoleSeparator = "  "
	return zapcore.NewConsoleEncoder(enc)
}

// levelOf is the level of c. An unknown one, which a loaded configuration cannot hold, is info.
func levelOf(c config.Log) zapcore.Level {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return zapcore.InfoLevel
	}
	return level
}
