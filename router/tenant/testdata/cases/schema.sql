-- The tables of the cases. Tenant columns are organization_id and tenant_id.
CREATE SCHEMA other;
CREATE TABLE plans (id int PRIMARY KEY, name text);
CREATE TABLE customers (
  id int PRIMARY KEY, organization_id int NOT NULL, name text, plan_id int REFERENCES plans, email text,
  UNIQUE (organization_id, email));
CREATE TABLE orders (
  id int PRIMARY KEY, organization_id int NOT NULL, customer_id int REFERENCES customers, code text, amount int,
  status text, parent_id int);
CREATE TABLE items (
  organization_id int NOT NULL, id int NOT NULL, order_id int REFERENCES orders, sku text, qty int,
  CONSTRAINT items_key PRIMARY KEY (organization_id, id));
CREATE TABLE notes (id int PRIMARY KEY, organization_id int, body text, order_id int);
CREATE TABLE accounts (id int PRIMARY KEY, tenant_id text NOT NULL, title text);
CREATE TABLE big (id int PRIMARY KEY, organization_id bigint NOT NULL, body text);
CREATE TABLE exact (id int PRIMARY KEY, organization_id numeric NOT NULL);
CREATE TABLE loose (id int PRIMARY KEY, organization_id float8 NOT NULL);
CREATE TABLE defaults (id int PRIMARY KEY, organization_id int NOT NULL DEFAULT current_setting('app.org')::int, body text);
CREATE TABLE events (organization_id int NOT NULL, id int NOT NULL, kind text) PARTITION BY LIST (organization_id);
CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
CREATE TABLE base (id int, body text);
CREATE TABLE special (organization_id int) INHERITS (base);
CREATE TABLE "Odd Name" (id int PRIMARY KEY, organization_id int NOT NULL, "organization_ID" int);
CREATE TABLE things (id int PRIMARY KEY, body text);
CREATE TABLE other.things (id int PRIMARY KEY, organization_id int NOT NULL, body text);
CREATE TABLE other.secrets (id int PRIMARY KEY, organization_id int NOT NULL, body text);
CREATE TABLE archive (id int PRIMARY KEY, organization_id int NOT NULL, body text);
CREATE TABLE tree (id int PRIMARY KEY, organization_id int NOT NULL, parent_id int, name text);
CREATE VIEW v_orders AS SELECT * FROM orders;
CREATE VIEW v_mine AS SELECT id, organization_id, amount FROM orders WHERE organization_id = current_setting('app.org')::int;
CREATE VIEW v_hidden AS SELECT id, code FROM orders;
CREATE VIEW v_mine_hidden AS SELECT id, code FROM orders WHERE organization_id = current_setting('app.org')::int;
CREATE VIEW v_totals AS SELECT organization_id AS org, count(*) AS n, sum(amount) AS total FROM orders GROUP BY organization_id;
CREATE VIEW v_top AS SELECT organization_id, id FROM orders ORDER BY amount DESC, id LIMIT 3;
CREATE VIEW v_joined AS SELECT o.organization_id, o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer_id AND c.organization_id = o.organization_id;
CREATE VIEW v_badly_joined AS SELECT o.organization_id, o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer_id;
CREATE VIEW v_both (org, what, id) AS SELECT organization_id, 'o', id FROM orders UNION ALL SELECT organization_id, 'c', id FROM customers;
CREATE VIEW v_nested AS SELECT v.org, v.id FROM v_both v WHERE v.what = 'o';
CREATE VIEW v_plans AS SELECT id, name FROM plans;
CREATE MATERIALIZED VIEW m_orders AS SELECT organization_id, count(*) AS n FROM orders GROUP BY 1;
