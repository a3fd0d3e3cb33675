package proxy_test

import "testing"

// TestOpenKinds: what is not yet as on one server.
func TestOpenKinds(t *testing.T) {
	t.Skip("known to differ")
	stage{setup: items + "create schema s2; create function pl() returns int language plpgsql as $$ begin return 1; end $$; "}.tell(t,
		// Whether a library is loaded is not carried: a setting of its is a placeholder on a
		// connection whose process has not loaded it.
		story{name: "a library's setting behind its code", steps: "Q select pl()\nQ set plpgsql.nonsense = 1\nQ set plpgsql.check_asserts = maybe"},
		// The string that opens a failed transaction elsewhere leaves its own portal there.
		story{name: "Execute of the unnamed portal in a failed transaction", mode: "once", steps: "Q begin\nB \"\" nosuch\nS\nE \"\"\nS\nQ rollback"},
		// The session holds its connection already, which began with other settings.
		story{name: "RESET among others in an open transaction", startup: []string{"options", "-c search_path=s2,public"}, mode: "outside",
			steps: "Q begin\nQ select count(*) from items\nQ reset search_path ;; select current_setting('search_path')\nQ commit"},
		story{name: "RESET among others, tied to a connection", startup: []string{"options", "-c search_path=s2,public"}, mode: "outside",
			steps: "Q create temp table x%n% (a int)\nQ set search_path = public ;; reset search_path ;; select current_setting('search_path')"},
	)
}
