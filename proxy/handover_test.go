package proxy_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestPlansAreOfTheirSession: plans that a server keeps, of prepared statements and within
// functions, have literals as they were read and calls of functions declared IMMUTABLE as they
// were computed. They are nobody's who has other settings.
func TestPlansAreOfTheirSession(t *testing.T) {
	t.Parallel()
	const setup = `
create table doc (id int primary key, org text);
insert into doc select i, (i % 2)::text from generate_series(1, 4) i;
create table kept (v text, at timestamptz);
create sequence seq;
create function org() returns text language plpgsql immutable as $$ begin return current_setting('app.current_org_id', true); end $$;
create function org_sql() returns text language sql immutable as $$ select org() $$;
create function docs() returns setof doc language plpgsql stable as $$ begin return query select * from doc where org = org() order by 1; end $$;
create function day() returns numeric language plpgsql stable as $$ begin return extract(epoch from timestamptz '2020-01-01 00:00'); end $$;
create function short() returns text language plpgsql stable as $$ begin return (2/3.0::float8)::text; end $$;
create function stamp() returns trigger language plpgsql as $$ begin new.at := timestamptz '2020-01-01 00:00'; return new; end $$;
create trigger stamp before insert on kept for each row execute function stamp()`
	// Each of three sessions sets it to its own value, and asks twice, in turns.
	among := func(name, set string, values [3]string, ask string) story {
		steps := ""
		for i, v := range values {
			steps += fmt.Sprintf("@%c\nQ %s\n", 'a'+i, fmt.Sprintf(set, v))
		}
		for range 2 {
			for i := range values {
				steps += fmt.Sprintf("@%c\n%s\n", 'a'+i, ask)
			}
		}
		return story{name: name, steps: steps}
	}
	orgs, zones := [3]string{"0", "1", "2"}, [3]string{"UTC", "Asia/Tokyo", "UTC"}
	const org, zone = "set app.current_org_id = '%s'", "set timezone = '%s'"
	stage{setup: setup}.tell(t,
		among("an immutable function", org, orgs, "Q select * from doc where org = org() order by 1"),
		among("an immutable function, named", org, orgs, "P s select * from doc where org = org_sql() order by 1\nB \"\" s\nE \"\"\nC S s\nS\nwait"),
		among("an immutable function that is written", org, orgs, "Q insert into kept (v) values (org()) returning v"),
		among("an immutable function in another's plan", org, orgs, "Q select * from docs()"),
		story{name: "an immutable function, in the transaction only", steps: strings.Repeat("@a\nQ begin\nQ set local app.current_org_id = '1'\nQ select * from docs()\nQ commit\n"+
			"@b\nQ begin\nQ set local app.current_org_id = '0'\nQ select * from docs()\nQ commit\n", 2)},
		among("a literal in a function", zone, zones, "Q select day()"),
		among("a literal in a trigger", zone, zones, "Q insert into kept (v) values ('x') returning extract(epoch from at)"),
		among("a literal in a function, set and set back", zone, zones, "Q set timezone = 'Europe/Berlin'\nQ select day()\nQ set timezone to default\nQ select 1"),
		among("an output in a function", "set extra_float_digits = %s", [3]string{"0", "1", "-2"}, "Q select short()"),
		among("an output, named", "set extra_float_digits = %s", [3]string{"0", "1", "-2"}, "P s insert into kept (v) values ((2/3.0::float8)::text) returning v\nB \"\" s\nE \"\"\nC S s\nS\nwait"),
		among("a comparison with null, named", "set transform_null_equals = %s", [3]string{"off", "on", "off"}, "P s select 1 where null::int = null\nB \"\" s\nE \"\"\nC S s\nS\nwait"),
		among("bytes, named", "set bytea_output = %s", [3]string{"hex", "escape", "hex"}, "P s select '\\\\x41ff'::bytea::text\nB \"\" s\nE \"\"\nC S s\nS\nwait"),
		among("behind a Flush, with a sequence", zone, zones, "P \"\" select extract(epoch from timestamptz '2020-01-01 00:00'), nextval('seq')\nB \"\" \"\"\nE \"\"\nH\nwait C\nS\nwait"),
		among("a zone's abbreviation, named", "set timezone_abbreviations = '%s'", [3]string{"Default", "Australia", "Default"}, "P s select extract(epoch from '2020-01-01 00:00 EST'::timestamptz)\nB \"\" s\nE \"\"\nC S s\nS\nwait"),
	)
}
