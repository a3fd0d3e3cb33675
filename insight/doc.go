// Package insight says what an application does to its database: statistics of its
// statements, and patterns among them that cost more than they need to. It is told of
// statements as they end (Session.Ran); it asks nobody, knows no sockets and reads no SQL.
// What must be known of a text is found once, where its plan is made, and given as a Shape.
//
// A Book holds what is known of all sessions, in bounded memory: the statements
// (Statement), counted by atomic additions, and what was found among them. A Session holds
// what one client did since its transaction began, or since it last paused, and looks for
// patterns when that is over; it takes the Book's lock only if there are any.
//
// Nothing here ever holds a literal: texts come masked, parameters as a hash.
package insight
