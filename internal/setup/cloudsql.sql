-- What pgweir's service account needs on Google Cloud SQL, to be run by a member of
-- cloudsqlsuperuser (postgres) on the primary. It may be run again.
--
-- Refused there: reading pg_shadow, to everybody, unless the instance's flag
-- cloudsql.pg_shadow_select_role names the role that may. SQL cannot set it:
--   gcloud sql instances patch INSTANCE --database-flags=cloudsql.pg_shadow_select_role={{.User}}
-- (name the flags that are set already as well). The default auth.query then works.
--
-- Then set the account's password (\password {{ident .User}} in psql), and in pgweir.yaml:
--   service: {user: {{.User}}, password: "${PGWEIR_PASSWORD}", database: {{.Database}}}

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
COMMIT;
