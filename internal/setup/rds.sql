-- What pgweir's service account needs on Amazon RDS and Aurora, to be run by the master
-- user (a member of rds_superuser) on the writer in database {{.Database}} (service.database).
-- It may be run again.
--
-- Refused there: reading pg_shadow and pg_authid, to everybody, so no function can look
-- up what the server has stored. Secrets that pgweir may know are kept beside it, as SCRAM
-- secrets, which tell no password. For each user run, as who administers the users,
--   SELECT pgweir.set_secret('app', 'SCRAM-SHA-256$4096:…');
-- It gives the role the same secret, so that what a client proves to pgweir logs it in to
-- the servers too. (psql's \password makes such a secret; log_statement = 'all' shows it.)
-- Where IAM or Secrets Manager changes passwords, use auth.user_file or
-- databases.NAME.server_user instead.
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

CREATE SCHEMA IF NOT EXISTS pgweir;
ALTER SCHEMA pgweir OWNER TO CURRENT_USER;
REVOKE ALL ON SCHEMA pgweir FROM PUBLIC;
CREATE TABLE IF NOT EXISTS pgweir.secrets (
  name text PRIMARY KEY,
  secret text NOT NULL CHECK (secret LIKE 'SCRAM-SHA-256$%')
);
REVOKE ALL ON TABLE pgweir.secrets FROM PUBLIC;

DROP FUNCTION IF EXISTS pgweir.set_secret(text, text);
CREATE FUNCTION pgweir.set_secret(name text, secret text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
  AS $fn$BEGIN
    EXECUTE format('ALTER ROLE %I PASSWORD %L', name, secret);
    INSERT INTO pgweir.secrets AS s VALUES (set_secret.name, set_secret.secret)
      ON CONFLICT ON CONSTRAINT secrets_pkey DO UPDATE SET secret = excluded.secret;
  END$fn$;
REVOKE ALL ON FUNCTION pgweir.set_secret(text, text) FROM PUBLIC;

-- The account learns the secret of one user at a time. What is not there, or has
-- expired, is NULL. The secret of a role that may not log in is in a column of its own: it lets
-- nobody in, but who knows it is told why.
DROP FUNCTION IF EXISTS pgweir.secret(text);
CREATE FUNCTION pgweir.secret(INOUT name text, OUT secret text, OUT nologin text)
  LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $fn$SELECT s.name, CASE WHEN r.rolcanlogin THEN s.secret END, CASE WHEN NOT r.rolcanlogin THEN s.secret END
    FROM pgweir.secrets s JOIN pg_catalog.pg_roles r ON r.rolname = s.name
    WHERE s.name = $1 AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil > now())$fn$;
REVOKE ALL ON FUNCTION pgweir.secret(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA pgweir TO {{ident .User}};
GRANT EXECUTE ON FUNCTION pgweir.secret(text) TO {{ident .User}};
COMMIT;
