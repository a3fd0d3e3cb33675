package proxy

import (
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/preferences"
)

// startup is what a client's startup packet says of its session.
type startup struct {
	settings    setting.Settings // of the server
	proxy       setting.Settings // of the proxy
	application string
}

// parseStartup reads the parameters of a startup packet. Its errors are for the client.
func parseStartup(params map[string]string) (startup, error) {
	values := map[string]string{}
	if options := params["options"]; options != "" {
		fromOptions, rest := setting.Options(options)
		if len(rest) > 0 {
			return startup{}, wire.Fatalf("22023", "startup option \"%s\" is not supported", rest[0]).
				WithHint("Only settings can be given: -c name=value.")
		}
		for n, v := range fromOptions {
			values[n] = v
		}
	}
	for n, v := range params {
		switch n {
		case "user", "database", "options", "replication":
		default:
			values[n] = v
		}
	}
	own := map[string]string{}
	for n, v := range values {
		name, ok := strings.CutPrefix(strings.ToLower(n), preferences.Prefix)
		if !ok {
			continue
		}
		if refused := preferences.Check(name, v); refused != nil {
			refused.Severity = "FATAL"
			return startup{}, refused
		}
		delete(values, n)
		own[preferences.Prefix+name] = v
	}
	return startup{setting.From(values), setting.From(own), params["application_name"]}, nil
}
