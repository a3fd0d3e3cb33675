package backend

import "testing"

func TestParseAddress(t *testing.T) {
	for _, c := range []struct{ in, host, out, network, address string }{
		{"127.0.0.1:5433", "127.0.0.1", "127.0.0.1:5433", "tcp", "127.0.0.1:5433"},
		{"db.example", "db.example", "db.example:5432", "tcp", "db.example:5432"},
		{"[::1]:7", "::1", "[::1]:7", "tcp", "[::1]:7"},
		{"::1", "::1", "[::1]:5432", "tcp", "[::1]:5432"},
		{"[::1]", "::1", "[::1]:5432", "tcp", "[::1]:5432"},
		{"/run/pg:5434", "/run/pg", "/run/pg:5434", "unix", "/run/pg/.s.PGSQL.5434"},
		{"/run/pg", "/run/pg", "/run/pg:5432", "unix", "/run/pg/.s.PGSQL.5432"},
		{"/run/a:b/pg", "/run/a:b/pg", "/run/a:b/pg:5432", "unix", "/run/a:b/pg/.s.PGSQL.5432"},
		{"/run/a:b/pg:99", "/run/a:b/pg", "/run/a:b/pg:99", "unix", "/run/a:b/pg/.s.PGSQL.99"},
	} {
		a, err := ParseAddress(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		network, address := a.Network()
		if a.Host != c.host || a.String() != c.out || network != c.network || address != c.address {
			t.Errorf("%s: host %q, %q, %s %s", c.in, a.Host, a, network, address)
		}
		if again, err := ParseAddress(a.String()); err != nil || again != a {
			t.Errorf("%s: read again it is %v, %v", c.in, again, err)
		}
	}
	for _, bad := range []string{"", ":5432", "h:0", "h:65536", "h:x", "h:1:2", "[::1]x:1", "/run:x"} {
		if a, err := ParseAddress(bad); err == nil {
			t.Errorf("%q is accepted as %v", bad, a)
		}
	}
}
