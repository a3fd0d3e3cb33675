-- What pg_dump --schema-only writes of a database of many tenants: each row belongs to an
-- organization, and a session says whose it is by app.current_org_id.

CREATE TABLE organizations (
    id int PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE deliveries (
    id int PRIMARY KEY,
    organization_id int NOT NULL REFERENCES organizations,
    address text NOT NULL,
    state text NOT NULL
);
CREATE INDEX ON deliveries (organization_id, state);
ALTER TABLE deliveries ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON deliveries
    USING (organization_id = nullif(current_setting('app.current_org_id', true), '')::int);

-- Somebody forgot the policy here.
CREATE TABLE invoices (
    id int PRIMARY KEY,
    organization_id int NOT NULL REFERENCES organizations,
    delivery_id int NOT NULL REFERENCES deliveries,
    amount numeric NOT NULL,
    paid boolean NOT NULL DEFAULT false
);
CREATE INDEX ON invoices (organization_id);
