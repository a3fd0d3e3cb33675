-- Statements of an application, as a script, an ORM's log or pg_stat_statements has them.

-- Filtered: the delivery's organization is named, and the invoice's follows from it.
SELECT d.address, i.amount
  FROM deliveries d JOIN invoices i ON i.delivery_id = d.id AND i.organization_id = d.organization_id
 WHERE d.organization_id = $1;

-- Row-level security filters it, the statement does not.
SELECT count(*) FROM deliveries WHERE state = 'under way';

-- Nothing filters it.
SELECT * FROM invoices WHERE NOT paid;

-- Nor this: whoever guesses a number marks another's invoice as paid.
UPDATE invoices SET paid = true WHERE id = $1;

-- Meant for all.
SELECT sum(amount) FROM invoices /* pgweir:cross-tenant reason=monthly report */;
