\set ON_ERROR_STOP on
-- a comment
SELECT 1; SELECT 2;

/* pgweir:cross-tenant reason=monthly */
SELECT ';' AS "a;b",
       $$;$$
  FROM t;
COPY t (a, b) FROM stdin;
1	SELECT 3;
\.
;;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $f$ SELECT 1; SELECT 2; $f$;
\restrict x
-- only a comment
SELECT 4 /* no semicolon */
