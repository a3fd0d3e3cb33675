package proxy

import (
	"fmt"
	"net"
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
		name, ok := strings.CutPrefix(setting.Fold(n), preferences.Prefix)
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

// maxName is how many bytes of an application_name a server keeps: one less than NAMEDATALEN.
const maxName = 63

// addHost adds a client's address to its application_name, which gives way if it is long:
// "app - 192.0.2.1:49152".
func addHost(application string, client net.Addr) string {
	from := " - " + client.String()
	if client.Network() == "unix" {
		from = " - local"
	}
	if application == "" {
		application = "app"
	}
	return application[:min(len(application), max(maxName-len(from), 0))] + from
}

// printable is what a server of a version makes of an application_name: it looks at bytes,
// whatever encoding they are in, and shows those beyond printable ASCII in hexadecimal, or, before
// version 16, as question marks.
// https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-APPLICATION-NAME
func printable(name string, version int) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case ' ' <= c && c <= '~':
			b.WriteByte(c)
		case version >= 160000:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte('?')
		}
	}
	return b.String()
}
