package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/internal/pgtest"
)

const readingPolicies = `
CREATE TABLE rows (org text, author text);
CREATE FUNCTION by_sql() RETURNS text LANGUAGE sql AS $$SELECT current_setting('App.By_SQL', true)$$;
CREATE FUNCTION by_body() RETURNS text LANGUAGE sql RETURN current_setting('app.by_body');
CREATE FUNCTION deep() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN by_sql() || by_body(); END$$;
CREATE FUNCTION "By Code"(org text) RETURNS bool LANGUAGE plpgsql AS $x$
BEGIN -- current_setting('app.comment')
  RETURN org = pg_catalog.current_setting ( $$app.by_code$$ , true) AND org <> 'current_setting(''app.string'')';
END$x$;
CREATE FUNCTION again(n int) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RETURN n = 0 OR again(n - 1) OR current_setting('app.x' || n) = ''; END$$;
CREATE FUNCTION uncalled() RETURNS text LANGUAGE sql AS $$SELECT current_setting('app.uncalled')$$;
CREATE POLICY a ON rows USING (org = current_setting('app.org'::text, true) AND current_setting('TimeZone') <> 'UTC')
  WITH CHECK (author = (SELECT current_setting('app.author')));
CREATE POLICY b ON rows AS RESTRICTIVE USING ("By Code"(org) AND (deep() <> '' OR again(2)));`

// TestSettingsOfPolicies: what policies read is found in their expressions and in the
// functions they call, and nothing else is.
func TestSettingsOfPolicies(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	q := connect(t, c.Primary, db, "postgres")
	none, err := SettingsOfPolicies(t.Context(), q)
	require.NoError(t, err)
	require.Empty(t, none)

	require.NoError(t, c.Primary.Exec(t.Context(), db, readingPolicies))
	read, err := SettingsOfPolicies(t.Context(), q)
	require.NoError(t, err)
	require.Equal(t, []string{"app.author", "app.by_body", "app.by_code", "app.by_sql", "app.org"}, read)
}
