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
-- that nobody else may call. What is not there, or has expired, is NULL.
CREATE SCHEMA IF NOT EXISTS pgweir;
ALTER SCHEMA pgweir OWNER TO CURRENT_USER;
REVOKE ALL ON SCHEMA pgweir FROM PUBLIC;
DROP FUNCTION IF EXISTS pgweir.secret(text);
CREATE FUNCTION pgweir.secret(INOUT name text, OUT secret text)
  LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $fn$SELECT s.usename::text, s.passwd FROM pg_catalog.pg_shadow s
    WHERE s.usename = $1 AND (s.valuntil IS NULL OR s.valuntil > now())$fn$;
REVOKE ALL ON FUNCTION pgweir.secret(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA pgweir TO {{ident .User}};
GRANT EXECUTE ON FUNCTION pgweir.secret(text) TO {{ident .User}};
COMMIT;
