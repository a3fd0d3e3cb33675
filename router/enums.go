package router

// Class is what a statement does.
type Class uint8

const (
	ClassUnknown Class = iota // not proved to be anything else
	ClassRead
	ClassWrite
	ClassTx      // transaction control
	ClassSetting // changes settings only
	ClassEmpty
	classCount
)

var classNames = [classCount]string{"unknown", "read", "write", "transaction", "setting", "empty"}

func (c Class) String() string { return classNames[c] }

// Classes is how many classes there are; a Class indexes arrays of that length.
const Classes = int(classCount)

// Target is where a statement runs, or may run.
type Target uint8

const (
	TargetAny     Target = iota // any server, wherever the session is; none if it has none
	TargetReplica               // a replica may serve it
	TargetPrimary
	targetCount
)

var targetNames = [targetCount]string{"any", "replica", "primary"}

func (t Target) String() string { return targetNames[t] }

// Targets is how many targets there are; a Target indexes arrays of that length.
const Targets = int(targetCount)

// Route is an operator's or a session's wish.
type Route uint8

const (
	RouteAuto Route = iota
	RoutePrimary
	RouteReplica
	routeCount
)

var routeNames = [routeCount]string{"auto", "primary", "replica"}

func (r Route) String() string { return routeNames[r] }

// ParseRoute reads a Route as operators and sessions write it; empty is auto.
func ParseRoute(s string) (Route, bool) {
	if s == "" {
		return RouteAuto, true
	}
	for i, n := range routeNames {
		if n == s {
			return Route(i), true
		}
	}
	return RouteAuto, false
}

// Reason says why a statement runs where it does. It prints itself and is the
// metric label, the log field and the test's expectation.
type Reason uint8

const (
	ReasonNone Reason = iota
	// Of the statement alone.
	ReasonRead       // proved to be a read
	ReasonWrite      // INSERT, UPDATE, DELETE, MERGE, COPY FROM, data-modifying CTE
	ReasonDDL        // CREATE, ALTER, DROP, GRANT …
	ReasonRowLock    // FOR UPDATE and friends
	ReasonSelectInto // SELECT INTO
	ReasonFunction   // a function, operator or cast that is not safe on a replica
	ReasonUnknownFn  // a function the catalog does not know
	ReasonRelation   // a temporary, unlogged, foreign or otherwise unsafe relation
	ReasonUnknownRel // a relation the catalog does not know
	ReasonSequence   // nextval, currval, …
	ReasonLock       // advisory locks, LOCK TABLE
	ReasonSetting    // SET, RESET, set_config …
	ReasonUtility    // VACUUM, LISTEN, CALL, DO, …
	ReasonTx         // transaction control
	ReasonUnparsed   // PostgreSQL's parser refused it
	ReasonEmpty      // nothing to run
	ReasonHint       // a comment in the text
	ReasonRule       // a rule of the configuration
	ReasonLearned    // a replica refused it before
	ReasonNoCatalog  // the catalog was not read yet
	ReasonMulti      // several statements with transaction control among them
	// Of the session.
	ReasonRoute       // pgweir.route, or the user's or database's route
	ReasonTransaction // its transaction is there
	ReasonIsolation   // transaction modes that a standby does not take, or could not keep: REPEATABLE READ, SERIALIZABLE, READ WRITE
	ReasonCursor      // a cursor or a named portal in a transaction that may write
	ReasonPinned      // session state ties it to its server
	ReasonLarge       // a message of it is not kept, so a replica that failed it could not be replaced
	ReasonFunctionCall
	ReasonReplication
	// Of the servers.
	ReasonNoReplica // no replica can serve it
	ReasonFreshness // no replica was fresh enough in time
	ReasonPrimaryReads
	ReasonRetried // a replica failed it
	ReasonLocal   // the proxy answered
	ReasonShadow  // the configuration keeps all on the primary, and reports where it would run
	reasonCount
)

var reasonNames = [reasonCount]string{
	"none", "read", "write", "ddl", "row_lock", "select_into", "function", "unknown_function",
	"relation", "unknown_relation", "sequence", "lock", "setting", "utility", "transaction_control",
	"unparsed", "empty", "hint", "rule", "learned", "no_catalog", "multi",
	"route", "transaction", "isolation", "cursor", "pinned", "large", "function_call", "replication",
	"no_replica", "freshness", "primary_reads", "retried", "local", "shadow",
}

func (r Reason) String() string { return reasonNames[r] }

// Reasons is how many reasons there are; a Reason indexes arrays of that length.
const Reasons = int(reasonCount)
