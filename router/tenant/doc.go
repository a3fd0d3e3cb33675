// Package tenant judges whether a statement keeps to one tenant's rows.
//
// A tenant table is one with a tenant column, such as organization_id. A
// statement is filtered when every occurrence of every tenant table in it is
// bound to a tenant, by equalities that must hold for a row to matter to the
// result: with a constant, a parameter, current_setting, or the tenant column of an
// occurrence that is bound itself. What cannot be proved to be bound is missing
// its filter: "filtered" is never a guess.
//
// Judge works on parse trees and on what a Schema says of tables and views. It
// does no I/O, and its Finding is immutable, so that one can be kept for all
// sessions that send the statement.
package tenant
