-- A table for each gap, and one beside it that has none.
CREATE ROLE app LOGIN;
CREATE ROLE boss LOGIN SUPERUSER;
CREATE ROLE bypasser LOGIN BYPASSRLS;
CREATE ROLE proprietor NOLOGIN;
CREATE ROLE heir LOGIN IN ROLE proprietor;
CREATE ROLE stranger LOGIN NOINHERIT IN ROLE proprietor;
CREATE ROLE auditor LOGIN;

CREATE TABLE countries (id int PRIMARY KEY); -- no tenant

CREATE TABLE good (tenant_id int NOT NULL, id int, PRIMARY KEY (tenant_id, id));
ALTER TABLE good ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON good USING (tenant_id = NULLIF(current_setting('app.tenant', true), '')::int);

CREATE TABLE bare (tenant_id int NOT NULL PRIMARY KEY);

CREATE TABLE unforced (tenant_id int NOT NULL PRIMARY KEY);
ALTER TABLE unforced ENABLE ROW LEVEL SECURITY, OWNER TO proprietor;
CREATE POLICY p ON unforced USING (tenant_id = NULLIF(current_setting('app.tenant', true), '')::int);

CREATE TABLE readable (tenant_id int NOT NULL PRIMARY KEY); -- no policy for UPDATE and DELETE
ALTER TABLE readable ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY r ON readable FOR SELECT USING (tenant_id = current_setting('app.tenant')::int);
CREATE POLICY a ON readable FOR INSERT WITH CHECK (tenant_id = current_setting('app.tenant')::int);

CREATE TABLE opens (tenant_id int NOT NULL PRIMARY KEY); -- while nothing is set
ALTER TABLE opens ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY isolation ON opens USING (tenant_id = COALESCE(NULLIF(current_setting('app.tenant', true), '')::int, tenant_id));
CREATE POLICY bypass ON opens USING (COALESCE(current_setting('app.is_superuser', true), 'false')::boolean = true);

CREATE TABLE open (tenant_id int NOT NULL PRIMARY KEY);
ALTER TABLE open ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone ON open USING (true) WITH CHECK (tenant_id = current_setting('app.tenant')::int);
CREATE POLICY tenant ON open USING (tenant_id = current_setting('app.tenant')::int);

CREATE TABLE moves (tenant_id int NOT NULL PRIMARY KEY); -- rows may be given to another tenant
ALTER TABLE moves ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON moves USING (tenant_id = current_setting('app.tenant')::int) WITH CHECK (true);

CREATE TABLE restricted (tenant_id int NOT NULL PRIMARY KEY); -- an open policy with one that restricts it
ALTER TABLE restricted ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone ON restricted USING (true);
CREATE POLICY tenant ON restricted AS RESTRICTIVE USING (tenant_id = current_setting('app.tenant')::int);

CREATE TABLE audited (tenant_id int NOT NULL PRIMARY KEY); -- open to one role only
ALTER TABLE audited ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audited USING (tenant_id = current_setting('app.tenant')::int);
CREATE POLICY every ON audited FOR SELECT TO auditor USING (true);

CREATE TABLE shared (tenant_id int NOT NULL PRIMARY KEY, public bool);
ALTER TABLE shared ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON shared USING (public OR tenant_id = current_setting('app.tenant')::int);

CREATE TABLE nullable (tenant_id int, id int);
CREATE INDEX ON nullable (tenant_id, id);
ALTER TABLE nullable ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON nullable USING (tenant_id = current_setting('app.tenant')::int);

CREATE TABLE unindexed (tenant_id int NOT NULL, id int PRIMARY KEY);
CREATE INDEX ON unindexed (id, tenant_id);
CREATE INDEX ON unindexed (tenant_id) WHERE id > 0;
ALTER TABLE unindexed ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON unindexed USING (tenant_id = current_setting('app.tenant')::int);

CREATE TABLE parted (tenant_id int NOT NULL, id int, PRIMARY KEY (tenant_id, id)) PARTITION BY LIST (tenant_id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
ALTER TABLE parted ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON parted USING (tenant_id = current_setting('app.tenant')::int);

CREATE MATERIALIZED VIEW totals AS SELECT tenant_id, count(*) FROM good GROUP BY 1;

CREATE TABLE accounts (id int NOT NULL PRIMARY KEY); -- its tenant column has another name
CREATE TABLE public_holidays (tenant_id int); -- exempt
CREATE VIEW view_of_app AS SELECT * FROM good;
ALTER VIEW view_of_app OWNER TO app;
CREATE VIEW view_of_boss AS SELECT * FROM good;
ALTER VIEW view_of_boss OWNER TO boss;
