// Package tracing makes spans, by OpenTelemetry, of statements that say to which trace they
// belong: by a comment (traceparent='…', as sqlcommenter writes it) or by the setting
// pgweir.traceparent. Who asked for the trace has decided whether it is sampled; of other
// statements nothing is recorded. What of a statement is told holds no literal.
//
// A Tracer is one service's, a Batch what is recorded of one batch while it is answered; it
// becomes spans when that is over. Nothing here waits for a collector.
package tracing

import (
	"context"
	"fmt"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/router"
)

// flushWithin bounds how long the end of a service waits for what is not exported yet.
const flushWithin = 2 * time.Second

// Tracer makes the spans of a service. It is safe for concurrent use; nil makes none.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	spans    *exporter
	shown    *lru.Cache[*router.Plan, shown]
}

// shown is what is told of a statement's text.
type shown struct{ text, operation string }

// maxShown bounds the statements whose text is kept as it is told.
const maxShown = 1024

// New makes a Tracer whose exporter, queue and resource are what the environment says
// (OTEL_*); nil if c turns it off. Nothing is connected to before there is a span.
func New(ctx context.Context, c config.Tracing, log *zap.Logger) (*Tracer, error) {
	if !c.Enabled {
		return nil, nil
	}
	to, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	of, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(semconv.ServiceName(c.ServiceName)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	t := &Tracer{spans: newExporter(to, log)}
	t.provider = sdk.NewTracerProvider(sdk.WithResource(of), sdk.WithSpanProcessor(newQueue(t.spans)))
	t.tracer = t.provider.Tracer("github.com/pgweir/pgweir")
	t.shown, _ = lru.New[*router.Plan, shown](maxShown) // it fails for a size of 0
	return t, nil
}

// Close exports what there is, as far as that is done within a moment.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushWithin)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what was not exported is counted
	t.spans.giveUp()
}

// valid is what may stand in a span: collectors take UTF-8 only, and with one name that is not they refuse all that comes with it.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// show is what is told of a text that p is the plan of, which may be nil.
func (t *Tracer) show(p *router.Plan, text []byte) shown {
	if p != nil {
		if s, ok := t.shown.Get(p); ok {
			return s
		}
	}
	s := shown{text: grammar.Shape(string(text))}
	if first, _, _ := strings.Cut(strings.TrimLeft(s.text, "("), " "); !strings.HasPrefix(first, "<") {
		s.operation = strings.ToUpper(first)
	}
	if p != nil {
		t.shown.Add(p, s)
	}
	return s
}
