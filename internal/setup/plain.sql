-- What pgweir's service account needs, to be run by a superuser on the primary in
-- database {{.Database}} (service.database): psql -d {{.Database}} -f this.sql
-- It may be run again.
--
-- Then set the account's password (\password {{ident .User}} in psql), and in pgweir.yaml:
--   service: {user: {{.User}}, password: "${PGWEIR_PASSWORD}", database: {{.Database}}}
--   auth: {query: "{{.Query}}"}

BEGIN;
DO $do$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {{text .User}}) THEN
    CREATE ROLE {{ident .User}} LOGIN;
  END IF;
END $do$;

-- Roles, timelines and replication are seen in full, and no data.
GRANT pg_monitor TO {{ident .User}};
{{- range .Databases}}
GRANT CONNECT ON DATABASE {{ident .}} TO {{ident $.User}};
{{- end}}

-- The account learns the secret of one user at a time, by a function of the superuser
-- that nobody else may call. What is not there, or has expired, is NULL. The secret of a role
-- that may not log in is in a column of its own: it lets nobody in, but who knows it is told why.
CREATE SCHEMA IF NOT EXISTS pgweir;
ALTER SCHEMA pgweir OWNER TO CURRENT_USER;
REVOKE ALL ON SCHEMA pgweir FROM PUBLIC;
DROP FUNCTION IF EXISTS pgweir.secret(text);
CREATE FUNCTION pgweir.secret(INOUT name text, OUT secret text, OUT nologin text)
  LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $fn$SELECT a.rolname::text, CASE WHEN a.rolcanlogin THEN a.rolpassword END, CASE WHEN NOT a.rolcanlogin THEN a.rolpassword END
    FROM pg_catalog.pg_authid a WHERE a.rolname = $1 AND (a.rolvaliduntil IS NULL OR a.rolvaliduntil > now())$fn$;
REVOKE ALL ON FUNCTION pgweir.secret(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA pgweir TO {{ident .User}};
GRANT EXECUTE ON FUNCTION pgweir.secret(text) TO {{ident .User}};
COMMIT;
