CREATE TABLE countries (id int PRIMARY KEY, name text);

CREATE TABLE orders (
    id int PRIMARY KEY,
    tenant_id int NOT NULL,
    customer_id int,
    state text
);
CREATE INDEX ON orders (tenant_id);
ALTER TABLE orders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON orders
    USING (tenant_id = COALESCE(NULLIF(current_setting('app.tenant', true), '')::int, tenant_id));

CREATE TABLE customers (
    id int PRIMARY KEY,
    tenant_id int,
    name text
);
