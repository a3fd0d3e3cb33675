package setting_test

import (
	"testing"

	"github.com/pgweir/pgweir/internal/setting"
)

// A change is said by SET wherever that leaves the very value behind.
func TestChangeSQL(t *testing.T) {
	for want, c := range map[string]setting.Change{
		`SET "application_name" TO 'it''s'`:                            {Name: "application_name", Value: "it's"},
		`SET LOCAL "app"."tenant" TO DEFAULT`:                          {Name: "app.tenant", Reset: true, Local: true},
		`SET "datestyle" TO 'SQL, DMY'`:                                {Name: "datestyle", Value: "SQL, DMY"},
		`SET "search_path" TO '$user', 's2'`:                           {Name: "search_path", Value: `"$user", s2`},
		`SET LOCAL "search_path" TO 'a'`:                               {Name: "search_path", Value: "a", Local: true},
		`SELECT pg_catalog.set_config('search_path', '', true)`:        {Name: "search_path", Local: true},
		`SELECT pg_catalog.set_config('search_path', 'A, b', false)`:   {Name: "search_path", Value: "A, b"},
		`SELECT pg_catalog.set_config('search_path', '"a""b"', false)`: {Name: "search_path", Value: `"a""b"`},
		`SELECT pg_catalog.set_config('search_path', 'a,b', false)`:    {Name: "search_path", Value: "a,b"},
		`SELECT pg_catalog.set_config('search_path', '"a', false)`:     {Name: "search_path", Value: `"a`},
		`SELECT pg_catalog.set_config('search_path', 'a; b', false)`:   {Name: "search_path", Value: "a; b"},
		`SET "search_path" TO 'A; B', 'b'`:                             {Name: "search_path", Value: `"A; B", b`},
		`SELECT pg_catalog.set_config('a.b', ` + octets + `, false)`:   {Name: "a.b", Value: "ä'"},
		`SET "session_authorization" TO 'someone'`:                     {Name: "session_authorization", Value: "someone"},
	} {
		if got := c.SQL(); got != want {
			t.Errorf("%+v: %s, not %s", c, got, want)
		}
	}
}

const octets = "pg_catalog.convert_from(pg_catalog.decode('c3a427', 'hex'), pg_catalog.pg_client_encoding())"
