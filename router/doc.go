// Package router knows SQL and no sockets: it turns the text of a statement
// into a Plan, which says what the statement does, where it may run and what it
// leaves behind. What is not proved to be a read goes to the primary.
//
// Plans is the front door: a cache of analysed statements, one for each
// database. The way through it:
//
//	Plans.Get   text -> *Plan, from the cache or by analyse
//	mask        text -> key with literals replaced, so that drivers which inline
//	            values share one Plan
//	analyse     text -> parse tree (pg_query) -> one verdict a statement -> Plan
//	walker      the parse tree, node by node; a node type it does not know is
//	            not proved to be a read
//	utility     everything that is not SELECT, INSERT, UPDATE, DELETE or MERGE
//	hint, rules wishes of the text and of the operator, applied last
//
// A Plan is immutable and shared by all sessions; a Plans is safe for
// concurrent use. Facts about functions, operators, types and relations come
// from package catalog.
package router
