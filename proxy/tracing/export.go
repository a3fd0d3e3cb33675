package tracing

import (
	"context"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
)

// queue holds spans until they are exported. When it is full they are dropped, and counted:
// the library's own queue, which is as large, would do it in silence.
type queue struct {
	sdk.SpanProcessor
	to   *exporter
	size int64
}

func newQueue(to *exporter) *queue {
	size, err := strconv.Atoi(os.Getenv("OTEL_BSP_MAX_QUEUE_SIZE"))
	if err != nil || size <= 0 {
		size = sdk.DefaultMaxQueueSize
	}
	return &queue{SpanProcessor: sdk.NewBatchSpanProcessor(to, sdk.WithMaxQueueSize(size)), to: to, size: int64(size)}
}

// OnEnd implements sdk.SpanProcessor.
func (q *queue) OnEnd(s sdk.ReadOnlySpan) {
	if q.to.queued.Add(1) > q.size {
		q.to.queued.Add(-1)
		q.to.dropped.Add(1)
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// exporter counts what becomes of spans.
type exporter struct {
	to     sdk.SpanExporter
	log    *zap.Logger
	ctx    context.Context // until which anything is exported
	giveUp context.CancelFunc
	logged time.Time // a failure; of the one goroutine that exports

	queued                    atomic.Int64
	exported, failed, dropped atomic.Uint64
}

func newExporter(to sdk.SpanExporter, log *zap.Logger) *exporter {
	e := &exporter{to: to, log: log}
	e.ctx, e.giveUp = context.WithCancel(context.Background())
	return e
}

// logEvery is how often it is logged that nothing can be exported.
const logEvery = time.Minute

// ExportSpans implements sdk.SpanExporter. An error is told here, and nowhere else.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	e.queued.Add(-int64(len(spans)))
	err := e.to.ExportSpans(ctx, spans)
	if err == nil {
		e.exported.Add(uint64(len(spans)))
		return nil
	}
	e.failed.Add(uint64(len(spans)))
	if now := time.Now(); e.logged.IsZero() || now.Sub(e.logged) >= logEvery {
		e.logged = now
		e.log.Warn("spans could not be exported", zap.Int("spans", len(spans)), zap.Error(err))
	}
	return nil
}

// Shutdown implements sdk.SpanExporter.
func (e *exporter) Shutdown(ctx context.Context) error { return e.to.Shutdown(ctx) }
