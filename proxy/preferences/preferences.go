// Package preferences is the proxy's own settings, pgweir.*: their names, what they may
// be, and what they come to. The proxy answers them itself and no server knows of them.
package preferences

import (
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/tracing"
	"github.com/pgweir/pgweir/router"
)

// Prefix begins the names of the proxy's settings.
const Prefix = "pgweir."

// Values are what the settings of a session come to.
type Values struct {
	Route  router.Route
	Trace  bool               // the client is told where its statements ran
	Level  router.Consistency // the zero value leaves it to rules and the configuration
	MinLSN lsn.LSN            // what every read must see; 0 is nothing
	Parent trace.SpanContext  // what spans of statements belong to; not valid for nothing
}

// Read returns what settings come to, each by its full name, where no route is set with
// the one given.
func Read(settings setting.Settings, route router.Route) Values {
	v := Values{Route: route}
	for name, value := range settings.All() {
		_ = v.set(strings.TrimPrefix(name, Prefix), value) // it was checked when it was set
	}
	return v
}

// Check says what is wrong with the value of a setting, named without Prefix; nil is nothing.
func Check(name, value string) *wire.Error { return new(Values).set(name, value) }

// names are the settings, for the error that one is none of them.
const names = "pgweir.route, pgweir.consistency, pgweir.min_lsn, pgweir.lsn, pgweir.trace and pgweir.traceparent"

// Unknown is the error that there is no setting of a name.
func Unknown(name string) *wire.Error {
	return wire.Errorf("42704", "unrecognized configuration parameter \"pgweir.%s\"", name).
		WithHint("The proxy's settings are " + names + ".")
}

// set takes over the value of one setting, or says what is wrong with it.
func (v *Values) set(name, value string) *wire.Error {
	word, ok := strings.ToLower(value), false
	bad := func(hint string) *wire.Error {
		return wire.Errorf("22023", "invalid value for parameter \"pgweir.%s\": \"%s\"", name, value).WithHint(hint)
	}
	switch name {
	case "route":
		if v.Route, ok = router.ParseRoute(word); !ok || word == "" {
			return bad("Available values: auto, primary, replica.")
		}
	case "consistency":
		if v.Level, ok = router.ParseConsistency(word); !ok {
			return bad("Available values: eventual, session, tenant, database, strong.")
		}
	case "min_lsn":
		at, err := lsn.Parse(value)
		if err != nil && value != "" {
			return bad("It is an LSN as SHOW pgweir.lsn tells it, such as '16/B374D848'.")
		}
		v.MinLSN = at
	case "trace":
		if v.Trace, ok = setting.ParseBool(value); !ok {
			return wire.Errorf("22023", "parameter \"pgweir.trace\" requires a Boolean value")
		}
	case "traceparent":
		if v.Parent = tracing.Parse(value, ""); !v.Parent.IsValid() && value != "" {
			return bad("It is a header of W3C Trace Context, such as '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'.")
		}
	default:
		return Unknown(name)
	}
	return nil
}
