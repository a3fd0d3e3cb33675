// Package catalog is what must be known of one database to classify a
// statement: an immutable snapshot of its functions, operators, types,
// relations and views. It knows SQL but no sockets; whoever loads it brings a
// function that runs a query.
//
// What a Fact rests on: pg_proc's volatility where nothing better is known;
// lists.txt for PostgreSQL's own functions and those of extensions; the source of
// users' functions (body.go); and the stored expression trees of views, policies,
// defaults, checks, indexes and triggers (queries.go). All of it is one graph, in
// which what is bad makes bad what depends on it (graph.go). What cannot be
// proved is bad: the price is a read on the primary, or a session tied to its server.
//
// Two things are beyond a snapshot: statements say more than the names in them
// (t.f may call f, JSON_TO_RECORD casts to the types of its column list), which the
// caller looks for; and what runs without any name is in Snapshot.Implicit.
package catalog

import (
	"context"

	"github.com/pgweir/pgweir/internal/setting"
)

// Fact is what is known of everything that bears one name. Overloads and equal
// names in several schemas are joined to the worst, so that neither argument
// types nor search_path can make a Fact wrong.
type Fact struct {
	Known   bool // at least one object bears the name
	Replica bool // nothing in it keeps it from a replica
	Clean   bool // proved to leave no session state behind but settings (temporary tables, session locks, …)
	// Touches are the custom settings it may set, Sets: it may set settings for the
	// session. If it is not clean it may set others as well.
	Touches setting.Names
	Sets    bool
	// Why says what keeps it off a replica, or why it is not clean, for people: "volatile", "nextval in view v".
	Why string
	// Reads and Writes are the tables that its use reads and writes, seen through views,
	// functions and all else the text does not name.
	Reads, Writes Footprint
}

// Relation is a table, view, sequence or index of one name.
type Relation struct {
	Fact
	// WriteClean: writing to it runs no trigger, default, check or rule that is not clean.
	// WriteTouches and WriteSets are what those may set.
	WriteClean   bool
	WriteTouches setting.Names
	WriteSets    bool
	// Changes are the tables that writing to it writes: itself and what triggers, rules and
	// foreign keys change.
	Changes Footprint
	// alone: it is a table that touches itself only, which is left out of the
	// footprints so that such tables share one fact.
	alone bool
	// Sequence, Temporary and so on need no fields of their own: Fact.Why tells.
}

// Query runs one query and hands every row over, values in text format (nil is
// NULL). The values are valid only during the call of row.
//
// Every query must go to the same database. No schema should come before
// pg_catalog in the connection's search_path.
type Query func(ctx context.Context, sql string, row func(values [][]byte) error) error
