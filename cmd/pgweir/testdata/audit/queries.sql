-- The orders of a day, of all tenants.
SELECT * FROM orders
 WHERE state = 'open';

SELECT * FROM orders WHERE tenant_id = current_setting('app.tenant')::int;
SELECT * FROM countries;

/* pgweir:cross-tenant reason=yearly report */
SELECT count(*) FROM orders;

UPDATE customers SET name = 'x' WHERE id = 1;
SELECT * FROM orders WHERE state = 'closed';
SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer_id AND c.tenant_id = o.tenant_id
 WHERE o.tenant_id IN (1, 2);
SELECT FROM WHERE;
