package upstream

import (
	"context"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/explain"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/shadow"
	"github.com/pgweir/pgweir/proxy/tracing"
)

// Service is what all sessions use. The value does not change once it is made: reading the
// configuration again makes another. What it points to is safe for concurrent use.
type Service struct {
	Config       config.Config
	Log          *zap.Logger
	Metrics      *metrics.Metrics
	Audit        *audit.Auditor
	Registry     *prepared.Registry
	Assertion    *batch.Assertion // what a connection's next session makes sure of; nil for nothing
	Draining     *atomic.Bool     // the service is ending: idle sessions end
	Beside       *atomic.Bool     // other processes, whose commits are not known here, write too
	PrimaryReads bool             // the primary takes its share of reads
	OnlyPrimary  bool             // everything runs on the primary
	Shadow       *shadow.Report   // where statements would run, while all run on the primary
	Insight      *insight.Book    // of statements; nil if they are not counted
	Explain      *explain.Sampler // of their plans; nil if nobody is asked
	Tracer       *tracing.Tracer  // of statements; nil if none is traced
	Ending       context.Context  // that of the service

	// Current is the Service that follows from the configuration in force: sessions take it
	// over with each batch.
	Current *atomic.Pointer[Service]
}
